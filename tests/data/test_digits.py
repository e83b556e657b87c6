"""A data set as tensors: what a scale makes of a pixel, and what its digest distinguishes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from digits_sweep.data.digits import SCALES, Digits, scale

BLACK_AND_WHITE = {"unit": (0.0, 1.0), "standard": (-0.42421, 2.82149), "raw": (0.0, 255.0)}


def random_images(number: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (number, 28, 28), generator=random, dtype=torch.uint8)


def tensors() -> dict[str, Tensor]:
    return {
        "train_images": random_images(6),
        "train_labels": torch.arange(6),
        "test_images": random_images(3, seed=1),
        "test_labels": torch.arange(3),
    }


@pytest.mark.parametrize("how", SCALES)
def test_a_scale_has_its_own_black_and_white(how):
    black, white = scale(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1).expand(2, 28, 28), how)
    assert (black.unique().item(), white.unique().item()) == pytest.approx(BLACK_AND_WHITE[how], abs=1e-5)


@given(st.integers(0, 5), st.integers(0, 2**32), st.sampled_from(sorted(SCALES)), st.booleans())
def test_every_scale_keeps_every_pixel_where_it_is(number, seed, how, is_view):
    images = random_images(number, seed)
    images = images.transpose(1, 2) if is_view else images
    before = images.clone()
    scaled = scale(images, how)
    assert (scaled.shape, scaled.dtype, scaled.is_contiguous()) == ((number, 1, 28, 28), torch.float32, True)
    black, white = BLACK_AND_WHITE[how]
    pixels = (scaled.double() - black) / (white - black) * 255
    assert torch.equal(pixels.round().to(torch.uint8).squeeze(1), images)
    scaled.zero_()
    assert torch.equal(images, before)


def test_an_unknown_scale_is_refused_with_the_ones_there_are():
    with pytest.raises(ValueError, match=r"^scale=loud: choose unit or standard or raw$"):
        scale(random_images(1), "loud")


def test_the_same_digits_have_the_same_digest_under_any_name():
    digest = Digits.of("mnist", **tensors()).digest
    assert Digits.of("mnist_sample", **tensors()).digest == digest
    assert len(bytes.fromhex(digest)) == 32


@pytest.mark.parametrize("changed", tensors())
@pytest.mark.parametrize(
    "change", [lambda tensor: tensor.view(-1)[-1].add_(1), lambda tensor: tensor.copy_(tensor.flip(0))]
)
def test_a_value_changed_or_two_digits_swapped_change_the_digest(changed, change):
    others = tensors()
    change(others[changed])
    assert Digits.of("mnist", **others).digest != Digits.of("mnist", **tensors()).digest
