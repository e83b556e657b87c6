"""The epoch loop: order, time, losses, and when to stop."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from digits_sweep.config.schema import TrainerConfig
from digits_sweep.training.engines.protocol import Engine
from digits_sweep.training.stopwatch import Stopwatch


@dataclass(frozen=True)
class Epoch:
    """One finished epoch: its number (from 1), the seconds it took, and (iterations,) float32 losses on the CPU."""

    number: int
    seconds: float
    losses: Tensor

    @property
    def loss_mean(self) -> float:
        """The mean over iterations: a smaller last batch counts as one iteration, like every other."""
        return self.losses.double().mean().item()

    @property
    def loss_std(self) -> float:
        """The standard deviation over iterations (dividing by their number; 0 if there is only one)."""
        return self.losses.double().std(correction=0).item()


def epoch_order(seed: int, epoch: int, num_samples: int) -> Tensor:
    """Return the order of epoch `epoch` (from 1): a permutation of 0 .. num_samples - 1, (num_samples,) int64, CPU.

    A pure function of `seed` (0 or more) and `epoch`, so every engine, every device and every resumed run sees the
    same batches. SeedSequence mixes the two: if they were added, seed 2 would start with the second epoch of seed 1.
    Raises ValueError if one of them is negative.
    """
    mixed = int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0])
    return torch.randperm(num_samples, generator=torch.Generator().manual_seed(mixed))


def train(
    engine: Engine, trainer: TrainerConfig, seed: int, num_samples: int, stopwatch: Stopwatch, first_epoch: int = 1
) -> Iterator[Epoch]:
    """Yield every epoch from `first_epoch` to `trainer.num_epochs` as soon as it is finished.

    Stops early after an epoch that `is_last`. An epoch's seconds run from before its shuffle to after its last step.
    """
    for number in range(first_epoch, trainer.num_epochs + 1):
        with stopwatch.running():
            losses = engine.train(epoch_order(seed, number, num_samples))
        epoch = Epoch(number, stopwatch.seconds, losses.cpu())
        yield epoch
        if is_last(epoch.loss_mean, trainer):
            return


def is_last(loss_mean: float, trainer: TrainerConfig) -> bool:
    """Return whether an epoch with this mean loss ends the run: it diverged, or it passed the threshold if asked to."""
    return not math.isfinite(loss_mean) or (trainer.stop_at_threshold and loss_mean < trainer.loss_threshold)
