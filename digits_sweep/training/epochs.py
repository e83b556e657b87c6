"""The epoch loop: order, time, losses, and when to stop."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from digits_sweep.config.schema import TrainerConfig
from digits_sweep.training.engines.protocol import Engine
from digits_sweep.training.epoch_order import epoch_order
from digits_sweep.training.stopwatch import Stopwatch


@dataclass(frozen=True)
class Epoch:
    """One epoch that is over: its number (from 1), the seconds it took, and (iterations,) float32 losses on the CPU."""

    number: int
    seconds: float
    losses: Tensor

    @property
    def loss_mean(self) -> float:
        """The mean over iterations: a smaller last batch counts as one iteration, like every other."""
        return self.losses.double().mean().item()

    @property
    def loss_std(self) -> float:
        """The standard deviation over iterations (dividing by their number; 0 where there is only one)."""
        return self.losses.double().std(correction=0).item()


def train(
    engine: Engine, trainer: TrainerConfig, seed: int, num_samples: int, stopwatch: Stopwatch, first_epoch: int = 1
) -> Iterator[Epoch]:
    """Yield every epoch from `first_epoch` to `trainer.num_epochs` as soon as it is over.

    Ends early after an epoch that `is_last`. An epoch's seconds run from before its shuffle to after its last step.
    """
    for number in range(first_epoch, trainer.num_epochs + 1):
        with stopwatch.running():
            losses = engine.run_epoch(epoch_order(seed, number, num_samples))
        epoch = Epoch(number, stopwatch.seconds, losses.cpu())
        yield epoch
        if is_last(epoch.loss_mean, trainer):
            return


def is_last(loss_mean: float, trainer: TrainerConfig) -> bool:
    """Whether an epoch with this mean loss ends the run before its time: diverged, or at the threshold if asked to."""
    return not math.isfinite(loss_mean) or (trainer.stop_at_threshold and loss_mean < trainer.loss_threshold)
