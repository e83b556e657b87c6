"""Data sets as they were published: archives of IDX files, and how a corrupt one is detected."""

import gzip
import hashlib
import math
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


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
