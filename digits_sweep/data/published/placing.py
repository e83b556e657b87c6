"""Bringing files into a folder that others use too: nothing that lies there is replaced or deleted."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from tempfile import TemporaryDirectory

# What a killed process leaves: folders with names that begin so are this program's own.
WORKBENCH = ".digits_sweep_download_"


@contextmanager
def workbench(folder: Path) -> Iterator[Path]:
    """Make a folder in `folder` for files that are not ready; it is removed after the block, with what is in it."""
    with TemporaryDirectory(prefix=WORKBENCH, dir=folder, ignore_cleanup_errors=True) as name:
        yield Path(name)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left in `folder`. No other process may have a workbench there."""
    for leftover in folder.glob(f"{WORKBENCH}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def is_free(path: Path) -> bool:
    """Return whether nothing has the name `path`, not even a link to nowhere."""
    return not os.path.lexists(path)


def place(ready: Path, path: Path) -> None:
    """Give a file that is ready its name `path`, unless something has it."""
    if is_free(path):
        ready.rename(path)


def set_aside(path: Path) -> Path:
    """Rename `path` to a name that is free, and return that."""
    names = (path.with_name(f"{path.name}.corrupt{number}") for number in chain([""], map("-{}".format, count(2))))
    aside = next(filter(is_free, names))
    path.rename(aside)
    return aside
