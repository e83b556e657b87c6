"""The data sets, and how one is loaded. A new one is its code with a line in `DATASETS`, and a YAML in `conf/data`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from digits_sweep.config.schema import DataConfig
from digits_sweep.data import mnist
from digits_sweep.data.archives import Published
from digits_sweep.data.digits import Digits
from digits_sweep.data.on_disk import load_published
from digits_sweep.data.optdigits import load_optdigits
from digits_sweep.data.sample import load_sample
from digits_sweep.errors import DataUnavailable

Report = Callable[[str], None]


@dataclass(frozen=True)
class DataSet:
    """How to load a data set; how many images it has to train on and to test with, if known without loading it.

    `load` is called with the configuration and with what takes a line of text for the user. It raises `DataUnavailable`
    if the data set cannot be had. `image_shape` is the shape of one image as a network sees it.
    `replaceable` says whether `data.fallback` may take its place.
    """

    load: Callable[[DataConfig, Report], Digits]
    train_samples: int | None = None
    test_samples: int | None = None
    image_shape: tuple[int, ...] = (1, 28, 28)
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
}


def make_ready(data: DataConfig, report: Report) -> tuple[Digits, str | None]:
    """Load the data set that `data` asks for, downloading it if needed.

    If it is unavailable and `data.fallback` names another one, return that one and a text that says why; otherwise the
    second value is None. Raises `DataUnavailable` if there is no fallback, or if it may not take the data set's place.
    """
    try:
        return load(data, data.name, report), None
    except DataUnavailable as unavailable:
        if data.fallback is None or not DATASETS[data.name].replaceable:
            raise
        return load(data, data.fallback, report), f"{data.name} is unavailable: {unavailable}"


def load(data: DataConfig, name: str, report: Report) -> Digits:
    """Load the data set `name` from where `data` says. It is read once per process: the runs of a sweep share it.

    Raises `DataUnavailable` if no data set has that name, which may come from a file.
    """
    if name not in DATASETS:
        raise DataUnavailable(f"there is no data set {name}; choose {' or '.join(DATASETS)}")
    key = (name, data.root)
    if key not in _loaded:
        _loaded[key] = DATASETS[name].load(data, report)
    return _loaded[key]


_loaded: dict[tuple[str, str], Digits] = {}
