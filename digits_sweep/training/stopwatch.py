"""The epoch timer: a monotonic clock, with the device's work finished at both ends."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


def synchronize(device: torch.device) -> None:
    """Wait until everything queued on `device` is done. The CPU queues nothing."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class Stopwatch:
    """Measure the seconds that a block takes on a device.

    `clock` returns seconds and never goes back; tests inject their own.
    """

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.perf_counter) -> None:
        self.device = device
        self.clock = clock
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Set `seconds` to what the block took, the device synchronized before the first and after the last tick."""
        synchronize(self.device)
        start = self.clock()
        yield
        synchronize(self.device)
        self.seconds = self.clock() - start
