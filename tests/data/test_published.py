"""The data sets that have MNIST's form: synthetic archives of their layout, from a mirror, in a folder of their own."""

import gzip
import hashlib
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from digits_sweep.config.plan import plan
from digits_sweep.config.schema import DataConfig
from digits_sweep.data import published as mnist
from digits_sweep.data.digits import Digits
from digits_sweep.data.loading import load, make_ready
from digits_sweep.data.published import Published, load_published
from digits_sweep.errors import DataUnavailable, UnusableRoot
from tests import mirror as faulty
from tests.mirror import mirror
from tests.workloads import settings

ALL = (mnist.FASHION_MNIST, mnist.KMNIST, mnist.QMNIST, mnist.EMNIST_DIGITS, mnist.EMNIST_LETTERS)
named = pytest.mark.parametrize("published", ALL, ids=lambda published: published.name)
COUNTS = (30, 30, 20, 20)


def idx(values: np.ndarray) -> bytes:
    kind = {"u1": 0x08, "i4": 0x0C}[values.dtype.str[1:]]
    return bytes([0, 0, kind, values.ndim]) + np.array(values.shape, ">u4").tobytes() + values.tobytes()


def values_of(part: str, count: int) -> np.ndarray:
    """Random images, or labels in the form of their data set: QMNIST has eight numbers for each, the class first."""
    random = np.random.default_rng(len(part))
    if "images" in part:
        return random.integers(0, 256, (count, 28, 28), np.uint8)
    classes = random.permutation(np.arange(count) % (26 if "letters" in part else 10)) + ("letters" in part)
    if "idx2-int" in part:
        return np.column_stack([classes, random.integers(0, 1_000, (count, 7))]).astype(">i4")
    return classes.astype(np.uint8)


def publish(published: Published, folder: Path) -> Published:
    """Write archives of the data set's layout; return it with their md5."""
    contents = {
        part: gzip.compress(idx(values_of(part, count))) for part, count in zip(published.parts, COUNTS, strict=True)
    }
    for archive in published.archives:
        if archive.endswith(".zip"):
            with zipfile.ZipFile(folder / archive, "w") as file:
                for part, content in contents.items():
                    file.writestr(part.partition("/")[2], content)
        else:
            (folder / archive).write_bytes(contents[archive])
    return replace(published, archives={name: md5(folder / name) for name in published.archives})


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.fixture
def served(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    return folder


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[..., Digits]:
    def load_here(published: Published, *mirrors: str) -> Digits:
        return load_published(published, tmp_path / "root", mirrors, 60, report=lambda line: None)

    return load_here


@named
def test_a_data_set_is_fetched_once_into_a_folder_of_its_own_and_read_from_there(published, served, loaded, tmp_path):
    published = publish(published, served)
    with mirror(served) as serving:
        digits = loaded(published, serving.address)
        assert serving.downloads == dict.fromkeys(published.archives, 1)
    assert {path.name for path in (tmp_path / "root" / published.title / "raw").iterdir()} == set(published.archives)
    assert loaded(published).digest == digits.digest
    assert digits.name == published.name


@pytest.mark.sampled(5)
@named
def test_images_are_upright_and_labels_count_from_0(published, served, loaded):
    digits = loaded(publish(published, served), served.as_uri())
    parts = [values_of(part, count) for part, count in zip(published.parts, COUNTS, strict=True)]
    for images, expected in ((digits.train_images, parts[0]), (digits.test_images, parts[2])):
        upright = expected.transpose(0, 2, 1) if published.title == "EMNIST" else expected
        assert images.dtype == torch.uint8
        assert np.array_equal(images.numpy(), upright)
    for labels, expected in ((digits.train_labels, parts[1]), (digits.test_labels, parts[3])):
        classes = expected[:, 0] if expected.ndim == 2 else expected - (published.name == "emnist_letters")
        assert labels.dtype == torch.int64
        assert labels.tolist() == classes.tolist()
    assert digits.num_classes == settings(f"data={published.name}", "model.head=logits").model.num_classes


@named
def test_an_archive_that_differs_by_a_bit_is_given_up(published, served, loaded):
    published, name = publish(published, served), next(iter(published.archives))
    with mirror(served, {name: faulty.flipped}) as serving, pytest.raises(DataUnavailable) as unavailable:
        loaded(published, serving.address)
    assert str(unavailable.value).startswith(f"{published.title} is not in ")
    assert str(unavailable.value).endswith(f"{serving.address}: {name} is corrupt (md5 differs)")
    with pytest.raises(DataUnavailable, match=f"{name} is corrupt"):
        loaded(replace(published, archives=published.archives | {name: "0" * 32}), served.as_uri())


@named
def test_an_archive_that_is_cut_short_is_kept_under_another_name_and_fetched_again(published, served, loaded, tmp_path):
    published, name = publish(published, served), next(iter(published.archives))
    raw = tmp_path / "root" / published.title / "raw"
    raw.mkdir(parents=True)
    (raw / name).write_bytes((served / name).read_bytes()[:-100])
    loaded(published, served.as_uri())
    assert sorted(path.name for path in raw.iterdir()) == sorted([*published.archives, f"{name}.corrupt"])


@pytest.mark.parametrize("published", [mnist.KMNIST, mnist.EMNIST_LETTERS], ids=["gz", "zip"])
def test_an_archive_of_somebody_else_with_the_same_name_stays_as_it_is(published, served, loaded, tmp_path):
    name = next(iter(published.archives))
    publish(published, served)
    raw = tmp_path / "root" / published.title / "raw"
    raw.mkdir(parents=True)
    (raw / name).write_bytes((served / name).read_bytes())
    with pytest.raises(UnusableRoot, match=f"{name} has {published.title}'s name and another content"):
        loaded(published, served.as_uri())
    assert md5(raw / name) == md5(served / name)


def test_both_splits_of_emnist_are_read_from_one_archive(served, loaded):
    both = [mnist.EMNIST_DIGITS, mnist.EMNIST_LETTERS]
    for published in both:
        (served / published.name).mkdir()
        publish(published, served / published.name)
    with zipfile.ZipFile(served / "gzip.zip", "w") as archive:
        for published in both:
            with zipfile.ZipFile(served / published.name / "gzip.zip") as part:
                for member in part.namelist():
                    archive.writestr(member, part.read(member))
    first, second = (replace(each, archives={"gzip.zip": md5(served / "gzip.zip")}) for each in both)
    assert loaded(first, served.as_uri()).num_classes == 10
    assert loaded(second).num_classes == 26


def test_a_data_set_comes_from_its_own_mirrors_unless_others_are_typed(served, tmp_path):
    published = replace(publish(mnist.KMNIST, served), mirrors=(served.as_uri(),))
    assert load_published(published, tmp_path / "root", None, 60, report=lambda line: None).name == "kmnist"


@named
def test_the_registry_passes_on_where_a_data_set_is_and_where_it_comes_from(published, tmp_path):
    data = DataConfig(published.name, 10, 20, 0, "unit", str(tmp_path), ["ftp://mirror"], 1.0, None)
    with pytest.raises(DataUnavailable, match=f"{published.title} is not in {tmp_path}") as unavailable:
        load(data, published.name, lambda line: None)
    assert "ftp://mirror: not an address" in str(unavailable.value)


@pytest.mark.full
def test_every_md5_is_torchvisions():
    from torchvision import datasets

    for published in (mnist.MNIST, mnist.FASHION_MNIST, mnist.KMNIST):
        theirs = getattr(datasets, published.title)
        assert published.archives == dict(theirs.resources)
        assert list(published.mirrors) == theirs.mirrors
    qmnist = [*datasets.QMNIST.resources["train"], *datasets.QMNIST.resources["test"]]
    (address,) = mnist.QMNIST.mirrors
    assert {address + name: md5 for name, md5 in mnist.QMNIST.archives.items()} == dict(qmnist)
    for published in (mnist.EMNIST_DIGITS, mnist.EMNIST_LETTERS):
        assert published.archives == {"gzip.zip": datasets.EMNIST.md5}
        assert published.mirrors[0] + "gzip.zip" == datasets.EMNIST.url


@named
def test_no_digits_of_mnist_take_the_place_of_another_data_set(published, tmp_path):
    data = DataConfig(published.name, 10, 20, 0, "unit", str(tmp_path), [], 1.0, "mnist_sample")
    with pytest.raises(DataUnavailable, match=f"{published.title} is not in"):
        make_ready(data, lambda line: None)


@pytest.mark.full
def test_data_sets_of_several_mirrors_are_one_sweep():
    planned = plan(["-m", "data=mnist,mnist_sample,optdigits,fashion_mnist,emnist_letters", "model.head=logits"])
    assert [run.config.model.num_classes for run in planned.runs] == [10, 10, 10, 10, 26]
