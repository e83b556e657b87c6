"""MNIST on disk: read if it is intact, else unpacked or fetched; a corrupt file is never trained on.

The folder has torchvision's layout, so a folder that torchvision filled is used as it is.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from digits_sweep.data.archives import FILES, read_intact, unpack
from digits_sweep.data.digits import Digits
from digits_sweep.data.fetching import fetch
from digits_sweep.errors import DataUnavailable, UnusableRoot


def load_mnist(
    root: Path, mirrors: Sequence[str], timeout_seconds: float = 10.0, report: Callable[[str], None] = print
) -> Digits:
    """Load MNIST, 60,000 digits for training and 10,000 for testing, from `root`; unpack or fetch it first if needed.

    `mirrors` are addresses of folders that hold the four archives (http, https or file), tried in turn; one that is
    silent for `timeout_seconds`, or not done after 30 times as long, is given up. `report` gets a line for every
    action and for every corrupt file. Processes that start together wait for the first one. Raises `DataUnavailable`
    if every mirror fails, `UnusableRoot` if the folder cannot be read or written, and `MismatchedTorchvision` if
    torchvision is needed and does not load.
    """
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
    for name in FILES:
        if (raw / name).exists() and read_intact(raw / name) is None:
            report(f"{raw / name} is corrupt: deleted")
            (raw / name).unlink()
        if not (raw / name).exists() and (raw / f"{name}.gz").exists() and not unpack(raw / f"{name}.gz"):
            report(f"{raw / name}.gz is corrupt: deleted")
            (raw / f"{name}.gz").unlink()
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
