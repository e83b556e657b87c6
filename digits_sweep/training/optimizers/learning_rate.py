"""The learning rate of every step, as a share of `optimizer.lr`: a pure function of examples, not of iterations.

So a schedule means the same at every batch size, and a resumed run trains with the rates it would have had.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

from torch.optim import Optimizer

from digits_sweep.config.schema import ScheduleConfig, TrainerConfig
from digits_sweep.training.measures.schedule import Schedule


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
