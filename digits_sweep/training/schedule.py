"""Schedules, functions of the examples so far: when a run is evaluated, and the learning rate of every step."""

import math
from dataclasses import dataclass
from itertools import pairwise

from torch.optim import Optimizer

from digits_sweep.config.schema import ScheduleConfig, TrainerConfig


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
        first, last = (math.floor(number * self.per_doubling) for number in doublings)
        return [math.ceil(2 ** (number / self.per_doubling)) for number in range(max(0, first - 1), last + 2)]


@dataclass(frozen=True)
class LearningRate:
    """A learning rate that changes: a warm-up over the first examples, then a decay up to example `total_examples`."""

    schedule: ScheduleConfig
    total_examples: int

    def at(self, examples: float) -> float:
        """Return the share of the full rate, 0 to 1, after so many examples."""
        warmup, final = self.schedule.warmup_examples, self.schedule.final
        if examples < warmup:
            return examples / warmup
        done = min(1.0, (examples - warmup) / max(1, self.total_examples - warmup))
        if self.schedule.decay == "linear":
            return 1 - (1 - final) * done
        if self.schedule.decay == "cosine":
            return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2
        return 1.0

    def of_steps(self, iterations: Schedule, after: int, until: int) -> list[float]:
        """Return the share for every iteration that is later than `after` and not later than `until`.

        It is that of the middle of the iteration's batch: so no step has rate 0, and if the share changes in a line,
        the examples of a run are trained on with the same rates on average, however large their batches.
        """
        ends = [iterations.examples_after(number) for number in range(after, until + 1)]
        return [self.at((start + end) / 2) for start, end in pairwise(ends)]


def is_constant(schedule: ScheduleConfig) -> bool:
    """Return whether every step has the same learning rate."""
    return schedule.decay is None and schedule.warmup_examples == 0


def learning_rate_of(schedule: ScheduleConfig, trainer: TrainerConfig, num_samples: int) -> LearningRate | None:
    """Return the learning rate of a run on `num_samples` examples an epoch, or None if it is constant.

    Its last example is that of the last epoch, or example `trainer.max_examples` if that comes before.
    """
    if is_constant(schedule):
        return None
    total = trainer.num_epochs * num_samples
    return LearningRate(schedule, total if trainer.max_examples is None else min(total, trainer.max_examples))


class ScaledRates:
    """The learning rates of an optimizer, which a step may have a share of."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.full: list[float] = [group["lr"] for group in optimizer.param_groups]

    def set(self, share: float) -> None:
        """Let the next step of every group of parameters have this share of its full rate."""
        # The groups are looked up again, because loading a state replaces them.
        for group, lr in zip(self.optimizer.param_groups, self.full, strict=True):
            group["lr"] = lr * share
