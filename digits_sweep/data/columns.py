"""A set of the user's, of whatever kind, as a column of inputs and a column of labels."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from digits_sweep.config.own_code import errors_as_a_line
from digits_sweep.data import Report
from digits_sweep.errors import InvalidConfig
from digits_sweep.machine import free_memory

# What data sets call their columns, Hugging Face's and scikit-learn's among them; the first name that occurs counts.
INPUT_NAMES = ("image", "images", "img", "pixel_values", "input_ids", "input", "inputs", "features", "data", "x", "X")
LABEL_NAMES = ("label", "labels", "target", "targets", "y", "class", "fine_label")
# Examples of a data set that are read twice: a random transform makes another input of one of them, all but surely.
READ_TWICE = 10
GB = 1e9
# Inputs whose values reach beyond this train badly, with any optimizer.
LARGE = 100
# The channels that images have.
CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Part:
    """A set: inputs (n, ...), uint8, float32 or int64, its labels as they came, and what a user ought to know."""

    inputs: Tensor
    labels: Any
    notes: tuple[str, ...] = ()


def read_part(target: str, part: str, content: Any, report: Report) -> Part:
    """Read the `part`, training or test, of what `target` has returned: checked, on the CPU and contiguous.

    `report` gets a line if it is read example by example. Raises `InvalidConfig` with one line.
    """
    inputs, labels, notes = _columns(target, part, content, report)
    inputs = _as_tensor(target, part, inputs)
    # One quantity an example.
    inputs = inputs.unsqueeze(1) if inputs.dim() == 1 else inputs
    count = _length(labels)
    if inputs.dim() < 2 or len(inputs) != count or not count:
        shapes = f"inputs of {in_words(inputs.shape)} and labels of {in_words(_shape(labels))}"
        raise refused(target, f"its {part} set has {shapes}, must be (n, ...) and (n, ...) with n from 1 up")
    inputs = _as_number(target, part, inputs)
    return Part(inputs, labels, (*notes, *_warnings(inputs)))


def _columns(target: str, part: str, content: Any, report: Report) -> tuple[Any, Any, list[str]]:
    """Return inputs and labels of a set, each a column, and notes."""
    if is_table(content):
        content = _of_table(target, part, content)
    if isinstance(content, Mapping):
        return _of_names(target, f"its {part} set", content)
    if isinstance(content, tuple | list) and len(content) in (2, 3) and all(map(is_column, content)):
        return content[0], content[1], _left_out(len(content))
    if isinstance(content, DataLoader):
        return _of_loader(target, part, content, report)
    if is_examples(content):
        return _of_examples(target, part, content, report)
    raise refused(target, f"its {part} set is {kind_of(content)}; must be a pair of inputs and labels, or a data set")


def _of_table(target: str, part: str, table: pd.DataFrame) -> dict[str, Any]:
    """Return a table's columns of features, together, and its column of labels."""
    label = next((name for name in LABEL_NAMES if name in table.columns), None)
    if label is None:
        right = f"call the column of labels {LABEL_NAMES[0]}, or return (table, labels)"
        raise refused(target, f"its {part} set is a table of {', '.join(map(str, table.columns[:9]))}: {right}")
    return {INPUT_NAMES[0]: table.drop(columns=label), LABEL_NAMES[0]: table[label]}


def _of_names(target: str, what: str, values: Mapping[Any, Any]) -> tuple[Any, Any, list[str]]:
    """Return inputs and labels of a dictionary by their names."""
    pair = [next((name for name in names if name in values), None) for names in (INPUT_NAMES, LABEL_NAMES)]
    for name, names in zip(pair, (INPUT_NAMES, LABEL_NAMES), strict=True):
        if name is None:
            there = ", ".join(map(str, list(values)[:9]))
            raise refused(target, f"{what} has {there or 'nothing'}; must have one of {', '.join(names)}")
    inputs, labels = (values[name] for name in pair)
    others = [name for name, value in values.items() if name not in pair and _length(value) == _length(inputs)]
    notes = [f"{', '.join(map(str, others))}: left out, beside {pair[0]} and {pair[1]}"] if others else []
    return inputs, labels, notes


def _of_loader(target: str, part: str, loader: DataLoader, report: Report) -> tuple[Any, Any, list[str]]:
    """Return what a DataLoader's collate function makes of all examples of its data set."""
    if loader.collate_fn is default_collate or loader.batch_size is None:
        return _of_examples(target, part, loader.dataset, report)
    examples = list(_listed(target, part, loader.dataset, report))
    with errors_as_a_line("data", target, f"fails to collate its {part} examples"):
        batch = loader.collate_fn(examples)
    if isinstance(batch, Mapping):
        return _of_names(target, f"a {part} batch", batch)
    if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
        raise refused(target, f"a {part} batch is {kind_of(batch)}, must be a pair of inputs and labels")
    return batch[0], batch[1], _left_out(len(batch))


def _left_out(count: int) -> list[str]:
    return ["the third value of an example is left out"] if count == 3 else []


def _of_examples(target: str, part: str, dataset: Any, report: Report) -> tuple[Any, Any, list[str]]:
    """Read every example of a data set through its transforms, with a bar if there is a terminal."""
    is_sequence = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    if not is_sequence:
        examples = list(_listed(target, part, dataset, report))
        return _of_examples(target, part, examples, lambda line: None)
    count = _count(target, part, dataset)
    first, _, notes = _example(target, part, dataset, 0)
    check_memory(target, part, count, first.shape, first.element_size() + 4 * (first.dtype is torch.uint8))
    for index in range(min(READ_TWICE, count)):
        value, again = (_example(target, part, dataset, index)[0] for _ in range(2))
        if value.shape != again.shape or not torch.equal(value.nan_to_num(), again.nan_to_num()):
            reason = "gives another image when it is read again; images are read once, so leave random transforms out"
            raise refused(target, f"its {part} set {reason}: a layer that acts in training only does the same")
    inputs, labels = first.new_empty(count, *first.shape), []
    report(f"reading {count:,} {part} examples of {target} into memory")
    bar = track(range(count), "  reading", console=Console(), transient=True, disable=not sys.stdout.isatty())
    for index in bar:
        value, label, _ = _example(target, part, dataset, index)
        if value.shape != first.shape or value.dtype is not first.dtype:
            right = "; pad or cut them to one length" if value.dim() == 1 else "; resize them to one size"
            kinds = [f"{in_words(each.shape)} {each.dtype}" for each in (value, first)]
            raise refused(target, f"its {part} input {index} is of {kinds[0]}, but its first one of {kinds[1]}{right}")
        inputs[index] = value
        labels.append(label)
    return inputs, _stacked(target, part, labels), notes


def _count(target: str, part: str, dataset: Any) -> int:
    try:
        count = len(dataset)
    except TypeError as error:
        raise refused(target, f"its {part} set is {kind_of(dataset)}, which has no length") from error
    if not count:
        raise refused(target, f"its {part} set has no examples")
    return int(count)


def _listed(target: str, part: str, dataset: Any, report: Report) -> Iterator[Any]:
    """Yield every example of a data set, or of an iterable that ends. Raises `InvalidConfig` before memory is full."""
    report(f"reading the {part} examples of {target} into memory")
    free = free_memory()
    with errors_as_a_line("data", target, f"fails while its {part} examples are read"):
        if hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):
            dataset = map(dataset.__getitem__, range(len(dataset)))
        size = 0
        for number, example in enumerate(dataset):
            size += _bytes_of(example)
            if size > free // 2:
                right = f"gives more than {number:,} examples, which do not fit into memory: it must end before"
                raise refused(target, f"its {part} set {right}")
            yield example


def _bytes_of(example: Any) -> int:
    """Return about how many bytes an example takes, 100 for whatever is no array."""
    values = example.values() if isinstance(example, Mapping) else example if isinstance(example, tuple | list) else ()
    return 100 + sum(value.nbytes for value in values if isinstance(value, Tensor | np.ndarray))


def _example(target: str, part: str, dataset: Any, index: int) -> tuple[Tensor, Any, list[str]]:
    """Return an input as a tensor, its label, and notes."""
    with errors_as_a_line("data", target, f"fails at {part} example {index}"):
        example = dataset[index]
    if isinstance(example, Mapping):
        value, label, notes = _of_names(target, f"its {part} example {index}", example)
    elif isinstance(example, tuple | list) and len(example) in (2, 3):
        value, label, notes = example[0], example[1], _left_out(len(example))
    else:
        right = "must be a pair of an input and a label, or a dictionary of them"
        raise refused(target, f"its {part} example {index} is {kind_of(example)}, {right}")
    if hasattr(value, "getbands") and hasattr(value, "tobytes"):
        value = np.asarray(value)
        value = torch.from_numpy(value.copy()) if value.ndim == 2 else torch.from_numpy(value.transpose(2, 0, 1).copy())
    try:
        tensor = torch.as_tensor(
            np.array(value) if isinstance(value, np.ndarray | list | tuple | int | float) else value
        )
    except (TypeError, ValueError, RuntimeError) as error:
        right = "must be a tensor, an array, an image or a list of numbers; text needs a tokenizer"
        raise refused(target, f"its {part} input {index} is {kind_of(value)}, {right}") from error
    # A column of numbers, each an example, is one feature.
    return tensor.reshape(1) if tensor.dim() == 0 else tensor, label, notes


def _stacked(target: str, part: str, labels: Sequence[Any]) -> Any:
    """Return the labels of single examples as one column."""
    first = labels[0]
    try:
        if isinstance(first, str):
            return np.asarray(labels)
        if isinstance(first, Tensor | np.ndarray | list | tuple):
            return torch.stack([torch.as_tensor(np.asarray(label)) for label in labels])
        return torch.as_tensor(np.asarray(labels))
    except (TypeError, ValueError, RuntimeError) as error:
        raise refused(
            target, f"its {part} labels, such as {str(first)[:40]!r}, are of several kinds or sizes"
        ) from error


def _as_tensor(target: str, part: str, inputs: Any) -> Tensor:
    """Return a column of inputs as a tensor. Raises `InvalidConfig` if it holds text, or rows of several lengths."""
    if is_table(inputs):
        for name, kind in inputs.dtypes.items():
            if not pd.api.types.is_numeric_dtype(kind):
                right = f"is {kind}, must be numbers: encode it, for example with pandas.get_dummies"
                raise refused(target, f"its {part} column {name} {right}")
        # Features of a table are quantities; only tokens are whole numbers for a network.
        inputs = inputs.to_numpy(dtype=np.float32, na_value=np.nan, copy=True)
    if isinstance(inputs, Tensor):
        return inputs
    try:
        if isinstance(inputs, list | tuple) and inputs and isinstance(inputs[0], Tensor):
            return torch.stack(list(inputs))
        values = np.array(inputs)
        return torch.as_tensor(values.astype(np.int64) if values.dtype in (np.uint16, np.uint32, np.uint64) else values)
    except (TypeError, ValueError, RuntimeError) as error:
        right = "must be numbers, all of one shape: pad sequences to one length, resize images, tokenize text"
        raise refused(target, f"its {part} inputs are {kind_of(inputs)}, {right}") from error


def _as_number(target: str, part: str, inputs: Tensor) -> Tensor:
    """Return inputs as uint8, float32 or, if they are other whole numbers, int64."""
    if inputs.is_complex():
        raise refused(target, f"its {part} inputs are {inputs.dtype}, must be uint8, float or whole numbers")
    if inputs.dtype is torch.bool or inputs.is_floating_point():
        check_memory(target, part, len(inputs), inputs.shape[1:], 4 * (inputs.dtype is not torch.float32))
        inputs = inputs.detach().to("cpu", torch.float32)
        if len(bad := (~inputs.flatten(1).isfinite().all(1)).nonzero()):
            raise refused(target, f"its {part} input {int(bad[0])} has values that are NaN or infinite")
    elif inputs.dtype is torch.uint8:
        check_memory(target, part, len(inputs), inputs.shape[1:], 4)
    else:
        inputs = inputs.to(torch.int64)
    return inputs.detach().cpu().contiguous()


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


def check_memory(target: str, part: str, count: int, shape: tuple[int, ...], bytes_per_number: int) -> None:
    """Raise `InvalidConfig` if `count` more inputs of `shape` do not fit into memory."""
    free, needed = free_memory(), count * int(np.prod(shape, dtype=np.float64)) * bytes_per_number
    if needed > free:
        size = f"its {part} set of {count:,} inputs of {in_words(shape)} needs {needed / GB:,.1f} GB"
        raise refused(target, f"{size} of memory, {free / GB:,.1f} GB are free; return fewer or smaller ones")


def refused(target: str, reason: str) -> InvalidConfig:
    """Return the error for data that cannot be trained on."""
    return InvalidConfig(f"data.target={target}: {reason}")


def is_table(value: Any) -> bool:
    """Return whether a value is a table of pandas."""
    return isinstance(value, pd.DataFrame)


def is_column(value: Any) -> bool:
    """Return whether a value has an entry for every example: an array, a column or a table, or a list of values."""
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim > 0
    if isinstance(value, pd.Series | pd.DataFrame | pd.Categorical | pd.Index):
        return True
    return isinstance(value, list) and bool(value) and not isinstance(value[0], tuple | Mapping)


def is_examples(value: Any) -> bool:
    """Return whether a value gives examples one after the other."""
    if isinstance(value, Tensor | np.ndarray | str | bytes | Mapping | tuple | pd.Series):
        return False
    return isinstance(value, DataLoader) or hasattr(value, "__getitem__") or hasattr(value, "__iter__")


def _length(values: Any) -> int:
    try:
        return len(values)
    except TypeError:
        return 0


def _shape(values: Any) -> tuple[int, ...]:
    return tuple(values.shape) if hasattr(values, "shape") else (_length(values),)


def kind_of(value: Any) -> str:
    """Return what a value is, for a message."""
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, tuple | list) else type(value).__name__


def in_words(shape: Iterable[int]) -> str:
    """Return a shape as text: 3 x 32 x 32."""
    return " x ".join(map(str, shape))
