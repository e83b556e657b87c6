"""The data sets, and how one is loaded. A new one is its code with a line in `DATASETS`, and a YAML in `conf/data`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from digits_sweep.config.schema import DataConfig, OwnDataConfig
from digits_sweep.data import published as mnist
from digits_sweep.data.digits import Digits
from digits_sweep.data.own import load_own, name_of_own
from digits_sweep.data.published import Published, load_published
from digits_sweep.data.small import load_optdigits, load_sample
from digits_sweep.errors import DataUnavailable

Report = Callable[[str], None]


@dataclass(frozen=True)
class DataSet:
    """How to load a data set; how many images it has to train on and to test with, if known without loading it.

    `load` is called with the configuration and with what takes a line of text for the user. It raises `DataUnavailable`
    if the data set cannot be had. `image_shape` is the shape of one image as a network sees it; None if only loading
    tells it, and with it whether images are uint8.
    `replaceable` says whether `data.fallback` may take its place.
    """

    load: Callable[[Any, Report], Digits]
    train_samples: int | None = None
    test_samples: int | None = None
    image_shape: tuple[int, ...] | None = (1, 28, 28)
    replaceable: bool = True


def _published(published: Published, train_samples: int, test_samples: int) -> DataSet:
    def load(data: DataConfig, report: Report) -> Digits:
        return load_published(published, Path(data.root), data.mirrors, data.timeout_seconds, report)

    # The fallback holds digits of MNIST's.
    return DataSet(load, train_samples, test_samples, replaceable=published is mnist.MNIST)


DATASETS: dict[str, DataSet] = {
    "mnist": _published(mnist.MNIST, train_samples=60_000, test_samples=10_000),
    "mnist_sample": DataSet(lambda data, report: load_sample(), train_samples=4_000, test_samples=1_000),
    "optdigits": DataSet(
        lambda data, report: load_optdigits(), train_samples=1_437, test_samples=360, image_shape=(1, 8, 8)
    ),
    "fashion_mnist": _published(mnist.FASHION_MNIST, train_samples=60_000, test_samples=10_000),
    "kmnist": _published(mnist.KMNIST, train_samples=60_000, test_samples=10_000),
    "qmnist": _published(mnist.QMNIST, train_samples=60_000, test_samples=60_000),
    "emnist_digits": _published(mnist.EMNIST_DIGITS, train_samples=240_000, test_samples=40_000),
    "emnist_letters": _published(mnist.EMNIST_LETTERS, train_samples=124_800, test_samples=20_800),
    "own": DataSet(load_own, image_shape=None, replaceable=False),
}


def name_of(data: DataConfig) -> str:
    """Return what the data set that `data` asks for is called in records; of the user's own it says which."""
    return name_of_own(data) if isinstance(data, OwnDataConfig) else data.name


def images_of(data: DataConfig) -> tuple[tuple[int, ...], bool]:
    """Return the shape of one image as a network sees it, and whether images are not uint8; load only if needed."""
    if (shape := DATASETS[data.name].image_shape) is not None:
        return shape, False
    digits = load(data, name_of(data), lambda line: None)
    return digits.image_shape, digits.is_float


def make_ready(data: DataConfig, report: Report) -> tuple[Digits, str | None]:
    """Load the data set that `data` asks for, downloading it if needed.

    If it is unavailable and `data.fallback` names another one, return that one and a text that says why; otherwise the
    second value is None. Raises `DataUnavailable` if there is no fallback, or if it may not take the data set's place.
    """
    try:
        return load(data, name_of(data), report), None
    except DataUnavailable as unavailable:
        if data.fallback is None or not DATASETS[data.name].replaceable:
            raise
        return load(data, data.fallback, report), f"{data.name} is unavailable: {unavailable}"


def load(data: DataConfig, name: str, report: Report) -> Digits:
    """Load the data set `name` from where `data` says. It is read once per process: the runs of a sweep share it.

    Raises `DataUnavailable` if no data set has that name, which may come from a file: only if `data` itself asks for
    the user's own, that is called.
    """
    is_own = isinstance(data, OwnDataConfig) and name == name_of(data)
    if not is_own and (name not in DATASETS or DATASETS[name].load is load_own):
        raise DataUnavailable(f"there is no data set {name}; choose {' or '.join(DATASETS)}")
    key = (name, data.root)
    if key not in _loaded:
        _loaded[key] = DATASETS[data.name if is_own else name].load(data, report)
    return _loaded[key]


def changed(data: DataConfig, name: str) -> str:
    """Return the line that says that a data set is another one than before."""
    if name == name_of(data) and isinstance(data, OwnDataConfig):
        return f"data.target={data.target}: gives other data than when this sweep started"
    return f"{name} in data.root={data.root} is not what this sweep started with"


_loaded: dict[tuple[str, str], Digits] = {}
