"""How far a whole sweep is, and how long it still takes: from what epochs at its batch sizes have taken so far."""

import math
from collections.abc import Sequence

from digits_sweep.config.plan import PlannedRun
from digits_sweep.shell import Progress


class SweepProgress:
    """The runs of a sweep, in order, that train one after the other in this process."""

    def __init__(self, runs: Sequence[PlannedRun]) -> None:
        self._epochs = [run.config.trainer.num_epochs for run in runs]
        self._batch_sizes = [run.config.data.batch_size for run in runs]
        self._number, self._num_samples = 0, 1
        # Seconds per epoch by iterations per epoch.
        self._measured: dict[int, float] = {}

    def start(self, number: int, num_samples: int) -> "SweepProgress":
        """Take run `number`, from 0, as the one that trains now; `num_samples` are in its training set."""
        self._number, self._num_samples = number, num_samples
        return self

    def after(self, epoch: int, seconds: float) -> Progress:
        """Return how far the sweep is after an epoch of the present run that took so many seconds."""
        self._measured[self._iterations(self._number)] = seconds
        epochs, following = self._epochs[self._number], range(self._number + 1, len(self._epochs))
        left = self._seconds(self._number) * (epochs - epoch)
        left += math.fsum(self._seconds(number) * self._epochs[number] for number in following)
        return Progress(self._number + epoch / epochs, len(self._epochs), left)

    def _iterations(self, number: int) -> int:
        return math.ceil(self._num_samples / self._batch_sizes[number])

    def _seconds(self, number: int) -> float:
        """Return what an epoch of a run takes: as measured, or in proportion to the nearest number of iterations."""
        iterations = self._iterations(number)
        nearest = min(self._measured, key=lambda measured: abs(math.log(measured / iterations)))
        return self._measured[nearest] * iterations / nearest
