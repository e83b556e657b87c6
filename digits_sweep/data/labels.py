"""Labels: as tensors from whatever a user has, and what a loss makes of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from digits_sweep.config.text import to_text
from digits_sweep.data.digits import IGNORED, Digits, in_words
from digits_sweep.errors import InvalidConfig

# So many names are listed in a line; rows of soft labels sum to 1 this exactly.
MOST_NAMES, TOLERANCE = 12, 1e-3


def refused(target: str, reason: str) -> InvalidConfig:
    """Return the error for data that cannot be trained on."""
    return InvalidConfig(f"data.target={target}: {reason}")


@dataclass(frozen=True)
class Labels:
    """Labels of the training and of the test set, int64 or float32 (n, ...); names of classes that were text."""

    train: Tensor
    test: Tensor
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def joint_labels(target: str, columns: Sequence[Any]) -> Labels:
    """Return the labels of a training set and of a test set, if there is one, as tensors that mean the same in both.

    Text and pandas categories become the numbers of their classes; a column (n, 1) becomes (n,). Raises `InvalidConfig`
    with one line if they are neither numbers nor text.
    """
    columns = [_plain(target, column) for column in columns]
    categories = [column.categories for column in columns if isinstance(column, pd.Categorical)]
    names: tuple[str, ...] = ()
    notes: list[str] = []
    if categories:
        classes = list(dict.fromkeys(chain(*categories)))
        names = tuple(map(str, classes))
        columns = [pd.Categorical(column, categories=classes).codes.astype(np.int64) for column in columns]
        notes.append("labels from pandas categories")
    elif any(column.dtype.kind == "U" for column in columns if isinstance(column, np.ndarray)):
        names = tuple(sorted({str(name) for column in columns for name in np.asarray(column).ravel()}))
        columns = [np.searchsorted(np.asarray(names), np.asarray(column).astype(str)) for column in columns]
        notes.append("labels from text")
    tensors = [_number(target, column) for column in columns]
    if all(tensor.dim() > 1 and tensor.shape[1:].numel() == 1 for tensor in tensors):
        notes.append(f"labels of {in_words(tensors[0].shape)} as a column of {len(tensors[0])}")
        tensors = [tensor.flatten() for tensor in tensors]
    if len({(tensor.dtype, tensor.shape[1:]) for tensor in tensors}) > 1:
        kinds = " and ".join(f"{in_words(tensor.shape)} {tensor.dtype}" for tensor in tensors)
        raise refused(target, f"gives training and test labels of {kinds}, must be of one kind")
    return Labels(tensors[0], tensors[-1], names, tuple(notes))


def _plain(target: str, column: Any) -> Any:
    """Return a column as a tensor, an array, or categories."""
    if isinstance(column, Tensor):
        return column
    is_categorical = isinstance(getattr(column, "dtype", None), pd.CategoricalDtype)
    values: Any = pd.Categorical(column) if is_categorical else np.array(np.asarray(column))
    if pd.isna(values).any():
        raise refused(target, "has labels that are missing; leave their examples out")
    # A column of objects may hold text or numbers only.
    return np.array(values.tolist()) if values.dtype == object else values


def _number(target: str, column: Any) -> Tensor:
    """Return a column as int64, or float32 if it is of floats."""
    try:
        labels = torch.as_tensor(column).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise refused(
            target, f"its labels are {getattr(column, 'dtype', type(column))}, must be numbers or text"
        ) from error
    if labels.is_complex():
        raise refused(target, f"its labels are {labels.dtype}, must be numbers or text")
    labels = labels.to(torch.float32 if labels.is_floating_point() else torch.int64)
    if labels.is_floating_point() and not labels.isfinite().all():
        raise refused(target, "has labels that are NaN or infinite; leave their examples out")
    return labels.contiguous()


def for_loss(digits: Digits, loss: str, num_classes: int | None = None) -> Digits:
    """Return a data set with its labels as a loss, by its name, takes them, and a note for what was converted.

    `cross_entropy` takes classes, (n,) or (n, ...) int64 from 0 up, or soft labels (n, classes) float32; `mse` takes
    float32, `bce` float32 from 0 to 1; any other loss the labels as they are. `num_classes` is what a user says that
    there are. Raises `InvalidConfig` with one line if they fit another loss or are no classes.
    """
    train, test, notes = digits.train_labels, digits.test_labels, list(digits.notes)
    if loss in ("mse", "bce"):
        train, test = train.float(), test.float()
        if loss == "bce" and not all(0 <= float(labels.min()) <= float(labels.max()) <= 1 for labels in (train, test)):
            raise refused(digits.name, "its labels must be from 0 to 1, with loss=bce")
    elif loss == "cross_entropy":
        train, test, more = _classes(digits.name, train, test)
        notes += more
        if not train.is_floating_point():
            notes += _checked_range(digits, train, test, num_classes)
    return replace(digits, train_labels=train, test_labels=test, notes=tuple(notes))


def _classes(name: str, train: Tensor, test: Tensor) -> tuple[Tensor, Tensor, list[str]]:
    """Return labels as classes, or as soft labels."""
    both = torch.cat([train, test])
    is_binary = both.dim() == 2 and both.shape[1] > 1 and bool(((both == 0) | (both == 1)).all())
    if is_binary and bool((both.sum(1) == 1).all()):
        return train.argmax(1), test.argmax(1), [f"one-hot labels of {in_words(train.shape)} as classes"]
    if not both.is_floating_point():
        return train, test, [f"a label at each of {in_words(train.shape[1:])} places"] if both.dim() > 1 else []
    if both.dim() == 2 and bool((both >= 0).all()) and bool(((both.sum(1) - 1).abs() < TOLERANCE).all()):
        return train, test, ["soft labels: shares of the classes"]
    if bool((both == both.round()).all()) and not is_binary:
        return train.long(), test.long(), ["labels are whole numbers as floats"]
    first = both.flatten()[(both != both.round()).flatten()]
    such = f"such as {to_text(float(f'{float(first[0]):.4g}'))} are" if len(first) else "with several ones a row are"
    right = "loss=mse is for a regression" if len(first) else "loss=bce is for several labels an example"
    raise refused(name, f"its labels {such} no classes; {right}")


def _checked_range(digits: Digits, train: Tensor, test: Tensor, num_classes: int | None) -> Iterator[str]:
    """Yield notes on which classes occur. Raises `InvalidConfig` if labels are no classes from 0 up."""
    counts = [labels[labels != IGNORED] for labels in (train, test)]
    values = torch.cat(counts).unique()
    least, most = int(values[0]), int(values[-1])
    has = f"its labels are {least} to {most}"
    if least < 0:
        raise refused(digits.name, f"{has}, must be whole numbers from 0 up")
    if least == 1 and (num_classes is None or most >= num_classes):
        raise refused(digits.name, f"{has}, must be 0 to {most - 1}: subtract 1")
    if num_classes is not None and most >= num_classes:
        right = f"must be at least {most + 1}, as {digits.name} has labels {least} to {most}"
        raise InvalidConfig(f"data.num_classes={num_classes}: {right}")
    if most == least:
        raise refused(digits.name, f"all of its labels are {least}; needs two classes at least")
    yield from _missing(digits, counts, max(num_classes or 0, most + 1))


def _missing(digits: Digits, counts: Sequence[Tensor], classes: int) -> Iterator[str]:
    for what, labels in (("example", torch.cat(list(counts))), ("example to train on", counts[0])):
        missing = (torch.bincount(labels, minlength=classes) == 0).nonzero().flatten().tolist()
        if missing:
            names = [digits.class_names[number] if digits.class_names else str(number) for number in missing]
            yield f"WARNING: {listed(names, 'class', 'classes')} {'has' if len(names) == 1 else 'have'} no {what}"
            return


def listed(names: Sequence[str], one: str, several: str) -> str:
    """Return `class 9`, or `classes 3, 7 and 9`; of many, the first ones and how many more there are."""
    if len(names) == 1:
        return f"{one} {names[0]}"
    if len(names) > MOST_NAMES:
        return f"{several} {', '.join(names[:MOST_NAMES])} and {len(names) - MOST_NAMES} more"
    return f"{several} {', '.join(names[:-1])} and {names[-1]}"


def description(digits: Digits) -> str:
    """Say in one line what a data set is, its labels as its loss takes them.

    `mine:shapes: 800 + 200 images 3 x 16 x 16 uint8, 3 classes, 2.1 : 1 imbalanced`.
    """
    inputs, labels = digits.train_images, digits.train_labels
    shape, kind = inputs.shape[1:], str(inputs.dtype).removeprefix("torch.")
    if inputs.dtype is torch.int64:
        what = f"sequences of {in_words(shape)} tokens"
    elif len(shape) == 1:
        what = f"rows of {shape[0]} {kind} feature{'s' if shape[0] != 1 else ''}"
    else:
        what = f"{'images' if inputs.dtype is torch.uint8 or len(shape) > 2 else 'inputs'} {in_words(shape)} {kind}"
    parts = [f"{len(inputs):,} + {len(digits.test_images):,} {what}", *_of_labels(digits, labels)]
    return f"{digits.name}: {', '.join(parts)}"


def _of_labels(digits: Digits, labels: Tensor) -> Iterator[str]:
    if labels.is_floating_point():
        yield f"{digits.num_classes} number{'s' if digits.num_classes != 1 else ''} to predict"
        return
    named = 0 < len(digits.class_names) <= MOST_NAMES
    yield listed(digits.class_names, "class", "classes") if named else f"{digits.num_classes} classes"
    counts = torch.bincount(labels[labels != IGNORED].flatten())
    counts = counts[counts > 0]
    if (ratio := float(counts.max() / counts.min())) >= 1.05:
        yield f"{ratio:.2g} : 1 imbalanced" if ratio < 100 else f"{ratio:.0f} : 1 imbalanced"
