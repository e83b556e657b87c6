"""A clock of training: it stands still in pauses, and the device's work is finished whenever it starts or stops."""

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
    """Counts, in `seconds`, the time between its starts and its stops.

    `clock` returns seconds and never goes back; tests inject their own.
    """

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.perf_counter) -> None:
        self.device, self.clock = device, clock
        self.seconds = 0.0
        self._started: float | None = None

    def start(self) -> None:
        """Let it run; nothing happens if it runs already."""
        if self._started is None:
            synchronize(self.device)
            self._started = self.clock()

    def stop(self) -> None:
        """Let it stand; nothing happens if it stands already."""
        synchronize(self.device)
        if self._started is not None:
            self.seconds += self.clock() - self._started
        self._started = None

    def reset(self) -> None:
        """Set it to 0, and let it stand."""
        self.seconds, self._started = 0.0, None

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        return self._started is not None

    @property
    def running_seconds(self) -> float:
        """The seconds since it was started, without waiting for the device; 0 while it stands."""
        return 0.0 if self._started is None else self.clock() - self._started

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let it run while the block does."""
        self.start()
        yield
        self.stop()
