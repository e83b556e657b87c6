"""Compare the runs with the figures of the lesson that this program turns into an experiment.

Those of its settings that the lesson does not state may be swept: then the question is how often its figures come out.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from digits_sweep.report.analysis.configurations import labels, level
from digits_sweep.report.analysis.sentences.formatting import capitalized, listed, share
from digits_sweep.report.analysis.statistics.matched import Share, share_of
from digits_sweep.report.analysis.statistics.replicates import Replicates, ended, or_infinity
from digits_sweep.report.language import said


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
STATED_SETTINGS: dict[str, str | float] = {
    **{"dataset": "mnist", "model": "mlp", "head": "softmax"},
    **{"optimizer": "adam", "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "loss_threshold": 1.6},
}
UNSTATED_SETTINGS: dict[str, str | float] = {
    **{"scale": "unit", "hidden_size": 128, "hidden_layers": 2, "activation": "relu"},
}


def is_the_lesson(runs: pd.DataFrame) -> bool:
    """Return whether a study's `runs` train what the lesson trains, so that its figures are comparable."""
    return all(runs[column].dropna().eq(value).all() for column, value in (STATED_SETTINGS | UNSTATED_SETTINGS).items())


def stated_for(group: Replicates) -> Stated | None:
    """Return the lesson's row with the batch size and the rates of `group`, if it has one."""
    own = (group.batch_size, group.lr, group.weight_decay)
    return next((row for row in STATED if (row.batch_size, row.lr, row.weight_decay) == own), None)


@dataclass(frozen=True)
class Often:
    """How often a row of the lesson came out at one choice of what it does not state.

    `first_epochs` are those of the runs, infinity if not reached, and `here` counts them; `as_stated` are the runs with
    the lesson's, None if it states none; in `dead` of the runs a digit is never predicted at the end.
    """

    stated: Stated
    setting: str
    first_epochs: Sequence[float]
    here: str
    as_stated: Share | None
    dead: Share


def how_often(runs: pd.DataFrame) -> list[Often]:
    """Return an entry for every row and choice, if a study's `runs` sweep over what the lesson does not state."""
    runs = ended(runs)
    for name, value in STATED_SETTINGS.items():
        runs = runs[runs[name].eq(value).fillna(False)]
    swept = [name for name in UNSTATED_SETTINGS if runs[name].nunique() > 1]
    if not swept:
        return []
    names = labels(swept)
    found = []
    for stated in STATED:
        rates = (runs["lr"] == stated.lr) & (runs["weight_decay"] == stated.weight_decay)
        for values, own in _decided(runs[rates & (runs["batch_size"] == stated.batch_size)]).groupby(swept, sort=False):
            parts = [level(name, names[name], value) for name, value in zip(swept, values, strict=True)]
            found.append(_often(own, stated, ", ".join(parts)))
    return found


def _often(own: pd.DataFrame, stated: Stated, setting: str) -> Often:
    epochs = or_infinity(own["first_epoch_below_threshold"])
    reached = [_epoch(epoch) for epoch in epochs]
    agree = None if math.isnan(stated.first_epoch) else reached.count(_epoch(stated.first_epoch))
    dead = own["never_predicted"].dropna()
    return Often(
        stated=stated,
        setting=setting,
        first_epochs=epochs,
        here=_counts(reached),
        as_stated=None if agree is None else share_of(agree, len(own)),
        dead=share_of(int(dead.gt(0).sum()), len(dead)),
    )


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
            said(
                "An epoch at batch size {smaller} takes, against {larger}, lesson: {stated:.2g} times as long; here: "
                "{measured:.2g} times.",
                smaller=smaller.batch_size,
                larger=larger.batch_size,
                stated=stated,
                measured=measured,
            )
        )
    return sentences


def _epochs(runs: pd.DataFrame, group: Replicates, stated: Stated) -> str | None:
    own = _decided(runs[runs["configuration"] == group.configuration])
    if own.empty:
        return None
    found = _often(own, stated, "")
    assert found.as_stated is not None
    return said(
        "{configuration}, lesson: {stated}; here: {here} (the lesson's in {share}, 95% interval {low:.0%} to "
        "{high:.0%}).",
        configuration=capitalized(group.configuration), stated=_epoch(stated.first_epoch), here=found.here,
        share=share(found.as_stated.hits, len(own)), low=found.as_stated.low, high=found.as_stated.high,
    )  # fmt: skip


def _decided(runs: pd.DataFrame) -> pd.DataFrame:
    """Leave out runs that ended too early to show whether they would have reached the threshold by the last epoch."""
    return runs[runs["first_epoch_below_threshold"].notna() | runs["epochs"].ge(STATED_EPOCHS)]


def _counts(reached: Sequence[str]) -> str:
    counts = sorted(Counter(reached).items(), key=lambda item: (-item[1], item[0]))
    often = ((epoch, share(count, len(reached))) for epoch, count in counts)
    return listed((said("{epoch} in {share}", epoch=epoch, share=shown) for epoch, shown in often), most=4)


def _epoch(first: float) -> str:
    if math.isinf(first):
        return said("not within {count} epochs", count=STATED_EPOCHS)
    return said("epoch {number:.0f}", number=first)
