"""The largest batch that fits: steps at doubled batch sizes, none of which brings the machine down.

On a GPU a step that runs out of memory is an error, after which all memory is given back. On a CPU the system ends a
process instead, so there a step is only taken if twice the memory of the one before leaves a margin, and later runs are
unharmed either way.
"""

import ctypes
import gc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import torch

from digits_sweep.config.schema import Config, EngineConfig
from digits_sweep.data.digits import Digits
from digits_sweep.machine import UNKNOWN_BYTES, free_memory
from digits_sweep.training.building import build_engine
from digits_sweep.training.device import (
    PeakMemory,
    is_out_of_memory,
    random_numbers_kept,
    resident_peak,
    resolve_device,
)
from digits_sweep.training.stopwatch import Stopwatch

# What a step may take of the memory that is free: other processes want some, and an allocator leaves gaps.
MARGIN = 0.8
# Beyond such a step it is reckoned what larger ones would take.
SECONDS_OF_A_STEP = 2.0
FIRST = 64


@dataclass(frozen=True)
class Step:
    """What a step took: bytes of memory beside those that were held before all steps, and seconds."""

    bytes: float
    seconds: float


@dataclass(frozen=True)
class Largest:
    """The largest batch that fits: all examples that there are, or one of the doubled sizes, tried or reckoned."""

    batch_size: int
    is_everything: bool = False
    is_tried: bool = True


def largest_batch(config: Config, digits: Digits, engine: str, num_threads: int) -> Largest | None:
    """Return the largest batch of `digits` that `config` can be trained on here by an `engine` on so many threads.

    None if the smallest does not fit, or if the system does not say how much memory is free. Nothing that is trained is
    kept. Raises what `build_engine` raises.
    """
    device = resolve_device(config.device)
    if device.type != "cuda" and free_memory() >= UNKNOWN_BYTES:
        return None
    config = replace(config, engine=EngineConfig(engine), num_threads=num_threads)
    held = _Memory(device)

    def step(size: int) -> Step | None:
        held.forget()
        try:
            seconds = _seconds_of_a_step(replace(config, data=replace(config.data, batch_size=size)), digits)
            return Step(held.taken(), seconds)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None

    try:
        with random_numbers_kept(device):
            return doubled(step, held.free, len(digits.train_labels), may_fail=device.type == "cuda")
    finally:
        held.forget()


def doubled(step: Callable[[int], Step | None], free: Callable[[], float], most: int, may_fail: bool) -> Largest | None:
    """Return the largest of the doubled batch sizes, up to `most`, that leaves a margin of the `free` bytes.

    `step` takes a step of a size and returns None if that ran out of memory. Unless it `may_fail`, it is not tried
    where that is to be expected.
    """
    size, tried = min(FIRST, most), dict[int, Step]()
    while True:
        before, room = next(reversed(tried.items()), None), MARGIN * free()
        if before and not may_fail and before[1].bytes * size / before[0] > room:
            break
        taken = step(size)
        # A step that is over has taken what was free before it.
        if taken is None or taken.bytes > room:
            break
        tried[size] = taken
        if size == most:
            return Largest(most, is_everything=True)
        if taken.seconds > SECONDS_OF_A_STEP and len(tried) > 1:
            return _reckoned(tried, room, most)
        size = min(2 * size, most)
    return Largest(max(tried)) if tried else None


def _reckoned(tried: dict[int, Step], room: float, most: int) -> Largest:
    """Return the largest of the doubled sizes that has room, if memory goes on growing as over the last two steps."""
    (small, one), (size, two) = list(tried.items())[-2:]
    for_each = max((two.bytes - one.bytes) / (size - small), two.bytes / size / 2)
    largest = size
    while largest < most and two.bytes + for_each * (min(2 * largest, most) - size) <= room:
        largest = min(2 * largest, most)
    return Largest(largest, is_everything=largest == most, is_tried=largest == size)


def _seconds_of_a_step(config: Config, digits: Digits) -> float:
    built = build_engine(config, digits)
    built.configure_threads()
    stopwatch = Stopwatch(built.device)
    with stopwatch.running():
        built.engine.train(torch.arange(config.data.batch_size))
    return stopwatch.seconds


class _Memory:
    """The memory of this process on a device: what is free, and what is taken beside what was held at the start."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.forget()
        self._held = self._peak()

    def forget(self) -> None:
        """Give back what no object holds any more, and count the most that is held anew."""
        gc.collect()
        # What the C library keeps of freed memory would hide what the next step takes; others than glibc keep little.
        with suppress(OSError, TypeError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
        self._counter = PeakMemory(self.device)

    def _peak(self) -> float:
        if self.device.type == "cuda":
            return float(torch.cuda.max_memory_reserved(self.device))
        return float(resident_peak() or 0)

    def taken(self) -> float:
        """Return the most bytes beside those at the start."""
        return self._peak() - self._held

    def free(self) -> float:
        """Return how many bytes there are for a step."""
        self.forget()
        if self.device.type == "cuda":
            return float(torch.cuda.mem_get_info(self.device)[0])
        return float(free_memory())
