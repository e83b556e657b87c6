"""Data of the user's own, from a function that `data.target` names: whatever it returns, understood or refused by name.

It returns (train, test), or one set that is split. A set is a pair of columns, a dictionary or a table with columns, a
map-style data set, a `DataLoader`, or an iterable that ends. PyTorch's random numbers start at 0 in the function, so
that made-up data are the same in every process.
"""

import hashlib
import math
import sys
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from digits_sweep.config.keys import default_of
from digits_sweep.config.own_code import called, changes_taken_back, errors_as_a_line
from digits_sweep.config.schema import OwnDataConfig
from digits_sweep.config.text import to_text
from digits_sweep.data import Report
from digits_sweep.data.digits import Digits, in_words
from digits_sweep.data.labels import Labels, joint_labels, refused
from digits_sweep.errors import InvalidConfig
from digits_sweep.machine import free_memory

# What data sets call their columns, Hugging Face's and scikit-learn's among them; the first name that occurs counts.
INPUT_NAMES = ("image", "images", "img", "pixel_values", "input_ids", "input", "inputs", "features", "data", "x", "X")
LABEL_NAMES = ("label", "labels", "target", "targets", "y", "class", "fine_label")
# What dictionaries of data sets call them.
TRAIN_NAMES, TEST_NAMES = ("train", "training"), ("test", "validation", "valid", "val")
REQUIRED = "must return (train, test), each a pair of inputs and labels or a data set, or one of them to be split"
# Examples of a data set that are read twice: a random transform makes another input of one of them, all but surely.
READ_TWICE = 10
GB = 1e9
# Inputs whose values reach beyond this train badly, with any optimizer.
LARGE = 100
# The channels that images have.
CHANNELS = (1, 3, 4)
# Inputs and labels, each a column or of one example, and what a user ought to know.
Pair = tuple[Any, Any, list[str]]


def name_of_own(data: OwnDataConfig) -> str:
    """Return what the data are called in a record: the function, its arguments, and how one set is split if typed."""
    share = {} if data.test_fraction == default_of("data.test_fraction") else {"test_fraction": data.test_fraction}
    return f"{data.target}{to_text(settings) if (settings := data.arguments | share) else ''}"


def load_own(data: OwnDataConfig, report: Report) -> Digits:
    """Call the function that `data.target` names, and return its data as tensors.

    Inputs are uint8, float32 or, if they are other whole numbers, int64; labels are int64 or float32. The notes of the
    data set say what was converted; `report` gets a line for every set that is read example by example. Raises
    `InvalidConfig` with one line if the data cannot be trained on or do not fit into memory.
    """
    target = str(data.target)
    with torch.random.fork_rng(devices=[]), changes_taken_back(f"data.target={target}"):
        torch.manual_seed(0)
        sets = _sets(target, called("data", target, data.arguments))
        read = [Reader(target, part, report).read(each) for part, each in zip(("training", "test"), sets, strict=False)]
    inputs, notes = [each for each, _, _ in read], read[0][2]
    labels = joint_labels(target, [column for _, column, _ in read])
    if len(inputs) == 1:
        how = ", by class," if _are_classes(labels.train) else ", drawn,"
        notes = [f"one set: {100 * data.test_fraction:.0f} % of it{how} are the test set", *notes]
        inputs, labels = _split(target, inputs[0], labels, data.test_fraction)
    if inputs[0].shape[1:] != inputs[1].shape[1:]:
        shapes = " and ".join(in_words(each.shape[1:]) for each in inputs)
        raise refused(target, f"gives training and test inputs of {shapes}, must be of one shape")
    if inputs[0].dtype is not inputs[1].dtype:
        kinds = " and ".join(str(each.dtype).removeprefix("torch.") for each in inputs)
        raise refused(target, f"gives training and test inputs of {kinds}, must be of one kind")
    tensors = (inputs[0], labels.train, inputs[1], labels.test)
    digits = Digits.of(name_of_own(data), *tensors)
    # The same bytes may be other images.
    layout = [(str(tensor.dtype), tuple(tensor.shape)) for tensor in tensors]
    digest = hashlib.sha256(f"{layout} {digits.digest}".encode()).hexdigest()
    notes = list(dict.fromkeys([*notes, *labels.notes]))
    return replace(digits, digest=digest, notes=tuple(notes), class_names=labels.names)


def _sets(target: str, returned: Any) -> list[Any]:
    """Return the training and the test set that a function has returned, or the one set that there is."""
    if isinstance(returned, Mapping) and not set(returned) & {*INPUT_NAMES}:
        train, test = (_first_of(names, returned) for names in (TRAIN_NAMES, TEST_NAMES))
        if train is None:
            names = ", ".join(map(str, list(returned)[:5]))
            raise refused(target, f"returns {_kind_of(returned)} with {names or 'nothing'}: needs train and test")
        return [returned[train]] if test is None else [returned[train], returned[test]]
    if isinstance(returned, tuple | list):
        columns = [_is_column(part) and not isinstance(part, pd.DataFrame) for part in returned]
        if len(returned) == 2 and (all(columns) or (isinstance(returned[0], pd.DataFrame) and columns[1])):
            return [returned]
        if len(returned) == 2:
            return list(returned)
        if len(returned) == 4 and all(map(_is_column, returned)):
            raise refused(target, "returns 4 arrays: return ((inputs, labels), (test_inputs, test_labels))")
        if len(returned) == 1 or (len(returned) > 4 and isinstance(returned, list)):
            return [returned]
    elif isinstance(returned, Mapping | pd.DataFrame) or _is_examples(returned):
        return [returned]
    raise refused(target, f"returns {_kind_of(returned)}, {REQUIRED}")


def _are_classes(labels: Tensor) -> bool:
    return labels.dim() == 1 and not labels.is_floating_point()


def _split(target: str, inputs: Tensor, labels: Labels, share: float) -> tuple[list[Tensor], Labels]:
    """Split a set, by class if it has any, the same in every process and for every seed of a run."""
    values, count = labels.train, len(labels.train)
    by_class = values if _are_classes(values) else torch.zeros(count)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    test = torch.zeros(count, dtype=torch.bool)
    for value in by_class.unique():
        own = order[by_class[order] == value]
        test[own[: round(share * len(own))]] = True
    if not test.any() or test.all():
        right = "return (train, test), or more examples"
        raise refused(target, f"{count} examples cannot be split by data.test_fraction={to_text(share)}: {right}")
    of_train, of_test = (values[rows].contiguous() for rows in (~test, test))
    parts = [inputs[rows].contiguous() for rows in (~test, test)]
    return parts, replace(labels, train=of_train, test=of_test)


@dataclass(frozen=True)
class Reader:
    """Reads a set of any kind, the `part` training or test, of what `target` has returned.

    `report` gets a line if it is read example by example. All methods raise `InvalidConfig` with one line.
    """

    target: str
    part: str
    report: Report

    def read(self, content: Any) -> tuple[Tensor, Any, list[str]]:
        """Return inputs (n, ...), uint8, float32 or int64, on the CPU and contiguous; labels as they came; and notes.

        The notes are lines that a user ought to know.
        """
        column, labels, notes = self._columns(content)
        inputs = self._of_table(column) if isinstance(column, pd.DataFrame) else column
        right = "must be numbers, all of one shape: pad sequences to one length, resize images, tokenize text"
        inputs = self._tensor(inputs, f"inputs are {_kind_of(column)}, {right}")
        # One quantity an example.
        inputs = inputs.unsqueeze(1) if inputs.dim() == 1 else inputs
        count = _length(labels)
        if inputs.dim() < 2 or len(inputs) != count or not count:
            shape = tuple(labels.shape) if hasattr(labels, "shape") else (count,)
            shapes = f"inputs of {in_words(inputs.shape)} and labels of {in_words(shape)}"
            raise self._refused(f"set has {shapes}, must be (n, ...) and (n, ...) with n from 1 up")
        inputs = self._as_numbers(inputs)
        return inputs, labels, [*notes, *_warnings(inputs)]

    def _refused(self, reason: str) -> InvalidConfig:
        return refused(self.target, f"its {self.part} {reason}")

    def _columns(self, content: Any) -> Pair:
        """Return inputs and labels of a set, each a column."""
        if isinstance(content, pd.DataFrame):
            label = _first_of(LABEL_NAMES, content.columns)
            if label is None:
                right = f"call the column of labels {LABEL_NAMES[0]}, or return (table, labels)"
                raise self._refused(f"set is a table of {', '.join(map(str, content.columns[:9]))}: {right}")
            return content.drop(columns=label), content[label], []
        is_columns = isinstance(content, tuple | list) and len(content) in (2, 3) and all(map(_is_column, content))
        if is_columns or isinstance(content, Mapping):
            return self._pair("set", content)
        if isinstance(content, DataLoader):
            if content.collate_fn is default_collate or content.batch_size is None:
                return self._examples(content.dataset)
            examples = list(self._listed(content.dataset))
            with errors_as_a_line("data", self.target, f"fails to collate its {self.part} examples"):
                batch = content.collate_fn(examples)
            return self._pair("batch", batch)
        if _is_examples(content):
            return self._examples(content)
        raise self._refused(f"set is {_kind_of(content)}; must be a pair of inputs and labels, or a data set")

    def _pair(self, what: str, value: Any) -> Pair:
        """Return inputs and labels in a set, a batch or an example: a dictionary by its names, or a tuple."""
        if not isinstance(value, Mapping):
            if not isinstance(value, tuple | list) or len(value) not in (2, 3):
                right = "must be a pair of an input and a label, or a dictionary of them"
                raise self._refused(f"{what} is {_kind_of(value)}, {right}")
            return value[0], value[1], ["the third value of an example is left out"] if len(value) == 3 else []
        pair = []
        for names in (INPUT_NAMES, LABEL_NAMES):
            name = _first_of(names, value)
            if name is None:
                there = ", ".join(map(str, list(value)[:9])) or "nothing"
                raise self._refused(f"{what} has {there}; must have one of {', '.join(names)}")
            pair.append(name)
        inputs, labels = (value[name] for name in pair)
        others = [str(name) for name, each in value.items() if name not in pair and _length(each) == _length(inputs)]
        return inputs, labels, [f"{', '.join(others)}: left out, beside {pair[0]} and {pair[1]}"] if others else []

    def _examples(self, dataset: Any) -> Pair:
        """Read every example of a data set through its transforms, with a bar if there is a terminal."""
        if not _is_sequence(dataset):
            examples = list(self._listed(dataset))
            return replace(self, report=lambda line: None)._examples(examples)
        with errors_as_a_line("data", self.target, f"fails to say how many {self.part} examples it has"):
            count = len(dataset)
        if not count:
            raise self._refused("set has no examples")
        first, _, notes = self._example(dataset, 0)
        self._check_memory(count, first.shape, first.element_size() + 4 * (first.dtype is torch.uint8))
        for index in range(min(READ_TWICE, count)):
            value, again = (self._example(dataset, index)[0] for _ in range(2))
            if value.shape != again.shape or not torch.equal(value.nan_to_num(), again.nan_to_num()):
                why = "gives another image when it is read again; images are read once, so leave random transforms out"
                raise self._refused(f"set {why}: a layer that acts in training only does the same")
        inputs, labels = first.new_empty(count, *first.shape), []
        self.report(f"reading {count:,} {self.part} examples of {self.target} into memory")
        bar = track(range(count), "  reading", console=Console(), transient=True, disable=not sys.stdout.isatty())
        for index in bar:
            value, label, _ = self._example(dataset, index)
            if value.shape != first.shape or value.dtype is not first.dtype:
                right = "pad or cut them to one length" if value.dim() == 1 else "resize them to one size"
                this, that = (f"{in_words(each.shape)} {each.dtype}" for each in (value, first))
                raise self._refused(f"input {index} is of {this}, but its first one of {that}; {right}")
            inputs[index] = value
            labels.append(label)
        with self._refusing(f"labels, such as {str(labels[0])[:40]!r}, are of several kinds or sizes"):
            column = np.array([np.asarray(label) for label in labels])
            return inputs, column if isinstance(labels[0], str) else torch.as_tensor(column), notes

    def _listed(self, dataset: Any) -> Iterator[Any]:
        """Yield every example of a data set, or of an iterable, which must end before memory is full."""
        self.report(f"reading the {self.part} examples of {self.target} into memory")
        free, size = free_memory(), 0
        with errors_as_a_line("data", self.target, f"fails while its {self.part} examples are read"):
            examples = map(dataset.__getitem__, range(len(dataset))) if _is_sequence(dataset) else dataset
            for number, example in enumerate(examples):
                size += _bytes_of(example)
                if size > free // 2:
                    right = f"gives more than {number:,} examples, which do not fit into memory: it must end before"
                    raise self._refused(f"set {right}")
                yield example

    def _example(self, dataset: Any, index: int) -> Pair:
        """Return an input as a tensor, and its label."""
        with errors_as_a_line("data", self.target, f"fails at {self.part} example {index}"):
            example = dataset[index]
        value, label, notes = self._pair(f"example {index}", example)
        right = "must be a tensor, an array, an image or a list of numbers; text needs a tokenizer"
        what = f"input {index} is {_kind_of(value)}, {right}"
        # An image of Pillow.
        if hasattr(value, "getbands") and hasattr(value, "tobytes"):
            value = np.asarray(value)
            value = value if value.ndim == 2 else value.transpose(2, 0, 1)
        tensor = self._tensor(value, what)
        # A column of numbers, each an example, is one feature.
        return tensor.reshape(1) if tensor.dim() == 0 else tensor, label, notes

    def _of_table(self, table: pd.DataFrame) -> np.ndarray:
        """Return a table's columns of features. They are quantities; only tokens are whole numbers for a network."""
        for name, kind in table.dtypes.items():
            if not pd.api.types.is_numeric_dtype(kind):
                right = "must be numbers: encode it, for example with pandas.get_dummies"
                raise self._refused(f"column {name} is {kind}, {right}")
        return table.to_numpy(dtype=np.float32, na_value=np.nan, copy=True)

    def _tensor(self, values: Any, what: str) -> Tensor:
        """Return numbers as a tensor; `what` says what is wrong with them if they are none, or of several lengths."""
        if isinstance(values, Tensor):
            return values
        with self._refusing(what):
            if isinstance(values, list | tuple) and values and isinstance(values[0], Tensor):
                return torch.stack(list(values))
            array = np.array(values)
            return torch.as_tensor(
                array.astype(np.int64) if array.dtype in (np.uint16, np.uint32, np.uint64) else array
            )

    @contextmanager
    def _refusing(self, what: str) -> Iterator[None]:
        """Refuse, as `what`, whatever NumPy and PyTorch make no tensor of in the block."""
        try:
            yield
        except (TypeError, ValueError, RuntimeError) as error:
            raise self._refused(what) from error

    def _as_numbers(self, inputs: Tensor) -> Tensor:
        """Return inputs as uint8, float32 or, if they are other whole numbers, int64."""
        if inputs.is_complex():
            raise self._refused(f"inputs are {inputs.dtype}, must be uint8, float or whole numbers")
        if inputs.dtype is torch.bool or inputs.is_floating_point():
            self._check_memory(len(inputs), inputs.shape[1:], 4 * (inputs.dtype is not torch.float32))
            inputs = inputs.detach().to("cpu", torch.float32)
            if len(bad := (~inputs.flatten(1).isfinite().all(1)).nonzero()):
                raise self._refused(f"input {int(bad[0])} has values that are NaN or infinite")
        elif inputs.dtype is torch.uint8:
            self._check_memory(len(inputs), inputs.shape[1:], 4)
        else:
            inputs = inputs.to(torch.int64)
        return inputs.detach().cpu().contiguous()

    def _check_memory(self, count: int, shape: tuple[int, ...], bytes_per_number: int) -> None:
        """Refuse `count` more inputs of `shape` if they do not fit into memory."""
        free, needed = free_memory(), count * math.prod(shape) * bytes_per_number
        if needed > free:
            size = f"{count:,} inputs of {in_words(shape)} needs {needed / GB:,.1f} GB of memory, {free / GB:,.1f} GB"
            raise self._refused(f"set of {size} are free; return fewer or smaller ones")


def _warnings(inputs: Tensor) -> Iterator[str]:
    """Yield a line for what is allowed and seldom meant."""
    shape = inputs.shape[1:]
    if len(shape) == 3 and shape[2] in CHANNELS and shape[0] not in CHANNELS:
        yield f"WARNING: images of {in_words(shape)} look like channels last: permute(0, 3, 1, 2) puts them first"
    if inputs.dtype is torch.uint8 and int(inputs.max()) <= 1:
        yield "WARNING: uint8 images of 0 and 1, which data.scale=unit divides by 255: data.scale=raw keeps them"
    if inputs.is_floating_point() and (largest := float(inputs.abs().max())) > LARGE:
        right = "divide them by 255, or give them as uint8" if len(shape) > 1 else "standardize every column"
        yield f"WARNING: values up to {largest:,.4g}, which are trained on as they are: {right}"


def _is_column(value: Any) -> bool:
    """Return whether a value has an entry for every example: an array, a column or a table, or a list of values."""
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim > 0
    if isinstance(value, pd.Series | pd.DataFrame | pd.Categorical | pd.Index):
        return True
    return isinstance(value, list) and bool(value) and not isinstance(value[0], tuple | Mapping)


def _is_examples(value: Any) -> bool:
    """Return whether a value gives examples one after the other."""
    if isinstance(value, Tensor | np.ndarray | str | bytes | Mapping | tuple | pd.Series):
        return False
    return isinstance(value, DataLoader) or hasattr(value, "__getitem__") or hasattr(value, "__iter__")


def _is_sequence(dataset: Any) -> bool:
    return hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")


def _bytes_of(example: Any) -> int:
    """Return about how many bytes an example takes, 100 for whatever is no array."""
    values = example.values() if isinstance(example, Mapping) else example if isinstance(example, tuple | list) else ()
    return 100 + sum(value.nbytes for value in values if isinstance(value, Tensor | np.ndarray))


def _first_of(names: Iterable[str], those: Container[Any]) -> str | None:
    return next((name for name in names if name in those), None)


def _length(values: Any) -> int:
    try:
        return len(values)
    except TypeError:
        return 0


def _kind_of(value: Any) -> str:
    """Return what a value is, for a message."""
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, tuple | list) else type(value).__name__
