"""When a run pauses to be evaluated: a pure function of sizes and keys, so that a resumed run pauses there too."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """The iterations after which a run pauses, each counted from the start of the run.

    An epoch has `num_samples` examples, `batch_size` in every iteration but the last, which has what is left. With
    `every_examples` the run pauses at the first iteration at or after every multiple of it, with `per_doubling` after
    2^(k / per_doubling) iterations, rounded up, for k = 0, 1, 2 and so on; with both at all of these, with neither
    never. A run that pauses at all also does so before its first step, after 0 iterations.
    """

    num_samples: int
    batch_size: int
    every_examples: int | None = None
    per_doubling: float | None = None

    @property
    def pauses(self) -> bool:
        """Whether there is any pause."""
        return self.every_examples is not None or self.per_doubling is not None

    @property
    def iterations_per_epoch(self) -> int:
        """The iterations of an epoch."""
        return -(-self.num_samples // self.batch_size)

    def examples_after(self, iterations: int) -> int:
        """Return how many examples have been trained on after so many iterations of the run."""
        epochs, rest = divmod(iterations, self.iterations_per_epoch)
        return epochs * self.num_samples + rest * self.batch_size

    def iteration_at(self, examples: int) -> int:
        """Return the first iteration of the run after which at least so many examples have been trained on."""
        epochs, rest = divmod(examples, self.num_samples)
        return epochs * self.iterations_per_epoch - (-rest // self.batch_size)

    def between(self, after: int, until: int) -> list[int]:
        """Return, in rising order, every pause that is later than iteration `after` and not later than `until`."""
        points = {*self._multiples(after, until), *self._doublings(after, until)}
        return sorted(point for point in points if after < point <= until)

    def _multiples(self, after: int, until: int) -> list[int]:
        """The pauses that `every_examples` asks for."""
        if self.every_examples is None:
            return []
        first = self.examples_after(after) // self.every_examples
        last = self.examples_after(until) // self.every_examples
        return [self.iteration_at(number * self.every_examples) for number in range(first + 1, last + 1)]

    def _doublings(self, after: int, until: int) -> list[int]:
        """The pauses that `per_doubling` asks for, with some that lie outside the range."""
        if self.per_doubling is None:
            return []
        doublings = math.log2(max(after, 1)), math.log2(max(until, 1))
        first, last = (math.floor(each * self.per_doubling) for each in doublings)
        return [math.ceil(2 ** (number / self.per_doubling)) for number in range(max(0, first - 1), last + 2)]
