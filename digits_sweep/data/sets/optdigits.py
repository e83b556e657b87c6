"""1,797 real digits of 8 x 8 pixels that come with scikit-learn: the test set of optdigits, by 13 writers."""

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
