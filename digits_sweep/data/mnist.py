"""MNIST on disk: read if it is intact, else unpacked or fetched; a corrupt file is never trained on.

The folder has torchvision's layout, so a folder that torchvision filled is used as it is. It may hold files of others,
of FashionMNIST for example, which has the same names: nothing in it is replaced or deleted.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from digits_sweep.data.archives import FILES, holds_something_else, read_archive, read_intact
from digits_sweep.data.digits import Digits
from digits_sweep.data.fetching import fetch
from digits_sweep.data.placing import is_free, place, remove_leftovers, set_aside, workbench
from digits_sweep.errors import DataUnavailable, UnusableRoot


def load_mnist(
    root: Path, mirrors: Sequence[str], timeout_seconds: float = 10.0, report: Callable[[str], None] = print
) -> Digits:
    """Load MNIST, 60,000 digits for training and 10,000 for testing, from `root`; unpack or fetch it first if needed.

    `mirrors` are addresses of folders that hold the four archives (http, https or file), tried in turn; one that is
    silent for `timeout_seconds`, or not done after 30 times as long, is given up. `report` gets a line for every
    action and for every corrupt file, which is renamed. Processes that start together wait for the first one. Raises
    `DataUnavailable` if every mirror fails, `UnusableRoot` if the folder cannot be read or written or holds another
    data set under MNIST's names, and `MismatchedTorchvision` if torchvision is needed and does not load.
    """
    if root.parts[:1] and root.parts[0].startswith("~"):
        where = "choose another folder by data.root=... or by the environment variable DIGITS_SWEEP_DATA"
        raise UnusableRoot(f"data.root={root}: there is no home folder here (HOME); {where}")
    raw = root / "MNIST" / "raw"
    try:
        contents = _contents(raw)
        if contents is None:
            raw.mkdir(parents=True, exist_ok=True)
            with _only_process(root, report):
                contents = _obtain(raw, mirrors, timeout_seconds, report)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        why = f"{error.strerror or error}{where}; choose a folder that can be read and written"
        raise UnusableRoot(f"data.root={root}: {why}") from error
    shapes = [shape for shape, _ in FILES.values()]
    return Digits.of("mnist", *map(_tensor, contents, shapes))


def _tensor(content: bytes, shape: tuple[int, ...]) -> Tensor:
    """Return the values of an IDX file: images stay uint8, labels become int64."""
    header = 4 + 4 * len(shape)
    values = torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy())
    return values if len(shape) == 3 else values.long()


def _contents(raw: Path) -> list[bytes] | None:
    """Return the contents of the four files, or None if one of them is missing or corrupt."""
    contents = [content for name in FILES if (content := read_intact(raw / name)) is not None]
    return contents if len(contents) == len(FILES) else None


@contextmanager
def _only_process(root: Path, report: Callable[[str], None]) -> Iterator[None]:
    lock = FileLock(root / ".digits_sweep.lock")
    try:
        lock.acquire(timeout=0.1)
    except Timeout:
        report(f"waiting for another process that is downloading MNIST to {root}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _obtain(raw: Path, mirrors: Sequence[str], timeout_seconds: float, report: Callable[[str], None]) -> list[bytes]:
    """Unpack archives that are there, then try mirror after mirror; return the contents of the four files."""
    remove_leftovers(raw)
    for name in FILES:
        if not is_free(raw / name) and read_intact(raw / name) is None:
            _make_room(raw / name, report)
        if is_free(raw / name) and not is_free(raw / f"{name}.gz") and not _unpack(raw, name):
            _make_room(raw / f"{name}.gz", report)
    contents = _contents(raw)
    failures = []
    for mirror in mirrors:
        if contents is None and (failure := fetch(raw, mirror, timeout_seconds, report)):
            failures.append(f"{mirror}: {failure}")
            report(f"giving up {failures[-1]}")
        contents = contents or _contents(raw)
    if contents is None:
        why = "no mirror provided it:" if failures else "data.mirrors names no mirror"
        raise DataUnavailable("\n  ".join([f"MNIST is not in {raw}, and {why}", *failures]))
    return contents


def _unpack(raw: Path, name: str) -> bool:
    """Unpack the archive of a file beside it; return whether it is the published one."""
    content = read_archive(raw / f"{name}.gz")
    if content is None:
        return False
    with workbench(raw) as partial:
        (partial / name).write_bytes(content)
        place(partial / name, raw / name)
    return True


def _make_room(path: Path, report: Callable[[str], None]) -> None:
    """Rename a file that is of use to nobody. Raises `UnusableRoot` if it is intact: another program may read it."""
    if holds_something_else(path):
        what = "has MNIST's name and another content; move it away if nothing needs it, or choose another data.root"
        raise UnusableRoot(f"data.root={path.parents[2]}: {path} {what}")
    report(f"{path} is corrupt: kept as {set_aside(path).name}")
