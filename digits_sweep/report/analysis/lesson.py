"""Compare the runs with the figures of the lesson that this program turns into an experiment."""

import math
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from digits_sweep.report.analysis.formatting import capitalized, share
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
    """Return whether a study's `runs` train what the lesson trains, so that its figures are comparable."""
    expected: dict[str, str | float] = {"dataset": "mnist", "model": "mlp", "optimizer": "adam", "loss_threshold": 1.6}
    return all(runs[column].dropna().eq(value).all() for column, value in expected.items())


def stated_for(group: Replicates) -> Stated | None:
    """Return the lesson's row with the batch size and the rates of `group`, if it has one."""
    own = (group.batch_size, group.lr, group.weight_decay)
    return next((row for row in STATED if (row.batch_size, row.lr, row.weight_decay) == own), None)


def findings(runs: pd.DataFrame, groups: list[Replicates]) -> list[str]:
    """Return a sentence for every figure of the lesson that these runs can be compared with, if they train the same.

    `runs` are those of a study that ended.
    """
    if not is_the_lesson(runs):
        return []
    rows = [(group, stated) for group in groups if (stated := stated_for(group))]
    epochs = (_epochs(runs, group, stated) for group, stated in rows if stated.first_epoch > 0)
    return [*_trend(rows), *filter(None, epochs)]


def _trend(rows: list[tuple[Replicates, Stated]]) -> list[str]:
    """Compare ratios of times: the lesson's machine was another one, so its seconds cannot be compared."""
    timed = sorted((row for row in rows if row[1].seconds_per_epoch > 0), key=lambda row: -row[1].batch_size)
    sentences = []
    for (larger, stated_larger), (smaller, stated_smaller) in pairwise(timed):
        measured = smaller.seconds_per_epoch.median / larger.seconds_per_epoch.median
        stated = stated_smaller.seconds_per_epoch / stated_larger.seconds_per_epoch
        sentences.append(
            f"From batch size {larger.batch_size} to {smaller.batch_size}, an epoch takes {measured:.2g} times as "
            f"long; in the lesson, {stated:.2g} times."
        )
    return sentences


def _epochs(runs: pd.DataFrame, group: Replicates, stated: Stated) -> str | None:
    own = runs[runs["configuration"] == group.configuration]
    # A run that ended earlier does not show whether it would have reached the threshold by then.
    own = own[own["first_epoch_below_threshold"].notna() | own["epochs"].ge(STATED_EPOCHS)]
    if own.empty:
        return None
    reached = own["first_epoch_below_threshold"]
    if math.isinf(stated.first_epoch):
        statement, agree = f"does not get below 1.6 in {STATED_EPOCHS} epochs", int(reached.isna().sum())
    else:
        statement = f"is first below 1.6 in epoch {stated.first_epoch}"
        agree = int(reached.eq(stated.first_epoch).sum())
    low, high = share_interval(agree, len(own))
    return (
        f"{capitalized(group.configuration)} {statement} in the lesson's one run; here this happens in "
        f"{share(agree, len(own))} runs (95% interval {low:.0%} to {high:.0%})."
    )
