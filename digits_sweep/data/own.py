"""Data of the user's own, by the name of the function that returns it: read into memory once, and checked.

The function returns (train, test), each a pair of images and labels, or a map-style `Dataset` of such pairs. PyTorch's
random numbers start at 0 in it, so that made-up data are the same in every process.
"""

import hashlib
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from digits_sweep.config.own_code import called, mistake
from digits_sweep.config.schema import OwnDataConfig
from digits_sweep.config.text import to_text
from digits_sweep.data.digits import Digits
from digits_sweep.errors import InvalidConfig

PARTS = ("training", "test")
RIGHT = "must return (train, test), each a pair of images and labels or a Dataset that has a length"
# Examples of a Dataset that are read twice: a random transform makes another image of one of them, all but surely.
READ_TWICE = 10
AUGMENTATION = (
    "gives another image when it is read again; images are read once, so leave random transforms out: a layer that "
    "acts in training only does the same"
)
GB = 1e9


def name_of_own(data: OwnDataConfig) -> str:
    """Return what the data are called in a record: the function, and what it is called with."""
    return f"{data.target}{to_text(data.arguments) if data.arguments else ''}"


def load_own(data: OwnDataConfig, report: Callable[[str], None]) -> Digits:
    """Call the function that `data.target` names, and return what it returns as tensors.

    `report` gets a line for every `Dataset` that is read. Raises `InvalidConfig` with one line if it is no data to
    train on, or if memory does not hold it.
    """
    target = str(data.target)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        returned = called("data", target, data.arguments)
        if not isinstance(returned, tuple | list) or len(returned) != 2:
            raise _wrong(target, f"returns {_kind(returned)}, {RIGHT}")
        train, test = (_tensors(target, part, each, report) for part, each in zip(PARTS, returned, strict=True))
    if train[0].shape[1:] != test[0].shape[1:]:
        shapes = " and ".join(_shape(images.shape[1:]) for images, _ in (train, test))
        raise _wrong(target, f"gives training and test images of {shapes}, must be of one shape")
    digits = Digits.of(name_of_own(data), *train, *test)
    # The same bytes may be other images.
    layout = [(str(each.dtype), tuple(each.shape)) for each in (*train, *test)]
    return replace(digits, digest=hashlib.sha256(f"{layout} {digits.digest}".encode()).hexdigest())


def _tensors(target: str, part: str, given: Any, report: Callable[[str], None]) -> tuple[Tensor, Tensor]:
    """Return checked images (n, ...), uint8 or float32, and labels (n,) int64."""
    if (
        isinstance(given, tuple | list)
        and len(given) == 2
        and all(isinstance(each, Tensor | np.ndarray) for each in given)
    ):
        images, labels = map(torch.as_tensor, given)
    elif hasattr(given, "__getitem__") and not isinstance(given, tuple | list | dict | Tensor | np.ndarray):
        images, labels = _read(target, part, given, report)
    else:
        raise _wrong(target, f"its {part} set is {_kind(given)}; {RIGHT}")
    if images.dim() < 2 or labels.dim() != 1 or len(images) != len(labels) or not len(labels):
        found = f"images of {_shape(images.shape)} and labels of {_shape(labels.shape)}"
        raise _wrong(target, f"its {part} set has {found}, must be (n, ...) and (n,) with n from 1 up")
    if not (images.dtype is torch.uint8 or images.is_floating_point()):
        raise _wrong(target, f"its {part} images are {images.dtype}, must be uint8 or float")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype is torch.bool:
        raise _wrong(target, f"its {part} labels are {labels.dtype}, must be whole numbers from 0 up")
    _refuse_too_large(target, part, len(images), images.shape[1:], 4 * (images.dtype is not torch.float32))
    if images.is_floating_point():
        images = images.detach().to("cpu", torch.float32)
        if len(bad := (~images.flatten(1).isfinite().all(1)).nonzero()):
            raise _wrong(target, f"its {part} image {int(bad[0])} has values that are NaN or infinite")
    labels = labels.detach().to("cpu", torch.int64)
    if (least := int(labels.min())) < 0:
        raise _wrong(target, f"its {part} labels have {least}, must be whole numbers from 0 up")
    return images.detach().cpu().contiguous(), labels.contiguous()


def _read(target: str, part: str, dataset: Any, report: Callable[[str], None]) -> tuple[Tensor, Tensor]:
    """Read every example of a `Dataset` through its transforms, with a bar if there is a terminal."""
    try:
        count = len(dataset)
    except TypeError as error:
        raise _wrong(target, f"its {part} set is {_kind(dataset)}, which has no length; {RIGHT}") from error
    if not count:
        raise _wrong(target, f"its {part} set has no examples")
    first, _ = _example(target, part, dataset, 0)
    _refuse_too_large(target, part, count, first.shape, first.element_size() + 4 * (first.dtype is not torch.float32))
    for place in range(min(READ_TWICE, count)):
        once, again = (_example(target, part, dataset, place)[0] for _ in range(2))
        if once.shape != again.shape or not torch.equal(once.nan_to_num(), again.nan_to_num()):
            raise _wrong(target, f"its {part} set {AUGMENTATION}")
    images, labels = first.new_empty(count, *first.shape), torch.empty(count, dtype=torch.int64)
    report(f"reading {count:,} {part} examples of {target} into memory")
    for place in _shown(range(count)):
        image, labels[place] = _example(target, part, dataset, place)
        if image.shape != first.shape or image.dtype is not first.dtype:
            found = f"{_shape(image.shape)} {image.dtype}, but its first one of {_shape(first.shape)} {first.dtype}"
            raise _wrong(target, f"its {part} image {place} is of {found}")
        images[place] = image
    return images, labels


def _example(target: str, part: str, dataset: Any, place: int) -> tuple[Tensor, int]:
    try:
        image, label = dataset[place]
    # Code of the user's may raise anything.
    except Exception as error:
        raise mistake("data", target, f"fails at {part} example {place}", error) from error
    if not isinstance(image, Tensor | np.ndarray):
        right = "must be a tensor: add a transform such as torchvision.transforms.ToTensor()"
        raise _wrong(target, f"its {part} image {place} is {_kind(image)}, {right}")
    try:
        return torch.as_tensor(image), index(label)
    except TypeError as error:
        raise _wrong(target, f"its {part} label {place} is {label}, must be a whole number from 0 up") from error


def _shown(places: range) -> Iterable[int]:
    """Show a bar while the places are gone through, on a terminal."""
    is_terminal = sys.stdout.isatty()
    return track(places, "  reading", console=Console(), transient=True, disable=not is_terminal)


def _refuse_too_large(target: str, part: str, count: int, shape: tuple[int, ...], bytes_of_each: int) -> None:
    """Raise `InvalidConfig` if so many images with `bytes_of_each` number, read and in float32, do not fit."""
    free, needed = free_bytes(), count * int(np.prod(shape, dtype=np.float64)) * bytes_of_each
    if free is not None and needed > free:
        found = f"its {part} set of {count:,} images of {_shape(shape)} needs {needed / GB:,.1f} GB"
        raise _wrong(target, f"{found} of memory, {free / GB:,.1f} GB are free; return fewer or smaller ones")


def free_bytes() -> int | None:
    """Return the memory that is free on this machine or in this container, in bytes; None if that is not known."""
    found = []
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
        group = Path("/sys/fs/cgroup")
        most, used = ((group / f"memory.{each}").read_text().strip() for each in ("max", "current"))
        found.append(int(most) - int(used))
    # Another system, no such control group, or one without a limit.
    except (OSError, ValueError, KeyError):
        pass
    return min(found, default=None)


def _wrong(target: str, what: str) -> InvalidConfig:
    return InvalidConfig(f"data.target={target}: {what}")


def _kind(value: Any) -> str:
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, tuple | list) else type(value).__name__


def _shape(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape))
