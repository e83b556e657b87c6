"""MNIST on disk: what is loaded, from which files, and what happens to files that are corrupt."""

import gzip
import shutil
from pathlib import Path

import pytest
import torch

from digits_sweep.data.digits import Digits
from digits_sweep.data.mnist import load_mnist
from digits_sweep.errors import DataUnavailable, UnusableRoot
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


# What happens to a corrupt file


@pytest.mark.parametrize("damage", [cut_short, flip_a_bit, empty])
def test_a_corrupt_file_is_deleted_and_unpacked_again_without_a_mirror(damage, filled, load, reported, small):
    corrupt = filled / TEST_IMAGES.removesuffix(".gz")
    damage(corrupt)
    assert load().digest == small.digest
    assert reported == [f"{corrupt} is corrupt: deleted"]


@pytest.mark.parametrize("damage", [cut_short, flip_a_bit, empty])
def test_a_corrupt_archive_is_deleted_and_it_alone_is_fetched_again(damage, filled, load, reported, small, published):
    (filled / TEST_IMAGES.removesuffix(".gz")).unlink()
    damage(filled / TEST_IMAGES)
    with mirror(published) as serving:
        assert load(serving.address).digest == small.digest
        assert serving.downloads == {TEST_IMAGES: 1}
    assert reported[0] == f"{filled / TEST_IMAGES} is corrupt: deleted"


def test_an_intact_archive_of_something_else_is_not_mistaken_for_mnist(filled, load, reported, small, published):
    (filled / LABELS.removesuffix(".gz")).unlink()
    (filled / LABELS).write_bytes(gzip.compress(b"something else"))
    assert load(published.as_uri()).digest == small.digest
    assert reported[0] == f"{filled / LABELS} is corrupt: deleted"


# A folder that cannot be used


def test_a_root_that_is_a_file_is_refused_by_name(tmp_path):
    root = tmp_path / "digits"
    root.write_text("a file")
    with pytest.raises(UnusableRoot) as refusal:
        load_mnist(root, mirrors=[])
    assert str(refusal.value).startswith(f"data.root={root}: Not a directory: {root}")
    assert str(refusal.value).endswith("; choose a folder that can be read and written")
