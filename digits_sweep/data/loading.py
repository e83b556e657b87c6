"""The data sets, and how one is loaded. A new one is its code with a line in `DATASETS`, and a YAML in `conf/data`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from digits_sweep.config.schema import DataConfig
from digits_sweep.data.digits import Digits
from digits_sweep.data.mnist import load_mnist
from digits_sweep.data.sample import load_sample
from digits_sweep.errors import DataUnavailable

Report = Callable[[str], None]


@dataclass(frozen=True)
class DataSet:
    """How to load a data set, and how many images it has to train on and to test with, if known without loading it.

    `load` is called with the configuration and with what takes a line of text for the user. It raises `DataUnavailable`
    if the data set cannot be had.
    """

    load: Callable[[DataConfig, Report], Digits]
    train_samples: int | None = None
    test_samples: int | None = None


def _mnist(data: DataConfig, report: Report) -> Digits:
    return load_mnist(Path(data.root), data.mirrors, data.timeout_seconds, report)


DATASETS: dict[str, DataSet] = {
    "mnist": DataSet(_mnist, train_samples=60_000, test_samples=10_000),
    "mnist_sample": DataSet(lambda data, report: load_sample(), train_samples=4_000, test_samples=1_000),
}


def make_ready(data: DataConfig, report: Report) -> tuple[Digits, str | None]:
    """Load the data set that `data` asks for, downloading it if needed.

    If it is unavailable and `data.fallback` names another one, return that one and a text that says why; otherwise the
    second value is None. Raises `DataUnavailable` if there is no fallback.
    """
    try:
        return load(data, data.name, report), None
    except DataUnavailable as unavailable:
        if data.fallback is None:
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
