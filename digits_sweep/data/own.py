"""Data of the user's own, from a function that `data.target` names: read into memory once, and checked.

The function returns (train, test), each a pair of images and labels, or a map-style `Dataset` of such pairs. PyTorch's
random numbers start at 0 in it, so that made-up data are the same in every process.
"""

import hashlib
import sys
from collections.abc import Iterable
from dataclasses import replace
from operator import index as as_whole_number
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from digits_sweep.config.own_code import called, mistake
from digits_sweep.config.process_state import changes_taken_back
from digits_sweep.config.schema import OwnDataConfig
from digits_sweep.config.text import to_text
from digits_sweep.data import Report
from digits_sweep.data.digits import Digits
from digits_sweep.errors import InvalidConfig

REQUIRED = "must return (train, test), each a pair of images and labels or a Dataset that has a length"
# Examples of a Dataset that are read twice: a random transform makes another image of one of them, all but surely.
READ_TWICE = 10
GB = 1e9


def name_of_own(data: OwnDataConfig) -> str:
    """Return what the data are called in a record: the function and its arguments."""
    return f"{data.target}{to_text(data.arguments) if data.arguments else ''}"


def load_own(data: OwnDataConfig, report: Report) -> Digits:
    """Call the function that `data.target` names, and return its data as tensors.

    `report` gets a line for every `Dataset` that is read. Raises `InvalidConfig` with one line if the data cannot be
    trained on or do not fit into memory.
    """
    target = str(data.target)
    with torch.random.fork_rng(devices=[]), changes_taken_back(f"data.target={target}"):
        torch.manual_seed(0)
        returned = called("data", target, data.arguments)
        if not isinstance(returned, tuple | list) or len(returned) != 2:
            raise _refused(target, f"returns {_kind(returned)}, {REQUIRED}")
        train = _tensors(target, "training", returned[0], report)
        test = _tensors(target, "test", returned[1], report)
    if train[0].shape[1:] != test[0].shape[1:]:
        shapes = " and ".join(_shape(images.shape[1:]) for images, _ in (train, test))
        raise _refused(target, f"gives training and test images of {shapes}, must be of one shape")
    digits = Digits.of(name_of_own(data), *train, *test)
    # The same bytes may be other images.
    layout = [(str(tensor.dtype), tuple(tensor.shape)) for tensor in (*train, *test)]
    return replace(digits, digest=hashlib.sha256(f"{layout} {digits.digest}".encode()).hexdigest())


def _tensors(target: str, part: str, examples: Any, report: Report) -> tuple[Tensor, Tensor]:
    """Return checked images (n, ...), uint8 or float32, and labels (n,) int64, both on the CPU and contiguous."""
    if isinstance(examples, tuple | list) and len(examples) == 2 and all(map(_is_array, examples)):
        images, labels = map(torch.as_tensor, examples)
    elif hasattr(examples, "__getitem__") and not (_is_array(examples) or isinstance(examples, tuple | list | dict)):
        images, labels = _read(target, part, examples, report)
    else:
        raise _refused(target, f"its {part} set is {_kind(examples)}; {REQUIRED}")
    if images.dim() < 2 or labels.dim() != 1 or len(images) != len(labels) or not len(labels):
        shapes = f"images of {_shape(images.shape)} and labels of {_shape(labels.shape)}"
        raise _refused(target, f"its {part} set has {shapes}, must be (n, ...) and (n,) with n from 1 up")
    if not (images.dtype is torch.uint8 or images.is_floating_point()):
        raise _refused(target, f"its {part} images are {images.dtype}, must be uint8 or float")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype is torch.bool:
        raise _refused(target, f"its {part} labels are {labels.dtype}, must be whole numbers from 0 up")
    _check_memory(target, part, len(images), images.shape[1:], 4 * (images.dtype is not torch.float32))
    if images.is_floating_point():
        images = images.detach().to("cpu", torch.float32)
        if len(bad := (~images.flatten(1).isfinite().all(1)).nonzero()):
            raise _refused(target, f"its {part} image {int(bad[0])} has values that are NaN or infinite")
    labels = labels.detach().to("cpu", torch.int64)
    if (least := int(labels.min())) < 0:
        raise _refused(target, f"its {part} labels have {least}, must be whole numbers from 0 up")
    return images.detach().cpu().contiguous(), labels.contiguous()


def _read(target: str, part: str, dataset: Any, report: Report) -> tuple[Tensor, Tensor]:
    """Read every example of a `Dataset` through its transforms, with a bar if there is a terminal."""
    try:
        count = len(dataset)
    except TypeError as error:
        raise _refused(target, f"its {part} set is {_kind(dataset)}, which has no length; {REQUIRED}") from error
    if not count:
        raise _refused(target, f"its {part} set has no examples")
    first, _ = _example(target, part, dataset, 0)
    _check_memory(target, part, count, first.shape, first.element_size() + 4 * (first.dtype is not torch.float32))
    for index in range(min(READ_TWICE, count)):
        image, again = (_example(target, part, dataset, index)[0] for _ in range(2))
        if image.shape != again.shape or not torch.equal(image.nan_to_num(), again.nan_to_num()):
            reason = "gives another image when it is read again; images are read once, so leave random transforms out"
            raise _refused(target, f"its {part} set {reason}: a layer that acts in training only does the same")
    images, labels = first.new_empty(count, *first.shape), torch.empty(count, dtype=torch.int64)
    report(f"reading {count:,} {part} examples of {target} into memory")
    bar = track(range(count), "  reading", console=Console(), transient=True, disable=not sys.stdout.isatty())
    for index in bar:
        image, labels[index] = _example(target, part, dataset, index)
        if image.shape != first.shape or image.dtype is not first.dtype:
            kinds = f"{_shape(image.shape)} {image.dtype}, but its first one of {_shape(first.shape)} {first.dtype}"
            raise _refused(target, f"its {part} image {index} is of {kinds}")
        images[index] = image
    return images, labels


def _example(target: str, part: str, dataset: Any, index: int) -> tuple[Tensor, int]:
    """Return an image and its label."""
    try:
        image, label = dataset[index]
    # Code of the user's may raise anything, and call sys.exit.
    except (Exception, SystemExit) as error:
        raise mistake("data", target, f"fails at {part} example {index}", error) from error
    if not _is_array(image):
        remedy = "must be a tensor: add a transform such as torchvision.transforms.ToTensor()"
        raise _refused(target, f"its {part} image {index} is {_kind(image)}, {remedy}")
    try:
        return torch.as_tensor(image), as_whole_number(label)
    except TypeError as error:
        raise _refused(target, f"its {part} label {index} is {label}, must be a whole number from 0 up") from error


def _check_memory(target: str, part: str, count: int, shape: tuple[int, ...], bytes_per_number: int) -> None:
    """Raise `InvalidConfig` if `count` more images of `shape` do not fit into memory."""
    free, needed = free_bytes(), count * int(np.prod(shape, dtype=np.float64)) * bytes_per_number
    if free is not None and needed > free:
        size = f"its {part} set of {count:,} images of {_shape(shape)} needs {needed / GB:,.1f} GB"
        raise _refused(target, f"{size} of memory, {free / GB:,.1f} GB are free; return fewer or smaller ones")


def free_bytes() -> int | None:
    """Return the free memory of this machine or container, in bytes; None if that is not known."""
    limits = []
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        limits.append(int(lines["MemAvailable"].split()[0]) * 1024)
        group = Path("/sys/fs/cgroup")
        most, used = ((group / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        limits.append(int(most) - int(used))
    # Another system, no such control group, or one without a limit.
    except (OSError, ValueError, KeyError):
        pass
    return min(limits, default=None)


def _refused(target: str, reason: str) -> InvalidConfig:
    return InvalidConfig(f"data.target={target}: {reason}")


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray)


def _kind(value: Any) -> str:
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, tuple | list) else type(value).__name__


def _shape(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape))
