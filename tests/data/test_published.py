"""Published data sets on disk: what is loaded, from which files, and what happens to files that are corrupt."""

import gzip
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from digits_sweep.config.schema import DataConfig
from digits_sweep.data import published as module
from digits_sweep.data.loading import make_ready
from digits_sweep.data.published import EMNIST_DIGITS, EMNIST_LETTERS, FASHION_MNIST, KMNIST, MNIST, QMNIST
from digits_sweep.errors import DataUnavailable, UnusableRoot
from tests.data.conftest import COUNTS, everything_in, md5, memory_below, publish, values_of
from tests.mirror import IMAGES, LABELS, TEST_IMAGES, load_mnist
from tests.workloads import settings

every = pytest.mark.parametrize(
    "data", [MNIST, FASHION_MNIST, KMNIST, QMNIST, EMNIST_DIGITS, EMNIST_LETTERS], ids=lambda data: data.name
)
COPY = TEST_IMAGES.removesuffix(".gz")


# What is loaded


def test_mnist_has_the_digits_that_were_published(mnist_root):
    mnist = load_mnist(mnist_root)
    assert mnist.digest == "1e35582d42a90940c55b956deb61875c020b567ed20e3c5b174f52bf7809ed9b"
    trained_on = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert mnist.train_labels.bincount().tolist() == trained_on
    assert mnist.test_labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.full
def test_torchvision_reads_the_same_digits_from_the_same_folder(mnist_root):
    from torchvision import datasets

    mnist, train, test = load_mnist(mnist_root), datasets.MNIST(mnist_root), datasets.MNIST(mnist_root, train=False)
    assert torch.equal(train.data, mnist.train_images)
    assert torch.equal(train.targets, mnist.train_labels)
    assert torch.equal(test.data, mnist.test_images)
    assert torch.equal(test.targets, mnist.test_labels)


@pytest.mark.full
def test_every_md5_is_torchvisions():
    from torchvision import datasets

    for data in (MNIST, FASHION_MNIST, KMNIST):
        theirs = getattr(datasets, data.title)
        assert (data.md5, list(data.mirrors)) == (dict(theirs.resources), theirs.mirrors)
    qmnist = [*datasets.QMNIST.resources["train"], *datasets.QMNIST.resources["test"]]
    assert {QMNIST.mirrors[0] + name: digest for name, digest in QMNIST.md5.items()} == dict(qmnist)
    for data in (EMNIST_DIGITS, EMNIST_LETTERS):
        assert data.md5 == {"gzip.zip": datasets.EMNIST.md5}
        assert data.mirrors[0] + "gzip.zip" == datasets.EMNIST.url


@every
def test_images_are_upright_and_labels_count_from_0(data, load, tmp_path):
    digits = load(tmp_path.as_uri(), data=publish(data, tmp_path))
    parts = [values_of(part, count) for part, count in zip(data.parts or data.md5, COUNTS, strict=True)]
    for images, values in ((digits.train_images, parts[0]), (digits.test_images, parts[2])):
        assert images.dtype == torch.uint8
        assert np.array_equal(images.numpy(), values.transpose(0, 2, 1) if data.title == "EMNIST" else values)
    for labels, values in ((digits.train_labels, parts[1]), (digits.test_labels, parts[3])):
        classes = values[:, 0] if values.ndim == 2 else values - (data.name == "emnist_letters")
        assert (labels.dtype, labels.tolist()) == (torch.int64, classes.tolist())
    assert digits.name == data.name
    assert digits.num_classes == settings(f"data={data.name}", "model.head=logits").model.num_classes


def test_both_splits_of_emnist_are_read_from_one_archive(load, tmp_path):
    splits = [publish(data, tmp_path) for data in (EMNIST_DIGITS, EMNIST_LETTERS)]
    digits, letters = (replace(split, md5={"gzip.zip": md5(tmp_path / "gzip.zip")}) for split in splits)
    assert load(tmp_path.as_uri(), data=digits).num_classes == 10
    assert load(data=letters).num_classes == 26


# Which files it is read from


@every
def test_a_data_set_is_fetched_once_from_the_first_mirror_into_a_folder_of_its_own_and_read_from_there(
    data, load, reported, serve, root, tmp_path
):
    data, serving, raw = publish(data, tmp_path / "small"), serve({}, tmp_path / "small"), root / data.title / "raw"
    digits = load(serving.address, "ftp://mirror", data=data)
    assert reported == [f"fetching {serving.address}{archive} to {raw}" for archive in data.md5]
    assert load(data=data).digest == digits.digest
    assert serving.downloads == dict.fromkeys(data.md5, 1)
    assert everything_in(raw).keys() == {*data.md5, *data.sha256}


def test_a_data_set_comes_from_its_own_mirrors_unless_others_are_typed(published, archives, root, digest):
    data = replace(published, mirrors=(archives.as_uri(),))
    assert module.load_published(data, root, None, 60, lambda line: None).digest == digest


@pytest.mark.parametrize("left", [["*"], ["*.gz"], ["*-ubyte"], ["train*.gz", "t10k*-ubyte"]], ids=" and ".join)
def test_what_an_earlier_command_or_torchvision_left_is_read_without_a_mirror(left, filled, load, reported, digest):
    for path in set(filled.iterdir()) - {path for pattern in left for path in filled.glob(pattern)}:
        path.unlink()
    assert load().digest == digest
    assert reported == []


def test_without_files_and_without_mirrors_both_are_named(load, raw):
    with pytest.raises(DataUnavailable) as unavailable:
        load()
    assert str(unavailable.value) == f"MNIST is not in {raw}, and data.mirrors names no mirror"


def test_a_root_that_is_a_file_is_refused_by_name(root, load):
    root.write_text("a file")
    with pytest.raises(UnusableRoot) as refusal:
        load()
    reason = f"Not a directory: {root / 'MNIST' / 'raw'}; choose a folder that can be read and written"
    assert str(refusal.value) == f"data.root={root}: {reason}"


@pytest.mark.parametrize("name", ["fashion_mnist", "kmnist", "qmnist", "emnist_digits", "emnist_letters"])
def test_no_digits_of_mnist_take_the_place_of_another_data_set(name, tmp_path):
    config = DataConfig(name, 10, 20, 0, "unit", str(tmp_path), ["ftp://mirror"], 1.0, "mnist_sample")
    # The folder and the mirrors are those of the configuration.
    with pytest.raises(DataUnavailable, match=rf"MNIST is not in {tmp_path}.*\n  ftp://mirror: not an address"):
        make_ready(config, lambda line: None)


# What happens to a corrupt file, and to one of somebody else's: nothing is deleted or replaced


def cut_short(content):
    return content[:-100]


def flip_a_bit(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def empty(content):
    return b""


@pytest.mark.parametrize(
    ("data", "name", "damage"),
    [
        (MNIST, COPY, cut_short),
        (MNIST, COPY, empty),
        (MNIST, TEST_IMAGES, cut_short),
        (MNIST, TEST_IMAGES, flip_a_bit),
        (MNIST, TEST_IMAGES, empty),
        (KMNIST, LABELS, flip_a_bit),
        (EMNIST_LETTERS, "gzip.zip", cut_short),
    ],
)
def test_a_corrupt_file_is_kept_under_another_name_and_it_alone_is_made_again(
    data, name, damage, root, load, reported, serve, tmp_path
):
    data, serving, raw = publish(data, tmp_path / "small"), serve({}, tmp_path / "small"), root / data.title / "raw"
    digest = load(serving.address, data=data).digest
    serving.downloads.clear()
    reported.clear()
    content = damage((raw / name).read_bytes())
    (raw / COPY).unlink(missing_ok=True)
    (raw / name).write_bytes(content)
    assert load(serving.address, data=data).digest == digest
    assert serving.downloads == ({} if name == COPY else {name: 1})
    assert reported[0] == f"{raw / name} is corrupt: kept as {name}.corrupt"
    assert (raw / f"{name}.corrupt").read_bytes() == content


def test_a_second_corrupt_file_does_not_take_the_place_of_the_first(filled, load):
    for content in (b"first", b"second"):
        (filled / COPY).write_bytes(content)
        load()
    assert (filled / f"{COPY}.corrupt").read_bytes() == b"first"
    assert (filled / f"{COPY}.corrupt-2").read_bytes() == b"second"


def fashionable(raw):
    """Write FashionMNIST's archives and copies, whose names are MNIST's."""
    publish(FASHION_MNIST, raw, seed=1)
    for archive in list(raw.iterdir()):
        archive.with_suffix("").write_bytes(gzip.decompress(archive.read_bytes()))


@pytest.mark.parametrize(
    ("data", "write", "name"),
    [
        (MNIST, fashionable, "train-images-idx3-ubyte"),
        (MNIST, lambda raw: (raw / LABELS).write_bytes(gzip.compress(b"something else")), LABELS),
        (KMNIST, fashionable, IMAGES),
        (EMNIST_LETTERS, lambda raw: publish(EMNIST_DIGITS, raw), "gzip.zip"),
    ],
    ids=["copies", "an archive", "archives", "a zip"],
)
def test_whole_files_of_another_data_set_are_refused_and_stay_as_they_are(
    data, write, name, load, serve, root, tmp_path
):
    data, serving, raw = publish(data, tmp_path / "small"), serve({}, tmp_path / "small"), root / data.title / "raw"
    raw.mkdir(parents=True)
    write(raw)
    before = everything_in(raw)
    with pytest.raises(UnusableRoot) as refusal:
        load(serving.address, data=data)
    assert str(refusal.value) == (
        f"data.root={root}: {raw / name} has {data.title}'s name and another content; "
        "move it away if nothing needs it, or choose another data.root"
    )
    assert (serving.downloads, everything_in(raw)) == ({}, before)


@pytest.mark.full
def test_an_archive_that_inflates_costs_little_memory(raw, load):
    """Half a megabyte that holds half a gigabyte, and an end that nobody unpacks."""
    packer = zlib.compressobj(9, wbits=31)
    (raw / IMAGES).write_bytes(b"".join(packer.compress(bytes(2**24)) for _ in range(32)))
    with memory_below(2**25), pytest.raises(UnusableRoot, match="another content"):
        load()


def test_a_file_that_another_program_writes_meanwhile_is_not_replaced(raw, load, archives, monkeypatch):
    def download_after_another_program(*arguments):
        (raw / IMAGES).write_bytes(b"theirs")
        return download(*arguments)

    download = module._download
    monkeypatch.setattr(module, "_download", download_after_another_program)
    with pytest.raises(UnusableRoot, match=f"another program is writing {raw / IMAGES}"):
        load(archives.as_uri())
    assert everything_in(raw) == {IMAGES: b"theirs"}


def test_what_a_killed_process_left_is_removed(raw, load, archives):
    (raw / ".digits_sweep_download_x").mkdir()
    (raw / ".digits_sweep_download_x" / "half").write_bytes(b"")
    load(archives.as_uri())
    assert everything_in(raw).keys() == {*MNIST.md5, *MNIST.sha256}
