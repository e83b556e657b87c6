"""A data set as tensors: what a scale makes of a pixel, and what its digest distinguishes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from digits_sweep.data.digits import SCALES, Digits, scale

WHAT_BLACK_AND_WHITE_BECOME = {"unit": (0.0, 1.0), "standard": (-0.42421, 2.82149), "raw": (0.0, 255.0)}


def images(number: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (number, 28, 28), generator=random, dtype=torch.uint8)


def some_digits() -> dict[str, Tensor]:
    return {
        "train_images": images(6),
        "train_labels": torch.arange(6),
        "test_images": images(3, seed=1),
        "test_labels": torch.arange(3),
    }


def test_there_is_a_case_here_for_every_scale():
    assert set(WHAT_BLACK_AND_WHITE_BECOME) == set(SCALES)


@pytest.mark.parametrize(("how", "expected"), WHAT_BLACK_AND_WHITE_BECOME.items())
def test_a_scale_has_its_own_black_and_white(how, expected):
    black, white = scale(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1).expand(2, 28, 28), how)
    assert (black.unique().item(), white.unique().item()) == pytest.approx(expected, abs=1e-5)


@given(number=st.integers(0, 5), seed=st.integers(0, 2**32), how=st.sampled_from(sorted(SCALES)))
def test_every_scale_keeps_every_pixel_in_its_place_and_in_its_order(number, seed, how):
    given_images = images(number, seed)
    scaled = scale(given_images, how)
    assert scaled.shape == (number, 1, 28, 28)
    assert scaled.dtype == torch.float32
    assert scaled.is_contiguous()
    black, white = WHAT_BLACK_AND_WHITE_BECOME[how]
    back = (scaled.double() - black) / (white - black) * 255
    assert torch.equal(back.round().to(torch.uint8).squeeze(1), given_images)


def test_a_view_that_is_not_contiguous_comes_out_contiguous():
    assert scale(images(4).transpose(1, 2), "raw").is_contiguous()


def test_scaling_leaves_the_digits_as_they_are():
    given_images = images(3)
    scale(given_images, "raw").zero_()
    assert torch.equal(given_images, images(3))


def test_an_unknown_scale_is_refused_with_the_ones_there_are():
    with pytest.raises(ValueError, match=r"^scale=loud: choose unit or standard or raw$"):
        scale(images(1), "loud")


def test_the_same_digits_have_the_same_digest_under_any_name():
    digest = Digits.of("mnist", **some_digits()).digest
    assert Digits.of("mnist_sample", **some_digits()).digest == digest
    assert len(bytes.fromhex(digest)) == 32


@pytest.mark.parametrize("changed", some_digits())
def test_one_value_changed_anywhere_changes_the_digest(changed):
    tensors = some_digits()
    tensors[changed].view(-1)[-1] += 1
    assert Digits.of("mnist", **tensors).digest != Digits.of("mnist", **some_digits()).digest


def test_two_digits_swapped_change_the_digest():
    swapped = some_digits()
    swapped["train_images"] = swapped["train_images"].flip(0)
    assert Digits.of("mnist", **swapped).digest != Digits.of("mnist", **some_digits()).digest


def test_a_data_set_cannot_be_changed_under_a_run_that_uses_it():
    with pytest.raises(AttributeError):
        Digits.of("mnist", **some_digits()).train_labels = torch.zeros(6)
