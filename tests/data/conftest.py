"""A small data set in MNIST's files, in MNIST's place: what MNIST's loader does is the same, and done in an instant."""

import gzip
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from digits_sweep.data.digits import Digits
from digits_sweep.data.published import MNIST, load_mnist

SHAPES = {
    "train-images-idx3-ubyte": (200, 28, 28),
    "train-labels-idx1-ubyte": (200,),
    "t10k-images-idx3-ubyte": (100, 28, 28),
    "t10k-labels-idx1-ubyte": (100,),
}


def content_of(shape: tuple[int, ...]) -> bytes:
    """Random values as an IDX file: its header says how many dimensions there are, and how long each is."""
    below, random = 256 if len(shape) == 3 else 10, torch.Generator().manual_seed(len(shape))
    values = torch.randint(0, below, shape, dtype=torch.uint8, generator=random)
    header = bytes([0, 0, 8, len(shape)]) + b"".join(length.to_bytes(4, "big") for length in shape)
    return header + values.numpy().tobytes()


@pytest.fixture
def published(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the four small archives, which this program takes for those of MNIST."""
    folder = tmp_path_factory.mktemp("published")
    for name, shape in SHAPES.items():
        content = content_of(shape)
        archive = gzip.compress(content)
        (folder / f"{name}.gz").write_bytes(archive)
        monkeypatch.setitem(MNIST.unpacked, name, (len(content), hashlib.sha256(content).hexdigest()))
        monkeypatch.setitem(MNIST.archives, f"{name}.gz", hashlib.md5(archive).hexdigest())
    return folder


@pytest.fixture
def small(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Digits:
    """The small data set as it comes out of its loader."""
    return load_mnist(tmp_path_factory.mktemp("small"), [published.as_uri()], report=lambda line: None)


@pytest.fixture
def reported() -> list[str]:
    """What the loader has reported, a line each."""
    return []


@pytest.fixture
def load(tmp_path: Path, reported: list[str]) -> Callable[..., Digits]:
    """Load from the mirrors given, with `tmp_path` as data.root."""

    def load_here(*mirrors: str, timeout_seconds: float = 60) -> Digits:
        return load_mnist(tmp_path, mirrors, timeout_seconds, reported.append)

    return load_here


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """The folder below `tmp_path` where the files belong, empty."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def filled(raw: Path, published: Path) -> Path:
    """The folder below `tmp_path` where the files belong, with all archives and all files unpacked."""
    for archive in published.iterdir():
        shutil.copy(archive, raw)
        (raw / archive.stem).write_bytes(gzip.decompress(archive.read_bytes()))
    return raw
