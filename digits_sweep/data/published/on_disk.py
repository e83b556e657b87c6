"""A published data set on disk: read if it is intact, else unpacked or fetched; a corrupt file is never trained on.

The folder has torchvision's layout, so a folder that torchvision filled is used as it is. It may hold files of others,
of FashionMNIST in MNIST's place for example, which has the same names: nothing in it is replaced or deleted.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from digits_sweep.data.digits import Digits
from digits_sweep.data.published.archives import (
    Published,
    archive_of,
    holds_something_else,
    is_intact,
    read_archive,
    read_contents,
)
from digits_sweep.data.published.fetching import fetch
from digits_sweep.data.published.placing import is_free, place, remove_leftovers, set_aside, workbench
from digits_sweep.errors import DataUnavailable, UnusableRoot


def load_published(
    published: Published,
    root: Path,
    mirrors: Sequence[str] | None,
    timeout_seconds: float,
    report: Callable[[str], None],
) -> Digits:
    """Load a published data set from `root`; unpack or fetch it first if needed.

    `mirrors` are addresses of folders that hold the archives (http, https or file), tried in turn; None takes the data
    set's own. One that is silent for `timeout_seconds`, or not done after 30 times as long, is given up. `report` gets
    a line for every action and for every corrupt file, which is renamed. Processes that start together wait for the
    first one. Raises `DataUnavailable` if every mirror fails, and `UnusableRoot` if the folder cannot be read or
    written or holds another data set under these names.
    """
    if root.parts[:1] and root.parts[0].startswith("~"):
        where = "choose another folder by data.root=... or by the environment variable DIGITS_SWEEP_DATA"
        raise UnusableRoot(f"data.root={root}: there is no home folder here (HOME); {where}")
    raw = root / published.title / "raw"
    try:
        contents = read_contents(published, raw)
        if contents is None:
            raw.mkdir(parents=True, exist_ok=True)
            with _only_process(root, published.title, report):
                tried = published.mirrors if mirrors is None else mirrors
                contents = _obtain(published, raw, tried, timeout_seconds, report)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        why = f"{error.strerror or error}{where}; choose a folder that can be read and written"
        raise UnusableRoot(f"data.root={root}: {why}") from error
    train_images, train_labels, test_images, test_labels = (_tensor(published, content) for content in contents)
    return Digits.of(published.name, train_images, train_labels, test_images, test_labels)


# The types of an IDX file, by its third byte.
TYPES = {0x08: "u1", 0x0C: ">i4"}


def _tensor(published: Published, content: bytes | bytearray) -> Tensor:
    """Return the values of an IDX file: images stay uint8, labels become int64 from 0.

    If there are several numbers for every label, the first is its class.
    """
    kind, dimensions = content[2], content[3]
    header = 4 + 4 * dimensions
    shape = [int.from_bytes(content[place : place + 4], "big") for place in range(4, header, 4)]
    values = np.frombuffer(content, TYPES[kind], offset=header).reshape(shape)
    if dimensions == 3:
        images = torch.from_numpy(values if values.flags.writeable else values.copy())
        return images.transpose(1, 2).contiguous() if published.transposed else images
    labels = values.reshape(len(values), -1)[:, 0]
    return torch.from_numpy(labels.astype(np.int64)) - published.first_label


@contextmanager
def _only_process(root: Path, title: str, report: Callable[[str], None]) -> Iterator[None]:
    lock = FileLock(root / ".digits_sweep.lock")
    try:
        lock.acquire(timeout=0.1)
    except Timeout:
        report(f"waiting for another process that is downloading {title} to {root}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _obtain(
    published: Published, raw: Path, mirrors: Sequence[str], timeout_seconds: float, report: Callable[[str], None]
) -> Sequence[bytes | bytearray]:
    """Unpack archives that are there, then try mirror after mirror; return the contents of the four parts."""
    remove_leftovers(raw)
    for name in published.files:
        archive = raw / archive_of(name)
        if not is_free(raw / name) and not is_intact(published, raw / name):
            _make_room(published, raw / name, report)
        if is_free(raw / name) and not is_free(archive) and not _unpack(published, archive, name):
            _make_room(published, archive, report)
    contents = read_contents(published, raw)
    failures = []
    for mirror in mirrors:
        if contents is None and (failure := fetch(published, raw, mirror, timeout_seconds, report)):
            failures.append(f"{mirror}: {failure}")
            report(f"giving up {failures[-1]}")
        contents = contents or read_contents(published, raw)
    if contents is None:
        why = "no mirror provided it:" if failures else "data.mirrors names no mirror"
        raise DataUnavailable("\n  ".join([f"{published.title} is not in {raw}, and {why}", *failures]))
    return contents


def _unpack(published: Published, archive: Path, name: str) -> bool:
    """Unpack the archive of a file beside it; return whether it is the published one."""
    content = read_archive(published, archive)
    if content is None:
        return False
    with workbench(archive.parent) as partial:
        (partial / name).write_bytes(content)
        place(partial / name, archive.with_name(name))
    return True


def _make_room(published: Published, path: Path, report: Callable[[str], None]) -> None:
    """Rename a file that is of use to nobody. Raises `UnusableRoot` if it is intact: another program may read it."""
    if holds_something_else(path):
        what = "move it away if nothing needs it, or choose another data.root"
        found = f"{path} has {published.title}'s name and another content"
        raise UnusableRoot(f"data.root={path.parents[2]}: {found}; {what}")
    report(f"{path} is corrupt: kept as {set_aside(path).name}")
