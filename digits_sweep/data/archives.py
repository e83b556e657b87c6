"""The four files of MNIST as they were published, and how a corrupt one is detected."""

import gzip
import hashlib
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


def read_intact(path: Path) -> bytes | None:
    """Return the file's content, or None if it is missing or differs from the published one by as little as a bit."""
    content = path.read_bytes() if path.exists() else b""
    return content if is_published(path.name, content) else None


def is_published(name: str, content: bytes) -> bool:
    """Return whether `content` is, to the bit, what was published as `name`, unpacked."""
    return hashlib.sha256(content).hexdigest() == FILES[name][1]


def unpack(archive: Path) -> bool:
    """Unpack an archive beside itself, unless it is corrupt; return whether it was intact."""
    unpacked = archive.with_suffix("")
    try:
        content = gzip.decompress(archive.read_bytes())
    except CORRUPT_ARCHIVE:
        return False
    if intact := is_published(unpacked.name, content):
        unpacked.write_bytes(content)
    return intact
