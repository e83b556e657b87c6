"""A clock of training that stands still in pauses."""

import time

import torch

from digits_sweep.training.stopwatch import synchronize


class Clock:
    """Counts the seconds between its starts and its stops, with the work of a device finished at both."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0
        self._since: float | None = None

    def start(self) -> None:
        """Let the clock run."""
        synchronize(self.device)
        self._since = time.perf_counter()

    def stop(self) -> None:
        """Let the clock stand; if it does already, nothing."""
        synchronize(self.device)
        if self._since is not None:
            self.seconds += time.perf_counter() - self._since
        self._since = None
