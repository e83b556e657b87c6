"""The 1,797 digits that come with scikit-learn."""

import torch

from digits_sweep.data.small import load_optdigits


def test_they_are_scikit_learns_in_its_order_four_fifths_to_train_on():
    from sklearn.datasets import load_digits

    digits, theirs = load_optdigits(), load_digits()
    images = torch.cat([digits.train_images, digits.test_images])
    assert torch.equal((images.double() * 16 / 255).round(), torch.from_numpy(theirs.images))
    assert torch.cat([digits.train_labels, digits.test_labels]).tolist() == theirs.target.tolist()
    assert (len(digits.train_labels), len(digits.test_labels)) == (1_437, 360)
    assert (digits.train_images.dtype, int(digits.train_images.max())) == (torch.uint8, 255)
    assert (digits.train_labels.dtype, digits.image_shape, digits.num_classes) == (torch.int64, (1, 8, 8), 10)


def test_every_digit_is_in_both_parts():
    digits = load_optdigits()
    assert digits.train_labels.bincount().min() >= 140
    assert digits.test_labels.bincount().min() >= 30
