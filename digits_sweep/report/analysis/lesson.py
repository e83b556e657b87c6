"""What the lesson's instructor saw, and how often these runs agree."""

import math
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from digits_sweep.report.analysis.formatting import capitalised, share
from digits_sweep.report.analysis.replicates import Replicates, share_interval


@dataclass(frozen=True)
class Stated:
    """A row of the lesson: seconds per epoch and first epoch below 1.6; NaN: not stated, infinity: not reached."""

    batch_size: int
    lr: float
    weight_decay: float
    seconds_per_epoch: float
    first_epoch: float


# One run each, on Google Colab.
STATED_EPOCHS = 30
STATED = (
    Stated(100, 1e-4, 5e-4, 5, 7),
    Stated(20, 1e-4, 5e-4, 13, 5),
    Stated(5, 1e-4, 5e-4, 38, math.inf),
    Stated(5, 1e-6, 5e-6, math.nan, math.nan),
)


def is_the_lesson(runs: pd.DataFrame) -> bool:
    """Whether `runs` (as `load_sweep` gives them) train what the lesson trains, so that its figures are comparable."""
    expected: dict[str, str | float] = {"dataset": "mnist", "model": "mlp", "optimizer": "adam", "loss_threshold": 1.6}
    return all(runs[column].dropna().eq(value).all() for column, value in expected.items())


def stated_for(group: Replicates) -> Stated | None:
    """The lesson's row with the batch size and the rates of `group`, if it has one."""
    own = (group.batch_size, group.lr, group.weight_decay)
    return next((row for row in STATED if (row.batch_size, row.lr, row.weight_decay) == own), None)


def findings(runs: pd.DataFrame, groups: list[Replicates]) -> list[str]:
    """A sentence for every figure of the lesson that these runs can be held against."""
    rows = [(group, stated) for group in groups if (stated := stated_for(group))]
    told = (_epochs(runs, group, stated) for group, stated in rows if stated.first_epoch > 0)
    return [*_trend(rows), *filter(None, told)]


def _trend(rows: list[tuple[Replicates, Stated]]) -> list[str]:
    """The lesson claims how the times compare, not how long they are: its machine was another one."""
    timed = sorted((row for row in rows if row[1].seconds_per_epoch > 0), key=lambda row: -row[1].batch_size)
    told = []
    for (larger, stated_larger), (smaller, stated_smaller) in pairwise(timed):
        measured = smaller.seconds_per_epoch.median / larger.seconds_per_epoch.median
        stated = stated_smaller.seconds_per_epoch / stated_larger.seconds_per_epoch
        told.append(
            f"From batch size {larger.batch_size} to {smaller.batch_size} an epoch takes {measured:.2g} times as long; "
            f"in the lesson {stated:.2g} times."
        )
    return told


def _epochs(runs: pd.DataFrame, group: Replicates, stated: Stated) -> str | None:
    own = runs[runs["configuration"] == group.configuration]
    # A run that ended earlier does not say what it would have come to.
    own = own[own["first_epoch_below_threshold"].notna() | own["epochs"].ge(STATED_EPOCHS)]
    if own.empty:
        return None
    reached = own["first_epoch_below_threshold"]
    if math.isinf(stated.first_epoch):
        said, agree = "does not get below 1.6 in 30 epochs", int(reached.isna().sum())
    else:
        said, agree = f"is first below 1.6 in epoch {stated.first_epoch}", int(reached.eq(stated.first_epoch).sum())
    low, high = share_interval(agree, len(own))
    return (
        f"{capitalised(group.configuration)} {said}: so in the lesson's one run, "
        f"and here in {share(agree, len(own))} ({low:.0%} to {high:.0%})."
    )
