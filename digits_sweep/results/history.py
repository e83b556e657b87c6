"""What a run's epochs amount to: the timing and convergence columns of the summary."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class EpochRow:
    """One row of `history.csv`."""

    epoch: int
    loss_mean: float
    loss_std: float
    seconds: float
    examples_per_second: float


def outcome(
    history: Sequence[EpochRow], loss_threshold: float, train_samples: int, resumed_after: Sequence[int] = ()
) -> dict[str, int | float | None]:
    """The summary's columns that follow from the history alone; None where there is nothing to say.

    `seconds_per_epoch` is the median over the epochs that are not the first of their process, where there are such:
    the run's first, and the ones that follow an epoch in `resumed_after`, pay for warming up.
    `first_epoch_below_threshold` is None where no epoch's mean loss is below `loss_threshold`; it is never guessed.
    """
    if not history:
        return dict.fromkeys(OUTCOME_COLUMNS) | {"epochs": 0}
    seconds = [row.seconds for row in history]
    cold = {1} | {epoch + 1 for epoch in resumed_after}
    typical = median([row.seconds for row in history if row.epoch not in cold] or seconds)
    reached = next((row.epoch for row in history if row.loss_mean < loss_threshold), None)
    last = history[-1].loss_mean
    return {
        "seconds_per_epoch": typical,
        "first_epoch_below_threshold": reached,
        "seconds_to_threshold": math.fsum(seconds[:reached]) if reached else None,
        "final_loss": last,
        "epochs": len(history),
        "seconds_first_epoch": seconds[0],
        "examples_per_second": train_samples / typical if typical > 0 else None,
    }


OUTCOME_COLUMNS = (
    "seconds_per_epoch",
    "first_epoch_below_threshold",
    "seconds_to_threshold",
    "final_loss",
    "epochs",
    "seconds_first_epoch",
    "examples_per_second",
)


def softmax_floor(num_classes: int) -> float:
    """The least cross-entropy that probabilities can reach: -ln(e / (e + C - 1)), 1.4612 for ten classes."""
    return -math.log(math.e / (math.e + num_classes - 1))
