"""Published data sets: archives of IDX files, known by their digests, fetched once, kept in torchvision's folders."""

import gzip
import hashlib
import os
import shutil
import sys
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, url2pathname, urlopen

import numpy as np
import torch
from filelock import AcquireReturnProxy, FileLock, Timeout
from torch import Tensor

from digits_sweep.data import Report
from digits_sweep.data.digits import Digits
from digits_sweep.errors import DataUnavailable, UnusableRoot

# A mirror that is never silent may still never finish. It has 30 times `timeout_seconds` for archives of up to 32 MB,
# and proportionally more for larger ones: with the default of 10 s, 120 kB/s suffice.
TIMEOUTS_PER_MIRROR, BYTES_PER_MIRROR = 30, 2**25

# Files are written in folders with this prefix until they are complete. A killed process leaves its folder behind.
UNFINISHED = ".digits_sweep_download_"

# The type of the numbers in an IDX file, by its first three bytes.
IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

# An archive counts as whole after this many unpacked bytes: a small one may hold any number of them.
MOST_UNPACKED = 2**28


@dataclass(frozen=True)
class Published:
    """A data set as it was published. Its archives are kept in `data.root`, in the folder `title`/raw.

    `md5` has the digest of every archive, as torchvision has it. `sha256` has that of an archive's content, by the
    archive's name without `.gz`, if it is known: then an unpacked copy is kept too and is what is read, in a quarter of
    the time. `parts` are the images and labels to train on and those to test with, each an archive or
    `archive.zip/member`; by default they are the archives. Labels count from `first_label`; images are `transposed` if
    they lie on their side.
    """

    name: str
    title: str
    mirrors: tuple[str, ...]
    md5: dict[str, str]
    sha256: dict[str, str] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    first_label: int = 0
    transposed: bool = False
    most_bytes: int = 2**25

    def most_seconds(self, timeout_seconds: float) -> float:
        """Return how many seconds a mirror has for all archives."""
        return TIMEOUTS_PER_MIRROR * timeout_seconds * self.most_bytes / BYTES_PER_MIRROR


class _MirrorFailed(Exception):
    """A mirror is given up; the text says why."""


def load_published(
    data: Published, root: Path, mirrors: Sequence[str] | None, timeout_seconds: float, report: Report
) -> Digits:
    """Load a published data set from `root`, after fetching what is missing or corrupt there.

    `mirrors` are addresses of folders that hold the archives (http, https or file), tried in turn; None takes the data
    set's own. A mirror is given up after `timeout_seconds` of silence, or after 30 times as long in all, unless a name
    server keeps it waiting. `report` gets a line for every archive fetched, every mirror given up and every corrupt
    file, which is renamed. Processes that start together wait for the first one. Raises `DataUnavailable` if every
    mirror fails, and `UnusableRoot` if the folder cannot be read or written or holds another data set under these
    names.
    """
    if root.parts[:1] and root.parts[0].startswith("~"):
        remedy = "choose another folder by data.root=... or by the environment variable DIGITS_SWEEP_DATA"
        raise UnusableRoot(f"data.root={root}: there is no home folder here (HOME); {remedy}")
    raw = root / data.title / "raw"
    try:
        if not all(_is_intact(data, raw / name) for name in data.sha256 or data.md5):
            raw.mkdir(parents=True, exist_ok=True)
            with _lock(root, data.title, report):
                _fetch_missing(data, raw, data.mirrors if mirrors is None else mirrors, timeout_seconds, report)
        return Digits.of(data.name, *(_tensor(data, _read(data, raw, part)) for part in data.parts or data.md5))
    except OSError as error:
        file = f": {error.filename}" if error.filename else ""
        reason = f"{error.strerror or error}{file}; choose a folder that can be read and written"
        raise UnusableRoot(f"data.root={root}: {reason}") from error


def _lock(root: Path, title: str, report: Report) -> AcquireReturnProxy:
    """Wait until no other process fetches into `root`, and keep others out to the end of the `with` block."""
    lock = FileLock(root / ".digits_sweep.lock")
    try:
        return lock.acquire(timeout=0.1)
    except Timeout:
        report(f"waiting for another process that is downloading {title} to {root}")
        return lock.acquire()


def _fetch_missing(data: Published, raw: Path, mirrors: Sequence[str], timeout_seconds: float, report: Report) -> None:
    """Fetch the archives that `raw` lacks, each from the first mirror that gives it intact, and unpack what is missing.

    Raises `DataUnavailable` with a line for every mirror that failed.
    """
    for leftover in raw.glob(f"{UNFINISHED}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    unpacked = {f"{name}.gz" for name in data.sha256 if _intact_or_set_aside(data, raw / name, report)}
    packed = [name for name in data.md5 if name not in unpacked]
    missing = [name for name in packed if not _intact_or_set_aside(data, raw / name, report)]
    failures: list[str] = []
    for mirror in mirrors:
        if not missing:
            break
        try:
            ends_at = time.monotonic() + data.most_seconds(timeout_seconds)
            if mirror.partition(":")[0].lower() not in ("http", "https", "file"):
                raise _MirrorFailed("not an address that starts with https:, http: or file:")
            while missing:
                address = f"{mirror.rstrip('/')}/{missing[0]}"
                report(f"fetching {address} to {raw}")
                _put(data, raw / missing[0], _download(data, address, timeout_seconds, ends_at))
                del missing[0]
        except _MirrorFailed as failure:
            failures.append(f"{mirror}: {failure}")
            report(f"giving up {failures[-1]}")
    if missing:
        reason = "no mirror provided it:" if failures else "data.mirrors names no mirror"
        raise DataUnavailable("\n  ".join([f"{data.title} is not in {raw}, and {reason}", *failures]))
    for name in data.sha256:
        if not os.path.lexists(raw / name):
            _put(data, raw / name, [gzip.decompress((raw / f"{name}.gz").read_bytes())])


def _is_intact(data: Published, path: Path) -> bool:
    """Return whether a file is there and has the digest of the published one."""
    if not path.is_file():
        return False
    is_unpacked = path.name in data.sha256
    digest = hashlib.sha256() if is_unpacked else hashlib.md5(usedforsecurity=False)
    with path.open("rb", buffering=0) as file:
        while piece := file.read(2**18):
            digest.update(piece)
    return digest.hexdigest() == (data.sha256 if is_unpacked else data.md5)[path.name]


def _intact_or_set_aside(data: Published, path: Path, report: Report) -> bool:
    """Return whether a file is intact. Rename a corrupt one: nothing is deleted or replaced.

    Raises `UnusableRoot` if the file is whole but not the published one: another program may need it.
    """
    if _is_intact(data, path):
        return True
    if not os.path.lexists(path):
        return False
    if _is_whole(path):
        remedy = "move it away if nothing needs it, or choose another data.root"
        raise UnusableRoot(f"data.root={path.parents[2]}: {path} has {data.title}'s name and another content; {remedy}")
    aside, number = path.with_name(f"{path.name}.corrupt"), 1
    while os.path.lexists(aside):
        number += 1
        aside = path.with_name(f"{path.name}.corrupt-{number}")
    path.rename(aside)
    report(f"{path} is corrupt: kept as {aside.name}")
    return False


def _is_whole(path: Path) -> bool:
    """Return whether a file is an archive that can be unpacked, or as long as its IDX header says.

    FashionMNIST and KMNIST use the same names as MNIST.
    """
    if not path.is_file():
        return False
    if path.suffix == ".zip":
        return zipfile.is_zipfile(path)
    try:
        if path.suffix != ".gz":
            _values(np.memmap(path, np.uint8, "r"))
            return True
        with gzip.open(path) as archive:
            while archive.read(2**20) and archive.tell() < MOST_UNPACKED:
                pass
            return archive.tell() > 0
    except (gzip.BadGzipFile, EOFError, zlib.error, ValueError, LookupError):
        return False


def _put(data: Published, path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file in a folder of its own, and move it to `path` once it is intact: nobody reads half of one.

    Raises `_MirrorFailed` if the pieces are not the published file, and `UnusableRoot` if another program has put
    something else in its place meanwhile, which stays there.
    """
    with TemporaryDirectory(prefix=UNFINISHED, dir=path.parent, ignore_cleanup_errors=True) as folder:
        unfinished = Path(folder) / path.name
        with unfinished.open("wb") as file:
            file.writelines(pieces)
        if not _is_intact(data, unfinished):
            raise _MirrorFailed(f"{path.name} is corrupt (md5 differs)")
        if not os.path.lexists(path):
            unfinished.rename(path)
        elif not _is_intact(data, path):
            raise UnusableRoot(f"data.root={path.parents[2]}: another program is writing {path}; start again after it")


def _download(data: Published, address: str, timeout_seconds: float, ends_at: float) -> Iterator[bytes]:
    """Yield an archive in pieces; on a terminal, show how far it is. Raises `_MirrorFailed` with the reason."""
    archive, length = address.rpartition("/")[2], 0
    is_shown = sys.stderr is not None and sys.stderr.isatty()
    try:
        with _open(address, timeout_seconds) as answer:
            # `read` would wait until 64 kB are there, however slowly they come.
            while piece := answer.read1(2**16):
                length += len(piece)
                if length > data.most_bytes:
                    raise _MirrorFailed(f"{archive} is larger than {data.most_bytes:,} bytes")
                if time.monotonic() > ends_at:
                    raise _MirrorFailed(f"not done after {data.most_seconds(timeout_seconds):g} s")
                if is_shown and (remaining := getattr(answer, "length", None)) is not None:
                    print(f"\r  {100 * length / (length + remaining):.0f} % ", end="", file=sys.stderr)
                yield piece
    except HTTPError as error:
        # It is the answer too, whose connection would stay open.
        error.close()
        raise _MirrorFailed(f"HTTP {error.code} for {archive}") from error
    except (OSError, HTTPException, ValueError) as error:
        cause = error.reason if isinstance(error, URLError) else error
        if isinstance(cause, TimeoutError):
            raise _MirrorFailed(f"no answer within {timeout_seconds:g} s") from error
        reason = getattr(cause, "strerror", None) or str(cause)
        # It may quote what the mirror sent.
        raise _MirrorFailed(f"{reason:.200} for {archive}") from error
    if is_shown:
        print(file=sys.stderr)


def _open(address: str, timeout_seconds: float) -> Any:
    """Open an address. Raises `_MirrorFailed` for a pipe, whose end may never come."""
    if address.lower().startswith("file:"):
        path = Path(url2pathname(urlsplit(address).path))
        if path.exists() and not path.is_file():
            raise _MirrorFailed(f"{path.name} is no file")
    return urlopen(Request(address, headers={"User-Agent": "digits_sweep"}), timeout=timeout_seconds)


def _read(data: Published, raw: Path, part: str) -> np.ndarray:
    """Return the bytes of an IDX file, from its unpacked copy or else from its archive."""
    name, _, member = part.partition("/")
    if (copy := name.removesuffix(".gz")) in data.sha256:
        return np.fromfile(raw / copy, np.uint8)
    if not member:
        return np.frombuffer(gzip.decompress((raw / name).read_bytes()), np.uint8)
    with zipfile.ZipFile(raw / name) as archive:
        return np.frombuffer(gzip.decompress(archive.read(member)), np.uint8)


def _values(idx: np.ndarray) -> np.ndarray:
    """Return the array in the bytes of an IDX file. Raises ValueError or LookupError if they are no IDX file."""
    number_type, dimensions = IDX_TYPES[int.from_bytes(idx[:3].tobytes(), "big")], int(idx[3])
    shape = np.frombuffer(idx, ">u4", count=dimensions, offset=4)
    return np.frombuffer(idx, number_type, offset=4 + 4 * dimensions).reshape(shape)


def _tensor(data: Published, idx: np.ndarray) -> Tensor:
    """Return images (n, height, width) uint8, or labels (n,) int64 from 0: the first number of each label."""
    values = _values(idx)
    if values.ndim == 3:
        upright = values.transpose(0, 2, 1) if data.transposed else values
        return torch.from_numpy(np.require(upright, requirements=["C", "W"]))
    return torch.from_numpy(values.reshape(len(values), -1)[:, 0].astype(np.int64)) - data.first_label


MNIST = Published(
    "mnist",
    "MNIST",
    ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
    md5={
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    sha256={
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
)
FASHION_MNIST = Published(
    "fashion_mnist",
    "FashionMNIST",
    ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    md5={
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
)
KMNIST = Published(
    "kmnist",
    "KMNIST",
    ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
    md5={
        "train-images-idx3-ubyte.gz": "bdb82020997e1d708af4cf47b453dcf7",
        "train-labels-idx1-ubyte.gz": "e144d726b3acfaa3e44228e80efcd344",
        "t10k-images-idx3-ubyte.gz": "5c965bf0a639b31b8f53240b1b52f4d7",
        "t10k-labels-idx1-ubyte.gz": "7320c461ea6c1c855c0b718fb2a4b134",
    },
)
QMNIST = Published(
    "qmnist",
    "QMNIST",
    ("https://raw.githubusercontent.com/facebookresearch/qmnist/master/",),
    md5={
        "qmnist-train-images-idx3-ubyte.gz": "ed72d4157d28c017586c42bc6afe6370",
        "qmnist-train-labels-idx2-int.gz": "0058f8dd561b90ffdd0f734c6a30e5e4",
        "qmnist-test-images-idx3-ubyte.gz": "1394631089c404de565df7b7aeaf9412",
        "qmnist-test-labels-idx2-int.gz": "5b5b05890a5e13444e108efe57b788aa",
    },
)


def _emnist(split: str, first_label: int) -> Published:
    """Return a split of EMNIST. One archive of 562 MB holds them all; their images lie on their side."""
    kinds = ("train-images-idx3", "train-labels-idx1", "test-images-idx3", "test-labels-idx1")
    return Published(
        f"emnist_{split}",
        "EMNIST",
        ("https://biometrics.nist.gov/cs_links/EMNIST/",),
        md5={"gzip.zip": "58c8d27c78d21e728a6bc7b3cc06412e"},
        parts=tuple(f"gzip.zip/gzip/emnist-{split}-{kind}-ubyte.gz" for kind in kinds),
        first_label=first_label,
        transposed=True,
        most_bytes=2**30,
    )


EMNIST_DIGITS, EMNIST_LETTERS = _emnist("digits", first_label=0), _emnist("letters", first_label=1)
