"""Summarize the seeds of one configuration, runs that did not reach the threshold included."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from digits_sweep.report.analysis.statistics import binomial
from digits_sweep.results.record import Status

CONFIDENCE = 0.95
# Runs that are the same in these columns, as far as there are some, are the same run.
SAME_RUN = ("sweep", "configuration", "seed")
# The columns of a study's runs that are summarized.
NEEDED = (
    *("configuration", "batch_size", "lr", "weight_decay", "rule", "epochs", "ended", "never_predicted"),
    *("examples_to_goal", "iterations_to_goal", "seconds_to_goal", "first_epoch_below_threshold"),
    *("seconds_per_epoch", "final_loss", "test_accuracy"),
)


@dataclass(frozen=True)
class Estimate:
    """A median and an interval that contains the true median with probability `coverage`.

    Infinity stands for "not reached". A single run has no interval: `coverage` is 0.
    """

    median: float
    low: float
    high: float
    coverage: float
    runs: int


@dataclass(frozen=True)
class Replicates:
    """The runs of one configuration together: they differ in the seed alone. A miss is infinite, never dropped.

    `seconds_to_goal` are the iterations at their measured cost. In `dead` of the runs that reached the goal there is a
    class that is never predicted; `stopped` of the runs ended before their last epoch because they were asked to.
    """

    configuration: str
    batch_size: int
    lr: float
    weight_decay: float
    rules: tuple[str, ...]
    runs: int
    reached: int
    reached_low: float
    reached_high: float
    examples_to_goal: Estimate
    iterations_to_goal: Estimate
    seconds_to_goal: Estimate
    epochs_to_threshold: Estimate
    seconds_per_epoch: Estimate
    final_loss: Estimate
    test_accuracy: Estimate
    dead: int
    stopped: int
    epochs: int


def estimate(values: Sequence[float]) -> Estimate:
    """Return the median of `values` and the interval between two of them that covers it with 95 %, if n is enough.

    By the binomial distribution of how many of n values lie below the true median, the interval from the k-th
    smallest to the k-th largest covers it with probability 1 - 2 P(X < k), X ~ B(n, 1/2) (David and Nagaraja, Order
    Statistics, 2003, section 7.1). The largest k with 95 % is taken: the whole range at 6 to 8 values. Below 6 values
    the range covers less than 95 %, and `coverage` says how much. Values may be infinite: a run that did not reach
    the threshold is. If half of them or more are infinite, so is the median. Raises ValueError if there is no value.
    """
    ordered = sorted(values)
    count = len(ordered)
    if not count:
        raise ValueError("the median of no values")
    if count == 1:
        return Estimate(ordered[0], ordered[0], ordered[0], 0.0, 1)
    ranks = [rank for rank in range(1, count // 2 + 1) if _coverage(rank, count) >= CONFIDENCE]
    rank = max(ranks, default=1)
    median = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    return Estimate(median, ordered[rank - 1], ordered[count - rank], _coverage(rank, count), count)


def _coverage(rank: int, count: int) -> float:
    return 1 - 2 * binomial.at_most(rank - 1, count)


def share_interval(hits: int, runs: int) -> tuple[float, float]:
    """Return the exact 95 % interval of the share `hits` of `runs` (Clopper and Pearson 1934)."""
    return binomial.share_interval(hits, runs, CONFIDENCE)


def replicates(runs: pd.DataFrame) -> list[Replicates]:
    """Return one entry for every configuration of a study's `runs` that has a run which ended."""
    finished = ended(runs[[*dict.fromkeys([*(name for name in SAME_RUN if name in runs), "status", *NEEDED])]])
    # As lists, because a table of a few rows is a hundred times slower, and there may be hundreds of them.
    columns = {name: finished[name].astype(object).where(finished[name].notna(), None).tolist() for name in NEEDED}
    places = finished.reset_index(drop=True).groupby("configuration", sort=False).indices
    names = dict.fromkeys(columns["configuration"])
    return [
        _of(str(name), {each: [own[place] for place in places[name]] for each, own in columns.items()})
        for name in names
    ]


def ended(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that trained to their end: of the others it is unknown if they would reach the threshold."""
    return _counted_once(runs, runs["status"].isin([status.value for status in Status if status.has_ended]))


def trained(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that trained for an epoch or more."""
    return _counted_once(runs, runs["epochs"].fillna(0) > 0)


def _counted_once(runs: pd.DataFrame, chosen: pd.Series) -> pd.DataFrame:
    """Return one of the `chosen` runs whose whole configuration is the same: they are one run, and no evidence of two.

    A rule at its own reference batch size is the same run as no rule.
    """
    rows = chosen.to_numpy(bool, copy=True)
    again = runs.loc[rows, [name for name in SAME_RUN if name in runs]].duplicated()
    rows[rows] = ~again.to_numpy()
    return runs[rows]


def or_infinity(column: Iterable[Any]) -> list[float]:
    """Return the values of a column, a missing one as infinity: that run did not reach the threshold."""
    return [math.inf if pd.isna(value) else float(value) for value in column]


def _of(configuration: str, group: dict[str, list[Any]]) -> Replicates:
    reached = [value is not None for value in group["examples_to_goal"]]
    runs = len(reached)
    low, high = share_interval(sum(reached), runs)
    never = [count for count, own in zip(group["never_predicted"], reached, strict=True) if own]
    return Replicates(
        configuration=configuration,
        batch_size=int(group["batch_size"][0]),
        lr=float(group["lr"][0]),
        weight_decay=float(group["weight_decay"][0]),
        rules=tuple(sorted({str(rule) for rule in group["rule"] if rule is not None})),
        runs=runs,
        reached=sum(reached),
        reached_low=low,
        reached_high=high,
        examples_to_goal=_estimate(group["examples_to_goal"]),
        iterations_to_goal=_estimate(group["iterations_to_goal"]),
        seconds_to_goal=_estimate(group["seconds_to_goal"]),
        epochs_to_threshold=_estimate(group["first_epoch_below_threshold"]),
        seconds_per_epoch=_estimate(group["seconds_per_epoch"]),
        final_loss=_estimate(group["final_loss"]),
        test_accuracy=_estimate([value for value in group["test_accuracy"] if value is not None]),
        dead=sum((count or 0) > 0 for count in never),
        stopped=sum(ended is not None for ended in group["ended"]),
        epochs=int(max(group["epochs"])),
    )


def _estimate(values: list[Any]) -> Estimate:
    return estimate(or_infinity(values)) if values else Estimate(math.nan, math.nan, math.nan, 0.0, 0)
