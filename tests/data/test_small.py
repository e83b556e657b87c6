"""The data sets that come with a package: the sample of MNIST's digits, and scikit-learn's 1,797."""

import pytest
import torch
from torch import Tensor

from digits_sweep.data.digits import Digits
from digits_sweep.data.loading import load_optdigits, load_sample
from tests.mirror import load_mnist


@pytest.fixture(scope="module")
def sample() -> Digits:
    return load_sample()


def labels_of(images: Tensor, labels: Tensor) -> dict[bytes, int]:
    return {image.numpy().tobytes(): label for image, label in zip(images, labels.tolist(), strict=True)}


def test_the_sample_is_the_same_on_every_machine_and_in_every_version(sample):
    assert sample.name == "mnist_sample"
    assert sample.digest == "1adea2bf696df09fb537ae9fc206f06148e1418f4056078698956974c05e9c65"


def test_the_sample_has_of_every_class_400_digits_to_train_on_and_100_others_to_test_with(sample):
    assert (sample.train_images.shape, sample.test_images.shape) == ((4_000, 28, 28), (1_000, 28, 28))
    assert sample.train_labels.bincount().tolist() == [400] * 10
    assert sample.test_labels.bincount().tolist() == [100] * 10
    train, test = (labels_of(images, torch.zeros(len(images))) for images in (sample.train_images, sample.test_images))
    assert not train.keys() & test.keys()


@pytest.mark.full
def test_every_digit_of_the_sample_is_one_of_mnists_with_its_own_label(sample, mnist_root):
    mnist = load_mnist(mnist_root)
    published = labels_of(mnist.train_images, mnist.train_labels) | labels_of(mnist.test_images, mnist.test_labels)
    for part in (
        labels_of(sample.train_images, sample.train_labels),
        labels_of(sample.test_images, sample.test_labels),
    ):
        assert part.items() <= published.items()


def test_optdigits_are_scikit_learns_in_its_order_four_fifths_to_train_on():
    from sklearn.datasets import load_digits

    digits, theirs = load_optdigits(), load_digits()
    images = torch.cat([digits.train_images, digits.test_images])
    assert torch.equal((images.double() * 16 / 255).round(), torch.from_numpy(theirs.images))
    assert torch.cat([digits.train_labels, digits.test_labels]).tolist() == theirs.target.tolist()
    assert (len(digits.train_labels), len(digits.test_labels)) == (1_437, 360)
    assert (digits.train_images.max(), digits.image_shape, digits.num_classes) == (255, (1, 8, 8), 10)
    assert digits.train_labels.bincount().min() >= 140
    assert digits.test_labels.bincount().min() >= 30
    assert digits.digest == "eaa9834de03c5a5ab5b2e0d1d7b16b2f02b453c1871a3a71f8b2a016964dfb4d"
