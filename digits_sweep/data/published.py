"""Published archives: fetched from a mirror, checked by their digest, kept and unpacked; and the data sets of them."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import math
import os
import re
import shutil
import signal
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from importlib.metadata import version
from itertools import chain, count
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, url2pathname, urlopen

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from digits_sweep.data.digits import Digits
from digits_sweep.errors import DataUnavailable, MismatchedTorchvision, UnusableRoot


def import_torchvision(module: str = "torchvision") -> ModuleType:
    """Import `torchvision`, or a module of it.

    Raises `MismatchedTorchvision` if it is missing or its compiled operators do not load, for example if torch is a CPU
    build and torchvision was built for another one (`operator torchvision::nms does not exist`).
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != "torchvision":
            raise
        raise MismatchedTorchvision("torchvision is not installed; pip install torch torchvision") from error
    except (ImportError, RuntimeError) as error:
        raise MismatchedTorchvision(
            f"torch {version('torch')} and torchvision {version('torchvision')} do not work together ({error}); "
            "install both from the same place: pip install --force-reinstall torch torchvision"
        ) from error


# A mirror that is never silent may still never finish. With the default timeout of 10 s it has 5 minutes for a data set
# of up to BYTES_PER_MIRROR bytes, and for a larger one as much more: 120 kB/s suffice.
TIMEOUTS_PER_MIRROR, BYTES_PER_MIRROR = 30, 2**25


class _TooSlow(Exception):
    """Not an OSError: it is the end of the whole mirror."""


def fetch(
    published: Published, raw: Path, mirror: str, timeout_seconds: float, report: Callable[[str], None]
) -> str | None:
    """Fetch the missing files of a data set from one mirror; return why that failed, or None.

    Nothing in `raw` is replaced: an archive is fetched and unpacked in a folder of its own there, and moved to its
    place if it is intact and the place is free.
    """
    fetch_one = {"file": _copy, "http": _download, "https": _download}.get(mirror.partition(":")[0].lower())
    if fetch_one is None:
        return "not an address that starts with https:, http: or file:"
    folder = mirror.rstrip("/") + "/"
    seconds = TIMEOUTS_PER_MIRROR * timeout_seconds * published.most_bytes / BYTES_PER_MIRROR
    try:
        with workbench(raw) as partial, _at_most(seconds):
            for name in [name for name in published.files if is_free(raw / name)]:
                archive = archive_of(name)
                report(f"fetching {folder}{archive} to {raw}")
                failure = fetch_one(published, partial / archive, folder, timeout_seconds, time.monotonic() + seconds)
                if failure := failure or _unpack_gzip(published, partial / archive, name):
                    return failure
                for made in dict.fromkeys((archive, name)):
                    place(partial / made, raw / made)
        return None
    except _TooSlow:
        return f"not done after {seconds:g} s"


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise `_TooSlow` in a block that takes longer.

    It is a second limit, for what a name server or the head of an answer takes: only a signal can interrupt that, so it
    is missing outside the main thread, and on Windows.
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


def _unpack_gzip(published: Published, archive: Path, name: str) -> str | None:
    """Unpack an archive beside it if that is how it is read; return that it is corrupt, or None."""
    if name != archive.name:
        content = read_archive(published, archive)
        if content is not None:
            archive.with_name(name).write_bytes(content)
    return None if is_intact(published, archive.with_name(name)) else f"{archive.name} is corrupt"


def _copy(published: Published, archive: Path, folder: str, timeout_seconds: float, ends_at: float) -> str | None:
    """Copy an archive from a file address; return why it failed, or None."""
    source = Path(url2pathname(urlsplit(folder).path)) / archive.name
    try:
        size = source.stat().st_size
        if not source.is_file():
            return f"{archive.name} is no file"
        if size > published.most_bytes:
            return f"{archive.name} is larger than {published.most_bytes:,} bytes"
        file = source.open("rb")
    except OSError as error:
        return f"{error.strerror} for {archive.name}"
    with file, archive.open("wb") as copy:
        shutil.copyfileobj(file, copy)
    return None


def _download(published: Published, archive: Path, folder: str, timeout_seconds: float, ends_at: float) -> str | None:
    """Fetch an archive that is known by its md5; return why it failed, or None.

    It is read here: torchvision's downloader has neither a limit in time nor one in size.
    """
    digest, length = hashlib.md5(usedforsecurity=False), 0
    pieces = _pieces(f"{folder}{archive.name}", timeout_seconds, ends_at)
    with archive.open("wb") as file:
        while True:
            # What the mirror does wrong is caught, not what the disk does.
            try:
                piece = next(pieces, b"")
            except (OSError, HTTPException, ValueError) as error:
                return _reason(error, archive.name, timeout_seconds)
            if not piece:
                break
            length += len(piece)
            if length > published.most_bytes:
                pieces.close()
                return f"{archive.name} is larger than {published.most_bytes:,} bytes"
            digest.update(piece)
            file.write(piece)
    return (
        None if digest.hexdigest() == published.archives[archive.name] else f"{archive.name} is corrupt (md5 differs)"
    )


def _pieces(address: str, timeout_seconds: float, ends_at: float) -> Generator[bytes, None, None]:
    """Yield the body of an answer piece by piece. On a terminal, show how far it is.

    Raises `_TooSlow` if it is not done by `ends_at`, and what `urlopen` raises.
    """
    request = Request(address, headers={"User-Agent": "digits_sweep"})
    done, shown = 0, sys.stderr is not None and sys.stderr.isatty()
    with urlopen(request, timeout=timeout_seconds) as response:
        while piece := response.read1(2**16):
            done += len(piece)
            if time.monotonic() > ends_at:
                raise _TooSlow
            if shown and response.length is not None:
                print(f"\r  {done / max(done + response.length, 1):.0%} ", end="", file=sys.stderr)
            yield piece
    if shown:
        print(file=sys.stderr)


def _reason(error: Exception, archive: str, timeout_seconds: float) -> str:
    """Return what went wrong, in few words."""
    text = str(error)
    if isinstance(error, HTTPError):
        # It is the answer too, whose connection would stay open.
        error.close()
        return f"HTTP {error.code} for {archive}"
    if isinstance(error, TimeoutError) or "timed out" in text:
        return f"no answer within {timeout_seconds:g} s"
    return re.sub(r"<urlopen error (?:\[Errno -?\d+\] )?(.*)>", r"\1", text) + f" for {archive}"


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


@dataclass(frozen=True)
class Published:
    """A data set as it was published.

    `archives` has the md5 of every archive; the folder `title`/raw is where they belong, as torchvision has it. `parts`
    are the images and labels to train on and those to test with, each the name of an archive of one IDX file, or
    `archive.zip/member`, a member that is such an archive. `unpacked` has the length and the SHA-256 of what is in an
    archive, by its name without `.gz`, if that is known: then it lies beside the archive and is what is checked.
    Labels count from `first_label`; images are `transposed` if they lie on their side.
    """

    name: str
    title: str
    archives: dict[str, str]
    parts: tuple[str, str, str, str]
    mirrors: tuple[str, ...]
    unpacked: dict[str, tuple[int, str]] = field(default_factory=dict)
    first_label: int = 0
    transposed: bool = False
    most_bytes: int = 2**25

    @property
    def files(self) -> list[str]:
        """The files that the data set is read from."""
        return list(self.unpacked or self.archives)


# What `gzip` raises for an archive that is truncated, or holds a flipped bit.
CORRUPT_ARCHIVE = (gzip.BadGzipFile, EOFError, zlib.error)

# So much of an archive tells that it can be unpacked; a small one may hold far more.
MOST_UNPACKED = 2**28

# Bytes of a value, by the third byte of an IDX file.
IDX_TYPES = {0x08: 1, 0x09: 1, 0x0B: 2, 0x0C: 4, 0x0D: 4, 0x0E: 8}


def archive_of(name: str) -> str:
    """Return the name of the archive that a file of a data set is in, or is."""
    return name if name.endswith((".gz", ".zip")) else f"{name}.gz"


def is_intact(published: Published, path: Path) -> bool:
    """Return whether one of the data set's `files` is there and as it was published, to the bit."""
    if path.name in published.unpacked:
        return read_intact(published, path) is not None
    return path.is_file() and md5_of(path) == published.archives[path.name]


def md5_of(path: Path) -> str:
    """Return the md5 of a file of any length."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def read_intact(published: Published, path: Path) -> bytearray | None:
    """Return an unpacked file's content, or None if it is missing or differs from the published one by a bit.

    It may be written to, so that a tensor can be made of it without a copy.
    """
    length, sha256 = published.unpacked[path.name]
    if not path.is_file() or path.stat().st_size != length:
        return None
    content = bytearray(length)
    with path.open("rb") as file:
        whole = file.readinto(content) == length
    return content if whole and hashlib.sha256(content).hexdigest() == sha256 else None


def read_archive(published: Published, archive: Path) -> bytes | None:
    """Return the content of an archive whose content is known, or None if it is not the published one.

    No more is unpacked than the published file holds.
    """
    length, sha256 = published.unpacked[archive.stem]
    if not archive.is_file():
        return None
    try:
        with gzip.open(archive) as file:
            content = file.read(length + 1)
    except CORRUPT_ARCHIVE:
        return None
    return content if hashlib.sha256(content).hexdigest() == sha256 else None


def read_contents(published: Published, raw: Path) -> Sequence[bytes | bytearray] | None:
    """Return the content of the four parts, unpacked, or None if a file in `raw` is missing or corrupt."""
    if published.unpacked:
        contents = [content for name in published.files if (content := read_intact(published, raw / name)) is not None]
        return contents if len(contents) == len(published.files) else None
    if not all(is_intact(published, raw / name) for name in published.files):
        return None
    return [_read_part(raw, part) for part in published.parts]


def _read_part(raw: Path, part: str) -> bytes:
    """Unpack a part of an archive that is intact."""
    name, _, member = part.partition("/")
    if not member:
        return gzip.decompress((raw / name).read_bytes())
    with zipfile.ZipFile(raw / name) as archive:
        return gzip.decompress(archive.read(member))


def holds_something_else(path: Path) -> bool:
    """Return whether a file that bears a data set's name is intact, and so of use to somebody.

    MNIST, FashionMNIST and KMNIST use the same names. A file is intact if it is as long as its IDX header says, an
    archive if it can be unpacked.
    """
    if not path.is_file():
        return False
    if path.suffix == ".zip":
        return zipfile.is_zipfile(path)
    if path.suffix != ".gz":
        with path.open("rb") as file:
            return _is_idx(file.read(4 + 4 * 255), path.stat().st_size)
    try:
        with gzip.open(path) as archive:
            while archive.read(2**20) and archive.tell() < MOST_UNPACKED:
                pass
    except CORRUPT_ARCHIVE:
        return False
    return path.stat().st_size > 0


def _is_idx(start: bytes, length: int) -> bool:
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in IDX_TYPES or len(start) < 4 + 4 * start[3]:
        return False
    shape = [int.from_bytes(start[place : place + 4], "big") for place in range(4, 4 + 4 * start[3], 4)]
    return length == 4 + 4 * len(shape) + IDX_TYPES[start[2]] * math.prod(shape)


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


def _published(title: str, name: str, mirrors: Sequence[str], md5s: Sequence[str], **more: Any) -> Published:
    """Return a data set with MNIST's names of archives, and their md5 in MNIST's order."""
    archives = dict(zip(NAMES, md5s, strict=True))
    return Published(name, title, archives, NAMES, tuple(mirrors), **more)


NAMES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)

# The md5 of every archive is torchvision's.
MNIST = _published(
    "MNIST",
    "mnist",
    ["https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"],
    [
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ],
    unpacked={
        "train-images-idx3-ubyte": (47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
        "train-labels-idx1-ubyte": (60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
        "t10k-images-idx3-ubyte": (7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
        "t10k-labels-idx1-ubyte": (10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    },
)
FASHION_MNIST = _published(
    "FashionMNIST",
    "fashion_mnist",
    ["http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"],
    [
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ],
)
KMNIST = _published(
    "KMNIST",
    "kmnist",
    ["http://codh.rois.ac.jp/kmnist/dataset/kmnist/"],
    [
        "bdb82020997e1d708af4cf47b453dcf7",
        "e144d726b3acfaa3e44228e80efcd344",
        "5c965bf0a639b31b8f53240b1b52f4d7",
        "7320c461ea6c1c855c0b718fb2a4b134",
    ],
)
QMNIST = Published(
    "qmnist",
    "QMNIST",
    archives={
        "qmnist-train-images-idx3-ubyte.gz": "ed72d4157d28c017586c42bc6afe6370",
        "qmnist-train-labels-idx2-int.gz": "0058f8dd561b90ffdd0f734c6a30e5e4",
        "qmnist-test-images-idx3-ubyte.gz": "1394631089c404de565df7b7aeaf9412",
        "qmnist-test-labels-idx2-int.gz": "5b5b05890a5e13444e108efe57b788aa",
    },
    parts=(
        "qmnist-train-images-idx3-ubyte.gz",
        "qmnist-train-labels-idx2-int.gz",
        "qmnist-test-images-idx3-ubyte.gz",
        "qmnist-test-labels-idx2-int.gz",
    ),
    mirrors=("https://raw.githubusercontent.com/facebookresearch/qmnist/master/",),
)


def _emnist(split: str, first_label: int) -> Published:
    """Return a split of EMNIST. One archive of 562 MB holds them all; their images lie on their side."""
    start = f"gzip.zip/gzip/emnist-{split}"
    return Published(
        f"emnist_{split}",
        "EMNIST",
        archives={"gzip.zip": "58c8d27c78d21e728a6bc7b3cc06412e"},
        parts=(
            f"{start}-train-images-idx3-ubyte.gz",
            f"{start}-train-labels-idx1-ubyte.gz",
            f"{start}-test-images-idx3-ubyte.gz",
            f"{start}-test-labels-idx1-ubyte.gz",
        ),
        mirrors=("https://biometrics.nist.gov/cs_links/EMNIST/",),
        first_label=first_label,
        transposed=True,
        most_bytes=2**30,
    )


EMNIST_DIGITS, EMNIST_LETTERS = _emnist("digits", first_label=0), _emnist("letters", first_label=1)


def load_mnist(
    root: Path, mirrors: Sequence[str] | None, timeout_seconds: float = 10.0, report: Callable[[str], None] = print
) -> Digits:
    """Load MNIST, 60,000 digits for training and 10,000 for testing, as `load_published` does."""
    return load_published(MNIST, root, mirrors, timeout_seconds, report)
