"""MNIST on disk: what is loaded, from which files, and what happens to files that are corrupt."""

import gzip
import shutil
from pathlib import Path

import pytest
import torch

from digits_sweep.data import published as fetching
from digits_sweep.data.digits import Digits
from digits_sweep.data.published import load_mnist
from digits_sweep.errors import DataUnavailable, UnusableRoot
from tests.data.conftest import SHAPES, content_of
from tests.mirror import ARCHIVES, LABELS, TEST_IMAGES, mirror


@pytest.fixture(scope="module")
def mnist(mnist_root: Path) -> Digits:
    return load_mnist(mnist_root, mirrors=[])


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


# What is loaded


def test_mnist_has_60000_digits_to_train_on_and_10000_to_test_with(mnist):
    assert mnist.name == "mnist"
    assert (mnist.train_images.shape, mnist.train_images.dtype) == ((60_000, 28, 28), torch.uint8)
    assert (mnist.train_labels.shape, mnist.train_labels.dtype) == ((60_000,), torch.int64)
    assert (mnist.test_images.shape, mnist.test_images.dtype) == ((10_000, 28, 28), torch.uint8)
    assert (mnist.test_labels.shape, mnist.test_labels.dtype) == ((10_000,), torch.int64)


def test_every_class_has_as_many_digits_as_were_published(mnist):
    trained_on = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert mnist.train_labels.bincount().tolist() == trained_on
    assert mnist.test_labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.full
def test_torchvision_reads_the_same_digits_from_the_same_folder(mnist, mnist_root):
    from torchvision.datasets import MNIST

    train, test = MNIST(mnist_root, train=True), MNIST(mnist_root, train=False)
    assert torch.equal(train.data, mnist.train_images)
    assert torch.equal(train.targets, mnist.train_labels)
    assert torch.equal(test.data, mnist.test_images)
    assert torch.equal(test.targets, mnist.test_labels)


# Which files it is read from


def test_intact_files_are_read_without_a_mirror_and_nothing_is_reported(filled, load, reported, small):
    assert load().digest == small.digest
    assert reported == []


def test_archives_alone_are_unpacked_without_a_mirror(raw, load, small, published):
    for archive in ARCHIVES:
        shutil.copy(published / archive, raw)
    assert load().digest == small.digest


def test_without_files_and_without_mirrors_both_are_named(load, raw):
    with pytest.raises(DataUnavailable) as unavailable:
        load()
    assert str(unavailable.value) == f"MNIST is not in {raw}, and data.mirrors names no mirror"


# What happens to a corrupt file, and to one of somebody else's: nothing is deleted or replaced


@pytest.mark.parametrize("damage", [cut_short, empty])
def test_a_corrupt_file_is_kept_under_another_name_and_unpacked_again_without_a_mirror(
    damage, filled, load, reported, small
):
    corrupt = filled / TEST_IMAGES.removesuffix(".gz")
    damage(corrupt)
    content = corrupt.read_bytes()
    assert load().digest == small.digest
    assert reported == [f"{corrupt} is corrupt: kept as {corrupt.name}.corrupt"]
    assert corrupt.with_name(f"{corrupt.name}.corrupt").read_bytes() == content


@pytest.mark.parametrize("damage", [cut_short, flip_a_bit, empty])
def test_a_corrupt_archive_is_kept_under_another_name_and_it_alone_is_fetched_again(
    damage, filled, load, reported, small, published
):
    (filled / TEST_IMAGES.removesuffix(".gz")).unlink()
    damage(filled / TEST_IMAGES)
    content = (filled / TEST_IMAGES).read_bytes()
    with mirror(published) as serving:
        assert load(serving.address).digest == small.digest
        assert serving.downloads == {TEST_IMAGES: 1}
    assert reported[0] == f"{filled / TEST_IMAGES} is corrupt: kept as {TEST_IMAGES}.corrupt"
    assert (filled / f"{TEST_IMAGES}.corrupt").read_bytes() == content


def test_a_second_corrupt_file_does_not_take_the_place_of_the_first(filled, load):
    corrupt = filled / TEST_IMAGES.removesuffix(".gz")
    for content in (b"first", b"second"):
        corrupt.write_bytes(content)
        load()
    assert (filled / f"{corrupt.name}.corrupt").read_bytes() == b"first"
    assert (filled / f"{corrupt.name}.corrupt-2").read_bytes() == b"second"


def everything_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files_of_fashion_mnist_with_the_same_names_are_refused_and_stay_as_they_are(raw, load, published, tmp_path):
    for name, shape in SHAPES.items():
        content = bytearray(content_of(shape))
        content[-1] ^= 1
        (raw / name).write_bytes(content)
        (raw / f"{name}.gz").write_bytes(gzip.compress(bytes(content)))
    before = everything_in(raw)
    with mirror(published) as serving, pytest.raises(UnusableRoot) as refusal:
        load(serving.address)
    assert serving.downloads == {}
    assert str(refusal.value) == (
        f"data.root={tmp_path}: {raw / 'train-images-idx3-ubyte'} has MNIST's name and another content; "
        "move it away if nothing needs it, or choose another data.root"
    )
    assert everything_in(raw) == before


def test_archives_of_another_data_set_are_refused_and_stay_as_they_are(raw, load, published):
    (raw / LABELS).write_bytes(gzip.compress(b"something else"))
    before = everything_in(raw)
    with pytest.raises(UnusableRoot, match=f"{LABELS} has MNIST's name and another content"):
        load(published.as_uri())
    assert {name: everything_in(raw)[name] for name in before} == before


def test_a_file_that_appears_while_it_is_fetched_is_not_replaced(raw, load, published, monkeypatch):
    def fetch_after_another_program(data_set, archive, *where):
        for name in (archive.name, archive.stem):
            (raw / name).write_bytes(b"theirs")
        return fetching._copy(data_set, archive, *where)

    monkeypatch.setattr(fetching, "_download", fetch_after_another_program)
    with pytest.raises(DataUnavailable):
        load(published.as_uri().replace("file:", "http:"))
    assert (raw / "train-images-idx3-ubyte").read_bytes() == b"theirs"


def test_what_a_killed_process_left_is_removed(raw, load, published):
    (raw / ".digits_sweep_download_x").mkdir()
    (raw / ".digits_sweep_download_x" / "half").write_bytes(b"")
    load(published.as_uri())
    assert set(everything_in(raw)) == {*ARCHIVES, *SHAPES}


# A folder that cannot be used


def test_a_root_that_is_a_file_is_refused_by_name(tmp_path):
    root = tmp_path / "digits"
    root.write_text("a file")
    with pytest.raises(UnusableRoot) as refusal:
        load_mnist(root, mirrors=[])
    assert str(refusal.value).startswith(f"data.root={root}: Not a directory: {root}")
    assert str(refusal.value).endswith("; choose a folder that can be read and written")
