"""Schedules, functions of the examples so far: when a run is evaluated, its batch size, and the rate of every step."""

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from torch.optim import Optimizer

from digits_sweep.config.scaling import Sizes, rate_rule, rate_share
from digits_sweep.config.schema import ScheduleConfig, TrainerConfig
from digits_sweep.results.critical import hint_of
from digits_sweep.results.record import EvaluationRow


@dataclass(frozen=True)
class Schedule:
    """The iterations of a run, and those after which it pauses, each counted from the start of the run.

    An epoch has `num_samples` examples, `batch_size` in every iteration but the last, which has what is left. Of a
    batch that grows, `growth` has the examples from which on it has another size: the batch that is being trained on
    then is whole, the next one has the new size. With `every_examples` the run pauses at the first iteration at or
    after every multiple of it, with `per_doubling` after 2^(k / per_doubling) iterations, rounded up, for k = 0, 1, 2
    and so on; with both at all of these, with neither never. A run that pauses at all also does so before its first
    step, after 0 iterations.
    """

    num_samples: int
    batch_size: int
    every_examples: int | None = None
    per_doubling: float | None = None
    growth: Sizes = ()

    @property
    def pauses(self) -> bool:
        """Whether there is any pause."""
        return self.every_examples is not None or self.per_doubling is not None

    @cached_property
    def _stretches(self) -> list[tuple[int, int, int]]:
        """The stretches of one batch size: the iterations and examples before each, and the size.

        A stretch that begins within an epoch lasts to the end of that epoch at most.
        """
        stretches = [(0, 0, self.batch_size)]
        for border, size in (*self.growth, (None, 0)):
            iterations, examples, before = stretches[-1]
            end = -(-examples // self.num_samples) * self.num_samples
            if examples < end and (border is None or border > end):
                iterations, examples = iterations - (examples - end) // before, end
                stretches.append((iterations, examples, before))
            if border is not None:
                steps = self._steps(max(0, border - examples), before)
                after = examples + self._examples(steps, before)
                stretches.append((iterations + steps, min(after, end) if examples < end else after, size))
        return stretches

    def _steps(self, examples: int, size: int) -> int:
        """The first iteration after so many examples that follow the start of an epoch, at one batch size."""
        epochs, rest = divmod(examples, self.num_samples)
        return epochs * -(-self.num_samples // size) - (-rest // size)

    def _examples(self, steps: int, size: int) -> int:
        """The examples of so many iterations that follow the start of an epoch, at one batch size."""
        epochs, rest = divmod(steps, -(-self.num_samples // size))
        return epochs * self.num_samples + rest * size

    def examples_after(self, iterations: int) -> int:
        """Return how many examples have been trained on after so many iterations of the run."""
        before, examples, size = self._stretch_after(iterations)
        return examples + self._examples(iterations - before, size)

    def iteration_at(self, examples: int) -> int:
        """Return the first iteration of the run after which at least so many examples have been trained on."""
        index = max(1, bisect_left(self._stretches, examples, key=lambda stretch: stretch[1]))
        iterations, before, size = self._stretches[index - 1]
        return iterations + self._steps(examples - before, size)

    def size_after(self, iterations: int) -> int:
        """Return the batch size of the iteration that follows so many, but for an epoch's smaller last batch."""
        return self._stretch_after(iterations)[2]

    def _stretch_after(self, iterations: int) -> tuple[int, int, int]:
        """The stretch of the iteration that follows so many."""
        if not self.growth:
            return 0, 0, self.batch_size
        return self._stretches[bisect_right(self._stretches, iterations, key=lambda stretch: stretch[0]) - 1]

    def sizes(self, after: int, until: int) -> list[int]:
        """Return the examples of every iteration that is later than `after` and not later than `until`."""
        ends = [self.examples_after(number) for number in range(after, until + 1)]
        return [end - start for start, end in pairwise(ends)]

    def changes(self, after: int, until: int) -> list[int]:
        """Return, in rising order, the iterations within the range after which batches have another size."""
        return sorted({number for number, _, _ in self._stretches if after < number < until})

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


class NoiseGrowth:
    """The sizes of a batch that follows the noise of its gradients: doubled, never more than once an evaluation.

    After an evaluation, the batch doubles if the hint at the critical batch size (`hint_of`: the gradient noise scale
    in the optimizer's metric, over the last doubling of the iterations) is twice as large as the batch or larger. Below
    the critical batch size a batch twice as large needs nearly half the steps; above it, nearly as many (McCandlish et
    al. 2018, eq. 2.11). The sizes are a function of the evaluations, so that a resumed run, which has them in a file,
    grows as an uninterrupted one.
    """

    def __init__(self, batch_size: int, largest: int) -> None:
        self.sizes: Sizes = ((0, batch_size),)
        self.largest = largest
        self._rows: list[EvaluationRow] = []

    def follow(self, row: EvaluationRow) -> None:
        """Take the next evaluation of the run."""
        size = self.sizes[-1][1]
        # Those that a hint looks back at.
        self._rows = [*(each for each in self._rows if 2 * each.iterations >= row.iterations), row]
        hint = hint_of(self._rows)
        if hint is not None and 2 * size <= min(hint, self.largest):
            self.sizes = (*self.sizes, (row.examples, 2 * size))


@dataclass(frozen=True)
class LearningRate:
    """A learning rate that changes: a warm-up over the first examples, then a decay up to example `total_examples`.

    It may follow a batch that grows besides: then the share of the full rate may be above 1.
    """

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
        shares = [self.at((start + end) / 2) for start, end in pairwise(ends)]
        if not iterations.growth:
            return shares
        ratios = (iterations.size_after(number) / iterations.batch_size for number in range(after, until))
        return [share * rate_share(self.schedule, ratio) for share, ratio in zip(shares, ratios, strict=True)]


def is_constant(schedule: ScheduleConfig) -> bool:
    """Return whether every step has the same learning rate."""
    return schedule.decay is None and schedule.warmup_examples == 0 and rate_rule(schedule) == "fixed"


def learning_rate_of(schedule: ScheduleConfig, trainer: TrainerConfig, num_samples: int) -> LearningRate | None:
    """Return the learning rate of a run on `num_samples` examples an epoch, or None if it is constant.

    Unless the schedule says where its decay ends, that is at the last example of the last epoch, or example
    `trainer.max_examples` if that comes before.
    """
    if is_constant(schedule):
        return None
    last = min(trainer.num_epochs * num_samples, trainer.max_examples or math.inf)
    return LearningRate(schedule, schedule.decay_examples or int(last))


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
