"""The embedded sample: real digits of MNIST, always the same, those for testing apart from those for training."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from digits_sweep.data.digits import Digits
from digits_sweep.data.published import load_mnist
from digits_sweep.data.small import load_sample


@pytest.fixture(scope="module")
def sample() -> Digits:
    return load_sample()


def as_set(images: Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


def test_it_says_that_it_is_the_sample(sample):
    assert sample.name == "mnist_sample"


def test_it_has_4000_digits_to_train_on_and_1000_to_test_with(sample):
    assert sample.train_images.shape == (4_000, 28, 28)
    assert sample.test_images.shape == (1_000, 28, 28)
    assert sample.train_images.dtype == sample.test_images.dtype == torch.uint8


def test_every_class_has_400_digits_to_train_on_and_100_to_test_with(sample):
    assert sample.train_labels.bincount().tolist() == [400] * 10
    assert sample.test_labels.bincount().tolist() == [100] * 10
    assert sample.train_labels.dtype == sample.test_labels.dtype == torch.int64


def test_pixels_use_the_whole_range_from_black_to_white(sample):
    assert sample.train_images.aminmax() == (0, 255)


def test_no_digit_is_both_trained_on_and_tested_with(sample):
    assert not as_set(sample.train_images) & as_set(sample.test_images)


def test_the_split_is_the_same_on_every_machine_and_in_every_version(sample):
    assert sample.digest == "1adea2bf696df09fb537ae9fc206f06148e1418f4056078698956974c05e9c65"


@pytest.mark.full
def test_every_digit_is_one_of_mnists_with_its_own_label(sample, mnist_root: Path):
    mnist = load_mnist(mnist_root, mirrors=[])
    images = torch.cat([mnist.train_images, mnist.test_images])
    labels = torch.cat([mnist.train_labels, mnist.test_labels]).tolist()
    label_of = {image.numpy().tobytes(): label for image, label in zip(images, labels, strict=True)}
    for image, label in zip(
        torch.cat([sample.train_images, sample.test_images]),
        torch.cat([sample.train_labels, sample.test_labels]).tolist(),
        strict=True,
    ):
        assert label_of[image.numpy().tobytes()] == label
