"""Compare the runs with the figures of the lesson that this program turns into an experiment."""

import math
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from digits_sweep.report.analysis.sentences.formatting import capitalized, listed, share
from digits_sweep.report.analysis.statistics.replicates import Replicates, or_infinity, share_interval


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


# What is trained there, as far as the lesson states it, and as this program takes the rest.
LESSON: dict[str, str | float] = {
    **{"dataset": "mnist", "scale": "unit", "model": "mlp", "hidden_size": 128, "hidden_layers": 2},
    **{"activation": "relu", "optimizer": "adam", "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "loss_threshold": 1.6},
}


def is_the_lesson(runs: pd.DataFrame) -> bool:
    """Return whether a study's `runs` train what the lesson trains, so that its figures are comparable."""
    return all(runs[column].dropna().eq(value).all() for column, value in LESSON.items())


def stated_for(group: Replicates) -> Stated | None:
    """Return the lesson's row with the batch size and the rates of `group`, if it has one."""
    own = (group.batch_size, group.lr, group.weight_decay)
    return next((row for row in STATED if (row.batch_size, row.lr, row.weight_decay) == own), None)


def findings(runs: pd.DataFrame, groups: list[Replicates]) -> list[str]:
    """Return a sentence for every figure of the lesson that these runs can be compared with, if they train the same.

    `runs` are those of a study that ended. Two configurations with the rates of one row, such as two engines, are not
    compared with it: the lesson has one.
    """
    if not is_the_lesson(runs):
        return []
    found = [(group, stated) for group in groups if (stated := stated_for(group))]
    rows = [row for row in found if sum(stated is row[1] for _, stated in found) == 1]
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
            f"An epoch at batch size {smaller.batch_size} takes, against {larger.batch_size}, lesson: {stated:.2g} "
            f"times as long; here: {measured:.2g} times."
        )
    return sentences


def _epochs(runs: pd.DataFrame, group: Replicates, stated: Stated) -> str | None:
    own = runs[runs["configuration"] == group.configuration]
    # A run that ended earlier does not show whether it would have reached the threshold by then.
    own = own[own["first_epoch_below_threshold"].notna() | own["epochs"].ge(STATED_EPOCHS)]
    if own.empty:
        return None
    reached = [_epoch(epoch) for epoch in or_infinity(own["first_epoch_below_threshold"])]
    counts = Counter(reached).most_common()
    here = listed(f"{epoch} in {share(count, len(own))}" for epoch, count in counts)
    agree = reached.count(_epoch(stated.first_epoch))
    low, high = share_interval(agree, len(own))
    return (
        f"{capitalized(group.configuration)}, lesson: {_epoch(stated.first_epoch)}; here: {here} "
        f"(the lesson's in {share(agree, len(own))}, 95% interval {low:.0%} to {high:.0%})."
    )


def _epoch(first: float) -> str:
    return f"not within {STATED_EPOCHS} epochs" if math.isinf(first) else f"epoch {first:.0f}"
