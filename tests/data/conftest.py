"""Small archives in place of the published ones: the loader does the same with them, in an instant."""

import gzip
import hashlib
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from digits_sweep.data.digits import Digits
from digits_sweep.data.published import MNIST, Published, load_published
from tests.mirror import Fault, Mirror

COUNTS = (30, 30, 20, 20)


def idx(values: np.ndarray) -> bytes:
    """Values as an IDX file: its header says what they are, how many dimensions there are, and how long each is."""
    kind = {"u1": 0x08, "i4": 0x0C}[values.dtype.str[1:]]
    return bytes([0, 0, kind, values.ndim]) + np.array(values.shape, ">u4").tobytes() + values.tobytes()


def values_of(part: str, count: int, seed: int = 0) -> np.ndarray:
    """Random images, or labels in the form of their data set: QMNIST has eight numbers for each, the class first."""
    random = np.random.default_rng(len(part) + seed)
    if "images" in part:
        return random.integers(0, 256, (count, 28, 28), np.uint8)
    classes = random.permutation(np.arange(count) % (26 if "letters" in part else 10)) + ("letters" in part)
    if "idx2-int" in part:
        return np.column_stack([classes, random.integers(0, 1_000, (count, 7))]).astype(">i4")
    return classes.astype(np.uint8)


def publish(data: Published, folder: Path, seed: int = 0) -> Published:
    """Write small archives of the data set's layout into `folder`, and return the data set with their digests."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {}
    for part, count in zip(data.parts or data.md5, COUNTS, strict=True):
        archive, _, member = part.partition("/")
        contents[part] = idx(values_of(part, count, seed))
        if member:
            with zipfile.ZipFile(folder / archive, "a") as file:
                file.writestr(member, gzip.compress(contents[part]))
        else:
            (folder / archive).write_bytes(gzip.compress(contents[part]))
    unpacked = {name: hashlib.sha256(contents[f"{name}.gz"]).hexdigest() for name in data.sha256}
    return replace(data, md5={name: md5(folder / name) for name in data.md5}, sha256=unpacked)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def everything_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@contextmanager
def memory_below(most_bytes: int) -> Iterator[None]:
    """Fail if Python has allocated more than that at once during the block."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most_bytes
    finally:
        tracemalloc.stop()


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    """The folder with the archives that `published` has the digests of."""
    return tmp_path / "archives"


@pytest.fixture
def published(archives: Path) -> Published:
    """MNIST with few digits."""
    return publish(MNIST, archives)


@pytest.fixture
def reported() -> list[str]:
    """What the loader has reported, a line each."""
    return []


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def raw(root: Path) -> Path:
    """The folder where MNIST's files belong, empty."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def load(root: Path, published: Published, reported: list[str]) -> Callable[..., Digits]:
    """Load from the mirrors named into `root`."""

    def load_here(*mirrors: str, timeout_seconds: float = 60, data: Published = published) -> Digits:
        return load_published(data, root, mirrors, timeout_seconds, reported.append)

    return load_here


@pytest.fixture
def filled(load: Callable[..., Digits], archives: Path, raw: Path, reported: list[str]) -> Path:
    """The folder where MNIST's files belong, with all archives and their unpacked copies."""
    load(archives.as_uri())
    reported.clear()
    return raw


@pytest.fixture
def digest(published: Published, archives: Path, tmp_path: Path) -> str:
    """The digest of the few digits."""
    return load_published(published, tmp_path / "other", [archives.as_uri()], 60, lambda line: None).digest


@pytest.fixture
def serve(archives: Path, published: Published) -> Iterator[Callable[..., Mirror]]:
    """Start a mirror of a folder, by default of `archives`, with faults by file name."""
    with ExitStack() as stack:

        def start(faults: Mapping[str, Fault] | None = None, folder: Path = archives) -> Mirror:
            return stack.enter_context(Mirror(folder, faults or {}))

        yield start
