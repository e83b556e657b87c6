"""How far a whole sweep is, and how long it still takes: from what epochs at its batch sizes have taken so far."""

import math
from dataclasses import dataclass, field

from digits_sweep.console import Progress
from digits_sweep.results.manifest import Manifest

# Seconds per epoch by iterations per epoch, for every sweep that trains in this process.
_measured: dict[str, dict[int, float]] = {}


@dataclass
class Pace:
    """The runs of a sweep in order, of which number `number` is training now; `num_samples` are in its training set."""

    manifest: Manifest
    number: int
    num_samples: int
    measured: dict[int, float] = field(init=False)

    def __post_init__(self) -> None:
        self.measured = _measured.setdefault(self.manifest.id, {})

    def after(self, epoch: int, seconds: float) -> Progress:
        """Return how far the sweep is after an epoch of the present run that took so many seconds."""
        self.measured[self._iterations(self.number)] = seconds
        left = self._seconds(self.number) * (self._epochs(self.number) - epoch)
        following = range(self.number + 1, len(self.manifest.configs))
        left += math.fsum(self._seconds(number) * self._epochs(number) for number in following)
        return Progress(self.number + epoch / self._epochs(self.number), len(self.manifest.configs), left)

    def _epochs(self, number: int) -> int:
        return int(self.manifest.configs[number]["trainer"]["num_epochs"])

    def _iterations(self, number: int) -> int:
        return math.ceil(self.num_samples / int(self.manifest.configs[number]["data"]["batch_size"]))

    def _seconds(self, number: int) -> float:
        """Return what an epoch of a run takes: as measured, or in proportion to the nearest number of iterations."""
        iterations = self._iterations(number)
        nearest = min(self.measured, key=lambda each: abs(math.log(each / iterations)))
        return self.measured[nearest] * iterations / nearest
