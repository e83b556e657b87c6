"""MNIST on disk: read where it is whole, else unpacked or fetched, never trained on where it is damaged.

The folder is laid out as torchvision lays it out, so that a folder that torchvision filled is used as it is.
"""

import errno
import gzip
import hashlib
import io
import re
import signal
import socket
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from http.client import HTTPException
from pathlib import Path
from traceback import clear_frames
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from digits_sweep.data.digits import Digits
from digits_sweep.data.torchvision_import import import_torchvision

# The four files unpacked: their shape, and their SHA-256.
FILES = {
    "train-images-idx3-ubyte": (
        (60_000, 28, 28),
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels-idx1-ubyte": ((60_000,), "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    "t10k-images-idx3-ubyte": (
        (10_000, 28, 28),
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels-idx1-ubyte": ((10_000,), "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
}

# A mirror that is never silent may still take for ever. At the usual 10 s this leaves it 5 minutes: 40 kB/s will do.
TIMEOUTS_PER_MIRROR = 30

# What `gzip` raises for an archive that is cut short, or holds a flipped bit.
DAMAGED_ARCHIVE = (gzip.BadGzipFile, EOFError, zlib.error)

# Errors of the disk, which no other mirror mends.
DISK_ERRORS = (errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EPERM, errno.EROFS)


class DataUnavailable(Exception):
    """The digits are not on disk and no mirror gave them. The text has a line for every mirror that was tried."""


class UnusableRoot(Exception):
    """The folder for the digits cannot be used. The text names it and says why."""


class _TooSlow(Exception):
    """No OSError: torchvision answers one of those on https by trying the whole archive again on http."""


def load_mnist(
    root: Path, mirrors: Sequence[str], timeout_seconds: float = 10.0, report: Callable[[str], None] = print
) -> Digits:
    """MNIST, 60,000 digits to train on and 10,000 to test with, from `root`; unpacked or fetched first where need be.

    `mirrors` are addresses of folders that hold the four archives (http, https or file), tried in turn; one that is
    silent for `timeout_seconds`, or not done after 30 times as long, is given up. `report` is told, a line each, what
    is done and what was found damaged. Processes that start together wait for the first one. Raises `DataUnavailable`
    where nothing works, `UnusableRoot` where the folder cannot be read or written, and `MismatchedTorchvision` where
    torchvision is needed and does not load.
    """
    raw = root / "MNIST" / "raw"
    try:
        contents = _contents(raw)
        if contents is None:
            raw.mkdir(parents=True, exist_ok=True)
            with _only_process(root, report):
                contents = _made_whole(raw, mirrors, timeout_seconds, report)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        why = f"{error.strerror or error}{where}; choose a folder that can be read and written"
        raise UnusableRoot(f"data.root={root}: {why}") from error
    shapes = [shape for shape, _ in FILES.values()]
    return Digits.of("mnist", *map(_tensor, contents, shapes))


def _tensor(content: bytes, shape: tuple[int, ...]) -> Tensor:
    """The values of an IDX file: images stay uint8, labels become int64."""
    header = 4 + 4 * len(shape)
    values = torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy())
    return values if len(shape) == 3 else values.long()


def _is_published(name: str, content: bytes) -> bool:
    return hashlib.sha256(content).hexdigest() == FILES[name][1]


def _whole(path: Path) -> bytes | None:
    """The file's content, or None where it is missing or differs from the published one by as little as a bit."""
    content = path.read_bytes() if path.exists() else b""
    return content if _is_published(path.name, content) else None


def _contents(raw: Path) -> list[bytes] | None:
    """The contents of the four files, or None where one of them is not whole."""
    contents = [content for name in FILES if (content := _whole(raw / name)) is not None]
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


def _made_whole(
    raw: Path, mirrors: Sequence[str], timeout_seconds: float, report: Callable[[str], None]
) -> list[bytes]:
    """Unpack what is packed, then try mirror after mirror; the contents of the four files."""
    for name in FILES:
        if (raw / name).exists() and _whole(raw / name) is None:
            report(f"{raw / name} is damaged: thrown away")
            (raw / name).unlink()
        if not (raw / name).exists() and (raw / f"{name}.gz").exists() and not _unpack(raw / f"{name}.gz"):
            report(f"{raw / name}.gz is damaged: thrown away")
            (raw / f"{name}.gz").unlink()
    contents = _contents(raw)
    failures = []
    for mirror in mirrors:
        if contents is None and (failure := _fetch(raw, mirror, timeout_seconds, report)):
            failures.append(f"{mirror}: {failure}")
            report(f"giving up {failures[-1]}")
        contents = contents or _contents(raw)
    if contents is None:
        why = "no mirror gave it:" if failures else "data.mirrors names no mirror"
        raise DataUnavailable("\n  ".join([f"MNIST is not in {raw}, and {why}", *failures]))
    return contents


def _unpack(archive: Path) -> bool:
    """Unpack an archive beside itself, unless it is damaged; whether it was whole."""
    unpacked = archive.with_suffix("")
    try:
        content = gzip.decompress(archive.read_bytes())
    except DAMAGED_ARCHIVE:
        return False
    if whole := _is_published(unpacked.name, content):
        unpacked.write_bytes(content)
    return whole


def _fetch(raw: Path, mirror: str, timeout_seconds: float, report: Callable[[str], None]) -> str | None:
    """Fetch from one mirror what is missing; why that failed, where it did. What is not whole is not kept."""
    fetch = {"file": _copy, "http": _download, "https": _download}.get(mirror.partition(":")[0].lower())
    if fetch is None:
        return "not an address that begins with https:, http: or file:"
    folder, seconds = mirror.rstrip("/") + "/", TIMEOUTS_PER_MIRROR * timeout_seconds
    try:
        with _at_most(seconds):
            for name in [name for name in FILES if not (raw / name).exists()]:
                report(f"fetching {folder}{name}.gz to {raw}")
                failure = fetch(raw, name, folder, timeout_seconds)
                if failure or _whole(raw / name) is None:
                    return failure or f"{name}.gz is corrupt"
        return None
    except _TooSlow:
        return f"not done after {seconds:g} s"
    finally:
        for name in FILES:
            if _whole(raw / name) is None:
                (raw / name).unlink(missing_ok=True)
                (raw / f"{name}.gz").unlink(missing_ok=True)


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise `_TooSlow` in a block that takes longer.

    torchvision's downloader can be interrupted by a signal only, so that there is no such limit in another thread than
    the main one, nor on Windows.
    """
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise _TooSlow

    handler = signal.signal(signal.SIGALRM, stop)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)


def _copy(raw: Path, name: str, folder: str, timeout_seconds: float) -> str | None:
    """Copy and unpack one archive, which torchvision's downloader cannot do from a file address; why not, where not."""
    archive = Path(url2pathname(urlsplit(folder).path)) / f"{name}.gz"
    try:
        content = archive.read_bytes()
    except OSError as error:
        return f"{error.strerror} for {name}.gz"
    (raw / archive.name).write_bytes(content)
    return None if _unpack(raw / archive.name) else f"{name}.gz is corrupt"


def _download(raw: Path, name: str, folder: str, timeout_seconds: float) -> str | None:
    """Fetch and unpack one archive with torchvision, which checks its md5; why not, where not.

    torchvision sets no time limit: it is set here. Its progress bar is shown on a terminal only.
    """
    mnist: Any = import_torchvision("torchvision.datasets").MNIST

    class OneArchive(mnist):
        """One archive of one mirror, so that what goes wrong has a name; unlike MNIST, nothing is read afterwards."""

        raw_folder = str(raw)

        def __init__(self) -> None:
            self.mirrors = [folder]
            self.resources = [(archive, md5) for archive, md5 in mnist.resources if archive == f"{name}.gz"]

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(timeout_seconds)
    try:
        with nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO()):
            OneArchive().download()
    except (OSError, RuntimeError, HTTPException, ValueError) as error:
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise
        # torchvision's frames keep the refused answers, whose connections would stay open.
        clear_frames(error.__traceback__)
        return _reason(error, name, timeout_seconds)
    finally:
        socket.setdefaulttimeout(before)
    return None


def _reason(error: Exception, name: str, timeout_seconds: float) -> str:
    """What went wrong, in few words. torchvision passes most errors on as text, after a heading of its own."""
    text = str(error).rpartition("got:\n")[2].strip()
    if isinstance(error, TimeoutError) or "timed out" in text:
        return f"no answer within {timeout_seconds:g} s"
    if text == "File not found or corrupted.":
        return f"{name}.gz is corrupt (md5 differs)"
    if refused := re.match(r"HTTP Error (\d+)", text):
        return f"HTTP {refused[1]} for {name}.gz"
    return re.sub(r"<urlopen error (?:\[Errno -?\d+\] )?(.*)>", r"\1", text) + f" for {name}.gz"
