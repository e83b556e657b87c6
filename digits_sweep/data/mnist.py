"""MNIST on disk: read where it is whole, else unpacked or downloaded, never trained on where it is damaged.

The folder is laid out as torchvision lays it out, so that a folder that torchvision filled is used as it is.
"""

import gzip
import hashlib
import io
import socket
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import torch
from filelock import FileLock, Timeout

from digits_sweep.data.digits import Digits
from digits_sweep.data.torchvision_import import import_torchvision

# The four files unpacked: their header's length in bytes, their shape, and their SHA-256.
FILES = {
    "train-images-idx3-ubyte": (
        16,
        (60_000, 28, 28),
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels-idx1-ubyte": (8, (60_000,), "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    "t10k-images-idx3-ubyte": (
        16,
        (10_000, 28, 28),
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels-idx1-ubyte": (8, (10_000,), "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
}

# What `gzip` raises for an archive that is cut short, or holds a flipped bit.
DAMAGED_ARCHIVE = (gzip.BadGzipFile, EOFError, zlib.error)


class DataUnavailable(Exception):
    """The digits are not on disk and no mirror gave them. The text says what was tried and what came of it."""


class UnusableRoot(Exception):
    """The folder for the digits cannot be used. The text names it and says why."""


def load_mnist(root: Path, mirrors: Sequence[str], timeout_seconds: float, report: Callable[[str], None]) -> Digits:
    """MNIST from `root`, unpacked or downloaded first where that is needed.

    `mirrors` are addresses of folders that hold the four archives (http, https or file), tried in turn; one that is
    silent for `timeout_seconds` is given up. `report` is told, a line each, what is done and what was found damaged.
    Processes that start together wait for the first one. Raises `DataUnavailable` where nothing works, `UnusableRoot`
    where the folder cannot be written, and `MismatchedTorchvision` where torchvision is needed and does not load.
    """
    raw = root / "MNIST" / "raw"
    try:
        contents = {name: _whole(raw / name) for name in FILES}
        if None in contents.values():
            raw.mkdir(parents=True, exist_ok=True)
            with _only_process(root, report):
                _make_whole(raw, mirrors, timeout_seconds, report)
            contents = {name: _whole(raw / name) for name in FILES}
    except OSError as error:
        raise UnusableRoot(
            f"data.root={root}: {error.strerror or error}; choose a folder that can be written"
        ) from error
    tensors = [_tensor(name, content) for name, content in contents.items() if content is not None]
    return Digits.of("mnist", *tensors)


def _tensor(name: str, content: bytes) -> torch.Tensor:
    header, shape, _ = FILES[name]
    values = torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy())
    return values if "images" in name else values.long()


def _whole(path: Path) -> bytes | None:
    """The file's content, or None where it is missing or differs from the published one by as little as a bit."""
    content = path.read_bytes() if path.exists() else b""
    return content if hashlib.sha256(content).hexdigest() == FILES[path.name][2] else None


@contextmanager
def _only_process(root: Path, report: Callable[[str], None]) -> Iterator[None]:
    lock = FileLock(root / ".digits_sweep.lock")
    try:
        lock.acquire(timeout=0.1)
    except Timeout:
        report(f"waiting for another process that makes MNIST ready in {root}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _make_whole(raw: Path, mirrors: Sequence[str], timeout_seconds: float, report: Callable[[str], None]) -> None:
    """Unpack what is packed, then try mirror after mirror until all four files are whole."""
    for name in FILES:
        if (raw / name).exists() and _whole(raw / name) is None:
            report(f"{raw / name} is damaged: thrown away")
            (raw / name).unlink()
    _unpack(raw, report)
    failures = []
    for mirror in mirrors:
        if all((raw / name).exists() for name in FILES):
            return
        report(f"fetching MNIST from {mirror} to {raw}")
        fetch = _copy if mirror.startswith("file:") else _download
        if failure := fetch(raw, mirror.rstrip("/") + "/", timeout_seconds):
            failures.append(f"{mirror}: {failure}")
            report(f"  gave up: {failure}")
    if not all((raw / name).exists() for name in FILES):
        raise DataUnavailable(f"MNIST is not in {raw}, and " + ("; ".join(failures) or "data.mirrors names no mirror"))


def _unpack(raw: Path, report: Callable[[str], None]) -> None:
    """Unpack every archive whose content is missing; one that is damaged is thrown away."""
    for name in FILES:
        archive = raw / f"{name}.gz"
        if (raw / name).exists() or not archive.exists():
            continue
        try:
            (raw / name).write_bytes(gzip.decompress(archive.read_bytes()))
        except DAMAGED_ARCHIVE:
            (raw / name).unlink(missing_ok=True)
        if _whole(raw / name) is None:
            report(f"{archive} is damaged: thrown away")
            archive.unlink()
            (raw / name).unlink(missing_ok=True)


def _copy(raw: Path, mirror: str, timeout_seconds: float) -> str | None:
    """Copy and unpack what is missing from a folder, which torchvision's downloader cannot do; why not, where not."""
    folder = Path(url2pathname(urlsplit(mirror).path))
    try:
        for name in FILES:
            if not (raw / name).exists():
                (raw / name).write_bytes(gzip.decompress((folder / f"{name}.gz").read_bytes()))
    except FileNotFoundError as error:
        return f"{error.filename} does not exist"
    except DAMAGED_ARCHIVE:
        (raw / name).unlink(missing_ok=True)
        return f"{name}.gz is damaged"
    return _throw_damaged_away(raw)


def _download(raw: Path, mirror: str, timeout_seconds: float) -> str | None:
    """Fetch what is missing from one mirror with torchvision, which checks every archive's md5; why not, where not.

    torchvision sets no time limit and leaves a damaged archive where it is: both are mended here. Its progress bar is
    shown on a terminal only.
    """
    torchvision_mnist = import_torchvision("torchvision.datasets").MNIST
    # The class's name is the folder's name.
    one_mirror = type("MNIST", (torchvision_mnist,), {"mirrors": [mirror]})
    quiet = nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO())
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(timeout_seconds)
    failure = None
    try:
        with quiet:
            one_mirror(raw.parent.parent, download=True)
    except TimeoutError:
        failure = f"silent for {timeout_seconds:g} s"
    except (OSError, RuntimeError, HTTPException) as error:
        failure = " ".join(str(error).split()).replace(f" Tried {mirror}, got:", "")
    finally:
        socket.setdefaulttimeout(before)
    return failure or _throw_damaged_away(raw)


def _throw_damaged_away(raw: Path) -> str | None:
    damaged = [name for name in FILES if (raw / name).exists() and _whole(raw / name) is None]
    for name in damaged:
        (raw / name).unlink()
        (raw / f"{name}.gz").unlink(missing_ok=True)
    return f"{', '.join(damaged)} came damaged" if damaged else None
