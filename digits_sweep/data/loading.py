"""One sweep, one data set: which digits a configuration comes to, and the digits themselves."""

from collections.abc import Callable
from pathlib import Path

from digits_sweep.config.schema import DataConfig
from digits_sweep.data.digits import Digits
from digits_sweep.data.mnist import DataUnavailable, load_mnist
from digits_sweep.data.sample import load_sample


def make_ready(data: DataConfig, report: Callable[[str], None]) -> tuple[Digits, str | None]:
    """The digits that `data` asks for, downloaded where they must be, and why they are others, where they are.

    Where no mirror answers and `data.fallback` allows it, these are the embedded sample's and the second value says
    so. Raises `DataUnavailable` where it does not allow it.
    """
    try:
        return load(data, data.name, report), None
    except DataUnavailable as unavailable:
        if data.fallback is None:
            raise
        return load(data, data.fallback, report), f"{data.name} could not be had: {unavailable}"


def load(data: DataConfig, name: str, report: Callable[[str], None]) -> Digits:
    """The data set `name`, read from where `data` says. Read once a process: runs of one sweep share it.

    Raises `DataUnavailable` where no data set has that name: it may come from a file.
    """
    if name not in LOADERS:
        raise DataUnavailable(f"no data set is called {name}")
    key = (name, data.root)
    if key not in _loaded:
        _loaded[key] = LOADERS[name](data, report)
    return _loaded[key]


LOADERS: dict[str, Callable[[DataConfig, Callable[[str], None]], Digits]] = {
    "mnist": lambda data, report: load_mnist(Path(data.root).expanduser(), data.mirrors, data.timeout_seconds, report),
    "mnist_sample": lambda data, report: load_sample(),
}

_loaded: dict[tuple[str, str], Digits] = {}
