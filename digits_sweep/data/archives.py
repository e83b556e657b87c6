"""The four files of MNIST as they were published, and how a corrupt one is detected."""

import gzip
import hashlib
import math
import zlib
from pathlib import Path

# The four files when unpacked: their shape, and their SHA-256.
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

# What `gzip` raises for an archive that is truncated, or holds a flipped bit.
CORRUPT_ARCHIVE = (gzip.BadGzipFile, EOFError, zlib.error)


# So much of an archive tells that it can be unpacked; a small one may hold far more.
MOST_UNPACKED = 2**28

# Bytes of a value, by the third byte of an IDX file.
IDX_TYPES = {0x08: 1, 0x09: 1, 0x0B: 2, 0x0C: 4, 0x0D: 4, 0x0E: 8}


def length_of(name: str) -> int:
    """Return how many bytes the file `name` has, unpacked."""
    shape, _ = FILES[name]
    return 4 + 4 * len(shape) + math.prod(shape)


def read_intact(path: Path) -> bytes | None:
    """Return the file's content, or None if it is missing or differs from the published one by as little as a bit."""
    if not path.is_file() or path.stat().st_size != length_of(path.name):
        return None
    content = path.read_bytes()
    return content if is_published(path.name, content) else None


def is_published(name: str, content: bytes) -> bool:
    """Return whether `content` is, to the bit, what was published as `name`, unpacked."""
    return hashlib.sha256(content).hexdigest() == FILES[name][1]


def read_archive(archive: Path) -> bytes | None:
    """Return the content of the archive `<name>.gz` of one of the files, or None if it is not the published one.

    No more is unpacked than the published file holds.
    """
    if not archive.is_file():
        return None
    try:
        with gzip.open(archive) as file:
            content = file.read(length_of(archive.stem) + 1)
    except CORRUPT_ARCHIVE:
        return None
    return content if is_published(archive.stem, content) else None


def holds_something_else(path: Path) -> bool:
    """Return whether a file that bears a name of MNIST's is intact, and so of use to somebody.

    FashionMNIST and KMNIST use the same names. A file is intact if it is as long as its IDX header says, an archive if
    it can be unpacked.
    """
    if not path.is_file():
        return False
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
