"""Data of the user's own: what may be returned, and what is refused in one line."""

import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from digits_sweep.config.schema import OwnDataConfig
from digits_sweep.data import own
from digits_sweep.data.digits import scale
from digits_sweep.data.own import load_own
from digits_sweep.errors import InvalidConfig

IMAGES, LABELS = torch.arange(6 * 3 * 4 * 4, dtype=torch.uint8).view(6, 3, 4, 4), torch.arange(6) % 3
FLOATS = IMAGES.float() - 7


class Items(Dataset):
    """A map-style data set of anything."""

    def __init__(self, *items, count=None):
        self.items, self.count = items, len(items) if count is None else count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return self.items[index]


class Random(Items):
    def __getitem__(self, index):
        return torch.rand(3), 1


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter([(torch.zeros(3), 0)])


@pytest.fixture
def load_from(monkeypatch):
    """Load what a function returns that a user has written."""

    def load_from_function(function, report=lambda line: None):
        monkeypatch.setitem(sys.modules, "made_up", SimpleNamespace(made=function))
        return load_own(OwnDataConfig(target="made_up:made"), report)

    return load_from_function


@pytest.fixture
def load(load_from):
    """Load a training and a test set, by default the same."""
    return lambda train, test=None, *report: load_from(lambda: (train, train if test is None else test), *report)


@pytest.mark.parametrize(
    ("images", "shape"),
    [
        (IMAGES, (3, 4, 4)),
        (IMAGES[:, 0], (1, 4, 4)),
        (FLOATS, (3, 4, 4)),
        (FLOATS.flatten(1), (48,)),
        (FLOATS.double(), (3, 4, 4)),
        (IMAGES.numpy(), (3, 4, 4)),
    ],
)
def test_images_have_any_shape_and_are_uint8_or_float32(load, images, shape):
    digits = load((images, LABELS.int()))
    assert (digits.image_shape, digits.num_classes) == (shape, 3)
    assert digits.is_float == (digits.train_images.dtype is torch.float32)
    assert torch.equal(digits.train_images, torch.as_tensor(images).to(digits.train_images.dtype))
    assert digits.train_labels.dtype is torch.int64


def test_only_uint8_images_are_scaled():
    assert torch.equal(scale(FLOATS, "standard"), FLOATS)
    assert torch.equal(scale(IMAGES, "unit"), IMAGES.float() / 255)
    assert torch.equal(scale(IMAGES[:, 0], "raw"), IMAGES[:, :1].float())


def test_a_dataset_is_read_once_through_its_own_transforms(load):
    lines = []
    items = [(image * 2, label) for image, label in zip(FLOATS, LABELS, strict=True)]
    digits = load(Items(*items), TensorDataset(FLOATS, LABELS), lines.append)
    assert torch.equal(digits.train_images, FLOATS * 2)
    assert torch.equal(digits.test_images, FLOATS)
    assert lines[0] == "reading 6 training examples of made_up:made into memory"


def test_numbers_of_numpy_are_labels_too(load):
    digits = load(Items((np.zeros((2, 2), dtype=np.float32), np.int32(1)), (torch.ones(2, 2), LABELS[:1])))
    assert digits.train_labels.tolist() == [1, 0]


def test_the_digest_is_of_values_and_of_their_layout(load):
    images = (IMAGES, IMAGES.clone(), IMAGES.flatten(1), IMAGES + 1)
    digest, same, flat, others = (load((tensor, LABELS)).digest for tensor in images)
    assert digest == same
    assert len({digest, flat, others}) == 3


def test_random_numbers_start_at_the_same_place_in_every_process(load_from):
    def made():
        return 2 * ((torch.rand(4, 3), torch.tensor([0, 1, 0, 1])),)

    before = torch.get_rng_state()
    assert load_from(made).digest == load_from(made).digest
    assert torch.equal(torch.get_rng_state(), before)


PAIR = (FLOATS, LABELS)
NAN = FLOATS.clone()
NAN[4, 0, 0, 0] = float("nan")
REFUSED = [
    (3, "its training set is int; must return (train, test), each a pair"),
    ((FLOATS, LABELS, LABELS), "its training set is tuple of 3; must return (train, test)"),
    (DataLoader(TensorDataset(*PAIR)), "its training set is DataLoader; must return (train, test)"),
    (Endless(), "its training set is Endless, which has no length; must return (train, test)"),
    (Items(), "its training set has no examples"),
    ((FLOATS, LABELS[:5]), "its training set has images of 6 x 3 x 4 x 4 and labels of 5, must be (n, ...) and (n,)"),
    ((FLOATS[:0], LABELS[:0]), "its training set has images of 0 x 3 x 4 x 4 and labels of 0, must be (n, ...)"),
    ((FLOATS[:, 0, 0, 0], LABELS), "its training set has images of 6 and labels of 6, must be (n, ...) and (n,)"),
    ((IMAGES.int(), LABELS), "its training images are torch.int32, must be uint8 or float"),
    ((NAN, LABELS), "its training image 4 has values that are NaN or infinite"),
    ((FLOATS, LABELS.float()), "its training labels are torch.float32, must be whole numbers from 0 up"),
    ((FLOATS, LABELS - 1), "its training labels have -1, must be whole numbers from 0 up"),
    (Items(("an image", 1)), "its training image 0 is str, must be a tensor: add a transform"),
    (Items((FLOATS[0], 0.5)), "its training label 0 is 0.5, must be a whole number from 0 up"),
    (Items((FLOATS[0], 1), (IMAGES[0], 1)), "its training image 1 is of 3 x 4 x 4 torch.uint8, but its first one of"),
    (Items((FLOATS[0], 1), count=2), "fails at training example 1 (IndexError: tuple index out of range)"),
    (Random(count=4), "its training set gives another image when it is read again; images are read once"),
    (Items((torch.zeros(3, 500, 500), 1), count=10**9), "its training set of 1,000,000,000 images of 3 x 500 x 500"),
]


@pytest.mark.parametrize(("train", "line"), REFUSED, ids=[line for _, line in REFUSED])
def test_what_is_no_data_to_train_on_is_refused_in_one_line(load, train, line):
    with pytest.raises(InvalidConfig, match=f"^data.target=made_up:made: {re.escape(line)}") as refused:
        load(train, PAIR)
    assert len(str(refused.value).splitlines()) == 1


def test_training_and_test_images_have_one_shape(load):
    with pytest.raises(InvalidConfig, match="training and test images of 3 x 4 x 4 and 48, must be of one shape"):
        load(PAIR, (FLOATS.flatten(1), LABELS))


@pytest.mark.parametrize("returned", [None, PAIR[0], (PAIR, PAIR, PAIR)])
def test_a_function_returns_a_training_and_a_test_set(load_from, returned):
    with pytest.raises(InvalidConfig, match=r"returns .+, must return \(train, test\)"):
        load_from(lambda: returned)


def test_data_that_do_not_fit_into_the_memory_that_is_free_are_refused(load, monkeypatch):
    monkeypatch.setattr(own, "free_bytes", lambda: 4 * IMAGES.numel())
    assert not load((IMAGES, LABELS)).is_float
    monkeypatch.setattr(own, "free_bytes", lambda: 4 * IMAGES.numel() - 1)
    with pytest.raises(InvalidConfig, match=r"6 images of 3 x 4 x 4 needs .* GB are free"):
        load((IMAGES, LABELS))
