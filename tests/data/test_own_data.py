"""Data of the user's own: what may be returned is understood, the rest refused in one line."""

import re
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from digits_sweep.config.schema import OwnDataConfig
from digits_sweep.data import own
from digits_sweep.data.digits import scale
from digits_sweep.data.labels import description, for_loss
from digits_sweep.data.own import load_own
from digits_sweep.errors import InvalidConfig

IMAGES, LABELS = torch.arange(6 * 3 * 4 * 4, dtype=torch.uint8).view(6, 3, 4, 4), torch.arange(6) % 3
FLOATS = (IMAGES.float() - 7) / 100
PAIR = (FLOATS, LABELS)


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


class Ends(IterableDataset):
    def __iter__(self):
        return iter(list(zip(FLOATS, LABELS, strict=True)))


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield torch.zeros(1_000_000), 0


@pytest.fixture
def load_from(monkeypatch):
    """Load what a function returns that a user has written, with its labels as a loss takes them."""

    def load_from_function(function, report=lambda line: None, loss="cross_entropy", num_classes=None, **keys):
        monkeypatch.setitem(sys.modules, "made_up", SimpleNamespace(made=function))
        data = OwnDataConfig(target="made_up:made", num_classes=num_classes, **keys)
        return for_loss(load_own(data, report), loss, num_classes)

    return load_from_function


@pytest.fixture
def load(load_from):
    """Load a training and a test set, by default the same."""
    return lambda train, test=None, **keys: load_from(lambda: (train, train if test is None else test), **keys)


@pytest.mark.parametrize(
    ("images", "shape"),
    [
        (IMAGES, (3, 4, 4)),
        (IMAGES[:, 0], (1, 4, 4)),
        (FLOATS, (3, 4, 4)),
        (FLOATS[:, 0], (4, 4)),
        (FLOATS.flatten(1), (48,)),
        (FLOATS.double(), (3, 4, 4)),
        (IMAGES.numpy(), (3, 4, 4)),
        (FLOATS[:, 0, 0].tolist(), (4,)),
        (list(FLOATS), (3, 4, 4)),
        (pd.DataFrame(FLOATS[:, 0, 0].numpy()), (4,)),
        (pd.Series(FLOATS[:, 0, 0, 0].numpy()), (1,)),
        (IMAGES[:, 0, 0].long(), (4,)),
        (IMAGES[:, 0, 0].int().tolist(), (4,)),
    ],
)
def test_inputs_have_any_shape_and_kind(load, images, shape):
    digits = load((images, LABELS.int()))
    assert (digits.image_shape, digits.num_classes) == (shape, 3)
    assert digits.train_images.dtype in (torch.uint8, torch.float32, torch.int64)
    values = torch.as_tensor(np.array(np.asarray(images))).to(digits.train_images.dtype)
    assert torch.equal(digits.train_images, values.reshape(digits.train_images.shape))
    assert digits.train_labels.dtype is torch.int64


def test_only_uint8_images_are_scaled_and_tokens_stay_whole():
    assert torch.equal(scale(FLOATS, "standard"), FLOATS)
    assert torch.equal(scale(FLOATS[:, 0], "unit"), FLOATS[:, 0])
    assert torch.equal(scale(IMAGES, "unit"), IMAGES.float() / 255)
    assert torch.equal(scale(IMAGES[:, 0], "raw"), IMAGES[:, :1].float())
    assert scale(IMAGES[:, 0].long(), "unit").dtype is torch.int64


def test_features_of_a_table_are_quantities_not_tokens(load):
    table = pd.DataFrame({"age": [30, 40, 50], "label": ["old", "young", "old"]})
    digits = load(table)
    assert digits.train_images.tolist() == [[30], [40], [50]]
    assert digits.train_images.dtype is torch.float32
    assert digits.class_names == ("old", "young")


def collated(examples):
    return {"x": torch.stack([image for image, _ in examples]), "y": [label for _, label in examples]}


EXAMPLES = list(zip(FLOATS, LABELS.tolist(), strict=True))
SETS = {
    "pairs": Items(*EXAMPLES),
    "a list of pairs": EXAMPLES,
    "three values": Items(*((*example, "more") for example in EXAMPLES)),
    "dictionaries": Items(*({"image": image, "label": label} for image, label in EXAMPLES)),
    "Hugging Face's": Items(*({"pixel_values": image, "labels": label, "id": "a"} for image, label in EXAMPLES)),
    "a dictionary of columns": {"x": FLOATS, "y": LABELS},
    "a loader": DataLoader(TensorDataset(*PAIR), batch_size=4),
    "a loader with a collate function": DataLoader(Items(*EXAMPLES), batch_size=4, collate_fn=collated),
    "a loader of an iterable": DataLoader(Ends()),
    "an iterable that ends": Ends(),
    "a TensorDataset": TensorDataset(*PAIR),
    "numbers of NumPy": Items(*((image.numpy(), np.int32(label)) for image, label in EXAMPLES)),
    "labels of one element": Items(*((image, torch.tensor([label])) for image, label in EXAMPLES)),
}  # fmt: skip


@pytest.mark.parametrize("kind", SETS)
def test_a_set_is_of_any_kind_that_gives_inputs_and_labels(load, kind):
    digits = load(SETS[kind])
    assert torch.equal(digits.train_images, FLOATS)
    assert torch.equal(digits.train_labels, LABELS)
    assert torch.equal(digits.test_images, FLOATS)


def test_a_generator_is_an_iterable_that_ends(load):
    assert torch.equal(load((example for example in EXAMPLES), PAIR).train_images, FLOATS)


def test_images_of_pillow_are_taken_channels_first(load):
    colors, gray = (Image.fromarray(np.full(shape, 7, dtype=np.uint8)) for shape in ((5, 4, 3), (5, 4)))
    assert load(Items((colors, 0), (colors, 1))).image_shape == (3, 5, 4)
    assert load(Items((gray, 0), (gray, 1))).image_shape == (1, 5, 4)


def test_a_dataset_is_read_once_through_its_own_transforms(load):
    lines = []
    items = [(image * 2, label) for image, label in zip(FLOATS, LABELS, strict=True)]
    digits = load(Items(*items), TensorDataset(FLOATS, LABELS), report=lines.append)
    assert torch.equal(digits.train_images, FLOATS * 2)
    assert torch.equal(digits.test_images, FLOATS)
    assert lines[0] == "reading 6 training examples of made_up:made into memory"


ONE_HOT = torch.nn.functional.one_hot(LABELS)
NAMES = np.array(["cat", "dog", "owl"])[LABELS]
TAKEN = {
    "whole numbers": (LABELS.int(), ""),
    "a column": (LABELS.reshape(-1, 1), "labels of 6 x 1 as a column of 6"),
    "one-hot": (ONE_HOT, "one-hot labels of 6 x 3 as classes"),
    "one-hot floats": (ONE_HOT.float(), "one-hot labels of 6 x 3 as classes"),
    "float whole numbers": (LABELS.double(), "labels are whole numbers as floats"),
    "text": (NAMES.tolist(), "labels from text"),
    "text in an array": (NAMES, "labels from text"),
    "text in a column": (pd.Series(NAMES), "labels from text"),
    "categories": (pd.Series(NAMES, dtype="category"), "labels from pandas categories"),
    "a categorical": (pd.Categorical(NAMES), "labels from pandas categories"),
    "whole numbers in a column": (pd.Series(LABELS.numpy()), ""),
    "objects": (np.array(LABELS.tolist(), dtype=object), ""),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_labels_of_any_kind_are_taken_and_what_was_converted_is_said(load, kind):
    labels, note = TAKEN[kind]
    digits = load((FLOATS, labels))
    assert torch.equal(digits.train_labels, LABELS)
    assert digits.notes == ((note,) if note else ())
    assert digits.class_names == (("cat", "dog", "owl") if note.startswith("labels from") else ())


def test_text_means_the_same_class_in_both_sets(load):
    digits = load((FLOATS[:2], ["b", "c"]), (FLOATS[2:4], ["c", "a"]))
    assert (digits.train_labels.tolist(), digits.test_labels.tolist()) == ([1, 2], [2, 0])
    assert digits.notes[-1] == "WARNING: class a has no example to train on"


@pytest.mark.parametrize("labels", [LABELS.bool(), LABELS % 2])
def test_two_classes_may_be_true_and_false(load, labels):
    assert load((FLOATS, labels)).num_classes == 2


def test_labels_may_be_numbers_shares_or_lie_at_every_place(load):
    numbers = torch.rand(6, 2)
    assert torch.equal(load((FLOATS, numbers), loss="mse").train_labels, numbers)
    shares = numbers / numbers.sum(1, keepdim=True)
    assert torch.equal(load((FLOATS, shares)).train_labels, shares)
    places = torch.randint(4, (6, 5))
    places[0, 0] = -100
    assert torch.equal(load((FLOATS, places)).train_labels, places)
    several = torch.tensor([[0, 1, 1]] * 6)
    assert torch.equal(load((FLOATS, several), loss="bce").train_labels, several.float())


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


@pytest.mark.parametrize(
    "returned",
    [
        (torch.rand(50, 3), torch.arange(50) % 5),
        {"data": np.ones((50, 3)), "target": np.arange(50) % 5, "feature_names": ["a", "b", "c"]},
        TensorDataset(torch.rand(50, 3), torch.arange(50) % 5),
        {"train": TensorDataset(torch.rand(50, 3), torch.arange(50) % 5)},
    ],
)
def test_one_set_is_split_by_class_the_same_every_time(load_from, returned):
    digits, again = (load_from(lambda: returned, test_fraction=0.2) for _ in range(2))
    assert digits.test_labels.bincount().tolist() == [2] * 5
    assert digits.train_labels.bincount().tolist() == [8] * 5
    assert digits.digest == again.digest
    assert digits.notes[0] == "one set: 20 % of it, by class, are the test set"


def test_one_set_without_classes_is_split_by_chance(load_from):
    digits = load_from(lambda: (torch.rand(50, 3), torch.rand(50)), loss="mse", test_fraction=0.2)
    assert (len(digits.train_labels), len(digits.test_labels)) == (40, 10)
    assert digits.notes[0] == "one set: 20 % of it, drawn, are the test set"


def test_a_dictionary_may_have_a_training_and_a_test_set(load_from):
    digits = load_from(lambda: {"train": PAIR, "validation": (FLOATS[:2], LABELS[:2])})
    assert len(digits.test_labels) == 2


SEEN = [
    ((IMAGES, LABELS), "made_up:made: 6 + 6 images 3 x 4 x 4 uint8, 3 classes"),
    ((IMAGES[:, 0, 0].long(), NAMES), "made_up:made: 6 + 6 sequences of 4 tokens, classes cat, dog and owl"),
    ((FLOATS[:, 0, 0], [0, 0, 0, 1, 1, 2]), "6 + 6 rows of 4 float32 features, 3 classes, 3 : 1 imbalanced"),
]


@pytest.mark.parametrize(("train", "line"), SEEN)
def test_what_was_seen_is_one_line(load, train, line):
    assert description(load(train)).endswith(line)


WARNINGS = {
    "images of 8 x 8 x 3 look like channels last": (torch.zeros(6, 8, 8, 3), LABELS),
    "uint8 images of 0 and 1": (IMAGES % 2, LABELS),
    "values up to 255, which are trained on as they are: divide them by 255": (torch.full((6, 1, 2, 2), 255.0), LABELS),
    "values up to 1,680, which are trained on as they are: standardize": (torch.full((6, 4), 1680.0), LABELS),
}


@pytest.mark.parametrize("line", WARNINGS)
def test_what_is_seldom_meant_is_a_warning(load, line):
    (note,) = load(WARNINGS[line]).notes
    assert note.startswith(f"WARNING: {line}")


def test_a_class_that_never_occurs_is_a_warning_with_its_name(load):
    assert load(PAIR, num_classes=5).notes == ("WARNING: classes 3 and 4 have no example",)


NAN = FLOATS.clone()
NAN[4, 0, 0, 0] = float("nan")
REFUSED = [
    (3, "its training set is int; must be a pair of inputs and labels, or a data set"),
    (Items(), "its training set has no examples"),
    ((FLOATS, LABELS[:5]), "its training set has inputs of 6 x 3 x 4 x 4 and labels of 5, must be (n, ...)"),
    ((FLOATS[:0], LABELS[:0]), "its training set has inputs of 0 x 3 x 4 x 4 and labels of 0, must be (n, ...)"),
    ((NAN, LABELS), "its training input 4 has values that are NaN or infinite"),
    ((FLOATS, LABELS + 0.5), "its labels such as 0.5 are no classes; loss=mse is for a regression"),
    ((FLOATS, [[0.0, 1, 1]] * 6), "its labels with several ones a row are no classes; loss=bce is for several labels"),
    ((FLOATS, LABELS + 1), "its labels are 1 to 3, must be 0 to 2: subtract 1"),
    ((FLOATS, LABELS - 1), "its labels are -1 to 1, must be whole numbers from 0 up"),
    ((FLOATS, LABELS * 0), "all of its labels are 0; needs two classes at least"),
    ((FLOATS, [None, *NAMES[1:]]), "has labels that are missing"),
    ((FLOATS, torch.full((6,), float("nan"))), "has labels that are NaN or infinite"),
    (([[1, 2], [3]], [0, 1]), "its training inputs are list of 2, must be numbers, all of one shape: pad sequences"),
    ((["a text", "another"], [0, 1]), "its training inputs are list of 2, must be numbers"),
    (pd.DataFrame({"city": ["Rio"], "label": [0]}), "its training column city is"),
    (pd.DataFrame({"a": [1], "b": [0]}), "its training set is a table of a, b: call the column of labels label"),
    (Items(("an image", 1)), "its training input 0 is str, must be a tensor, an array, an image"),
    (Items(*EXAMPLES[:1], ({"a": 1}, 1)), "its training input 1 is dict, must be a tensor"),
    (Items({"image": FLOATS[0]}), "its training example 0 has image; must have one of label, labels"),
    (Items(FLOATS[0]), "its training example 0 is Tensor, must be a pair of an input and a label"),
    (Items((FLOATS[0], 1), (IMAGES[0], 1)), "its training input 1 is of 3 x 4 x 4 torch.uint8, but its first one of"),
    (Items((FLOATS[0], 1), count=2), "fails at training example 1 (IndexError: tuple index out of range)"),
    (Random(count=4), "its training set gives another image when it is read again; images are read once"),
    (Items((torch.zeros(3, 500, 500), 1), count=10**9), "its training set of 1,000,000,000 inputs of 3 x 500 x 500"),
]


@pytest.mark.parametrize(("train", "line"), REFUSED, ids=[line for _, line in REFUSED])
def test_what_is_no_data_to_train_on_is_refused_in_one_line(load, train, line):
    with pytest.raises(InvalidConfig, match=f"^data.target=made_up:made: {re.escape(line)}|^made_up") as refused:
        load(train)
    assert len(str(refused.value).splitlines()) == 1


def test_more_labels_than_typed_are_refused(load):
    right = "must be at least 3, as made_up:made has labels 0 to 2"
    with pytest.raises(InvalidConfig, match=rf"^data\.num_classes=2: {right}$"):
        load(PAIR, num_classes=2)


def test_an_iterable_that_does_not_end_is_refused_before_memory_is_full(load, monkeypatch):
    monkeypatch.setattr(own, "free_memory", lambda: 100_000_000)
    with pytest.raises(InvalidConfig, match="which do not fit into memory: it must end before"):
        load(Endless(), PAIR)


@pytest.mark.parametrize(
    ("test", "line"),
    [
        ((FLOATS.flatten(1), LABELS), "training and test inputs of 3 x 4 x 4 and 48, must be of one shape"),
        ((IMAGES, LABELS), "training and test inputs of float32 and uint8, must be of one kind"),
        ((FLOATS, LABELS.float()), "labels of 6 torch.int64 and 6 torch.float32, must be of one kind"),
    ],
)
def test_both_sets_are_of_one_kind(load, test, line):
    with pytest.raises(InvalidConfig, match=line):
        load(PAIR, test)


@pytest.mark.parametrize("returned", [None, 3, (PAIR, PAIR, PAIR), {"a": PAIR}, (FLOATS, FLOATS, LABELS, LABELS)])
def test_a_function_returns_one_or_two_sets(load_from, returned):
    with pytest.raises(InvalidConfig, match=r"returns .+"):
        load_from(lambda: returned)


def test_data_that_do_not_fit_into_the_memory_that_is_free_are_refused(load, monkeypatch):
    monkeypatch.setattr(own, "free_memory", lambda: 4 * IMAGES.numel())
    assert load((IMAGES, LABELS)).train_images.dtype is torch.uint8
    monkeypatch.setattr(own, "free_memory", lambda: 4 * IMAGES.numel() - 1)
    with pytest.raises(InvalidConfig, match=r"6 inputs of 3 x 4 x 4 needs .* GB are free"):
        load((IMAGES, LABELS))
