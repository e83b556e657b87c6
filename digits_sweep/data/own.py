"""Data of the user's own, from a function that `data.target` names: whatever it returns, understood or refused by name.

It returns (train, test), or one set that is split. A set is a pair of columns, a dictionary or a table with columns, a
map-style data set, a `DataLoader`, or an iterable that ends; `columns.py` reads each of them. PyTorch's random numbers
start at 0 in the function, so that made-up data are the same in every process.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from digits_sweep.config.keys import default_of
from digits_sweep.config.own_code import called, changes_taken_back
from digits_sweep.config.schema import OwnDataConfig
from digits_sweep.config.text import to_text
from digits_sweep.data import Report
from digits_sweep.data.columns import (
    INPUT_NAMES,
    Part,
    in_words,
    is_column,
    is_examples,
    is_table,
    kind_of,
    read_part,
    refused,
)
from digits_sweep.data.digits import Digits
from digits_sweep.data.labels import Labels, joint_labels

REQUIRED = "must return (train, test), each a pair of inputs and labels or a data set, or one of them to be split"
# What dictionaries of data sets call them.
TRAIN_NAMES, TEST_NAMES = ("train", "training"), ("test", "validation", "valid", "val")


def name_of_own(data: OwnDataConfig) -> str:
    """Return what the data are called in a record: the function, its arguments, and how one set is split if typed."""
    share = {} if data.test_fraction == default_of("data.test_fraction") else {"test_fraction": data.test_fraction}
    return f"{data.target}{to_text(settings) if (settings := data.arguments | share) else ''}"


def load_own(data: OwnDataConfig, report: Report) -> Digits:
    """Call the function that `data.target` names, and return its data as tensors.

    `report` gets a line for every data set that is read. Raises `InvalidConfig` with one line if the data cannot be
    trained on or do not fit into memory.
    """
    target = str(data.target)
    with torch.random.fork_rng(devices=[]), changes_taken_back(f"data.target={target}"):
        torch.manual_seed(0)
        return understood(called("data", target, data.arguments), data, report)


def understood(returned: Any, data: OwnDataConfig, report: Report) -> Digits:
    """Return as tensors whatever a function of the user's has returned, or a caller has passed.

    Inputs are uint8, float32 or, if they are other whole numbers, int64; labels are int64 or float32. The notes of the
    data set say what was converted. Raises `InvalidConfig` with one line.
    """
    target = str(data.target)
    notes: list[str] = []
    sets = _sets(target, returned)
    parts = [
        read_part(target, part, content, report) for part, content in zip(("training", "test"), sets, strict=False)
    ]
    labels = joint_labels(target, [part.labels for part in parts])
    if len(parts) == 1:
        how = ", by class," if _are_classes(labels.train) else ", drawn,"
        notes = [f"one set: {data.test_fraction:.0%} of it{how} are the test set"]
        parts, labels = _split(target, parts[0], labels, data.test_fraction)
    train, test = parts
    if train.inputs.shape[1:] != test.inputs.shape[1:]:
        shapes = " and ".join(in_words(part.inputs.shape[1:]) for part in parts)
        raise refused(target, f"gives training and test inputs of {shapes}, must be of one shape")
    if train.inputs.dtype is not test.inputs.dtype:
        kinds = " and ".join(str(part.inputs.dtype).removeprefix("torch.") for part in parts)
        raise refused(target, f"gives training and test inputs of {kinds}, must be of one kind")
    tensors = (train.inputs, labels.train, test.inputs, labels.test)
    digits = Digits.of(name_of_own(data), *tensors)
    # The same bytes may be other images.
    layout = [(str(tensor.dtype), tuple(tensor.shape)) for tensor in tensors]
    digest = hashlib.sha256(f"{layout} {digits.digest}".encode()).hexdigest()
    notes = list(dict.fromkeys([*notes, *train.notes, *labels.notes]))
    return replace(digits, digest=digest, notes=tuple(notes), class_names=labels.names)


def _sets(target: str, returned: Any) -> list[Any]:
    """Return the training and the test set that a function has returned, or the one set that there is."""
    if isinstance(returned, Mapping) and not set(returned) & {*INPUT_NAMES}:
        train, test = (next((name for name in names if name in returned), None) for names in (TRAIN_NAMES, TEST_NAMES))
        if train is None:
            names = ", ".join(map(str, list(returned)[:5]))
            raise refused(target, f"returns {kind_of(returned)} with {names or 'nothing'}: needs train and test")
        return [returned[train]] if test is None else [returned[train], returned[test]]
    if isinstance(returned, tuple | list):
        columns = [is_column(part) and not is_table(part) for part in returned]
        if len(returned) == 2 and (all(columns) or (is_table(returned[0]) and columns[1])):
            return [returned]
        if len(returned) == 2:
            return list(returned)
        if len(returned) == 4 and all(map(is_column, returned)):
            raise refused(target, "returns 4 arrays: return ((inputs, labels), (test_inputs, test_labels))")
        if len(returned) == 1 or (len(returned) > 4 and isinstance(returned, list)):
            return [returned]
    elif isinstance(returned, Mapping) or is_table(returned) or is_examples(returned):
        return [returned]
    raise refused(target, f"returns {kind_of(returned)}, {REQUIRED}")


def _are_classes(labels: Tensor) -> bool:
    return labels.dim() == 1 and not labels.is_floating_point()


def _split(target: str, part: Part, labels: Labels, share: float) -> tuple[list[Part], Labels]:
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

    def rows(tensor: Tensor) -> tuple[Tensor, Tensor]:
        return tensor[~test].contiguous(), tensor[test].contiguous()

    parts = [replace(part, inputs=inputs) for inputs in rows(part.inputs)]
    of_train, of_test = rows(values)
    return parts, replace(labels, train=of_train, test=of_test)
