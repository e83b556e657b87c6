"""What several seeds of one configuration say together, misses included."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import pandas as pd

# scipy.stats would have all of this ready, and takes a second to import.
from scipy.special import bdtr, betaincinv

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Middle:
    """A median with an interval around it that holds the true median with probability `coverage`.

    Infinity stands for "not reached". A single run has no interval: `coverage` is 0.
    """

    median: float
    low: float
    high: float
    coverage: float
    runs: int


@dataclass(frozen=True)
class Replicates:
    """The runs of one configuration together. Times are in seconds; a miss is infinite, never dropped."""

    configuration: str
    batch_size: int
    lr: float
    weight_decay: float
    runs: int
    reached: int
    reached_low: float
    reached_high: float
    seconds_per_epoch: Middle
    epochs_to_threshold: Middle
    iterations_to_threshold: Middle
    seconds_to_threshold: Middle
    final_loss: Middle
    test_accuracy: Middle


def middle(values: Sequence[float]) -> Middle:
    """The median of `values` and the interval between two of them that covers it with 95 %, where there are enough.

    By the binomial distribution of how many of n values lie below the true median, the interval from the k-th
    smallest to the k-th largest covers it with probability 1 - 2 P(X < k), X ~ B(n, 1/2) (David and Nagaraja, Order
    Statistics, 2003, section 7.1). The largest k with 95 % is taken: the whole range at 6 to 8 values. Below 6 values
    the range covers less than 95 %, and `coverage` says how much. Works on infinite values: a run that did not get
    there is one. Half or more of them infinite: the median is. Raises ValueError where there is no value.
    """
    ordered = sorted(values)
    count = len(ordered)
    if not count:
        raise ValueError("no value has no median")
    if count == 1:
        return Middle(ordered[0], ordered[0], ordered[0], 0.0, 1)
    ranks = [rank for rank in range(1, count // 2 + 1) if _coverage(rank, count) >= CONFIDENCE]
    rank = max(ranks, default=1)
    median = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    return Middle(median, ordered[rank - 1], ordered[count - rank], _coverage(rank, count), count)


@cache
def _coverage(rank: int, count: int) -> float:
    return float(1 - 2 * bdtr(rank - 1, count, 0.5))


def share_interval(hits: int, runs: int) -> tuple[float, float]:
    """The exact 95 % interval of a share, `hits` of `runs` (Clopper and Pearson 1934)."""
    tail = (1 - CONFIDENCE) / 2
    low = float(betaincinv(hits, runs - hits + 1, tail)) if hits else 0.0
    return low, float(betaincinv(hits + 1, runs - hits, 1 - tail)) if hits < runs else 1.0


def replicates(runs: pd.DataFrame) -> list[Replicates]:
    """One entry for every configuration of `runs` (as `with_configurations` gives them) that has an ended run."""
    return [_of(str(name), group) for name, group in ended(runs).groupby("configuration", sort=False)]


def ended(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that were trained to their end: whether one that failed or still trains would get there is not known."""
    return runs[runs["status"].isin(["completed", "diverged"])]


def _of(configuration: str, group: pd.DataFrame) -> Replicates:
    first = group.iloc[0]
    reached = group["first_epoch_below_threshold"]
    hits = int(reached.notna().sum())
    low, high = share_interval(hits, len(group))
    return Replicates(
        configuration=configuration,
        batch_size=int(first["batch_size"]),
        lr=float(first["lr"]),
        weight_decay=float(first["weight_decay"]),
        runs=len(group),
        reached=hits,
        reached_low=low,
        reached_high=high,
        seconds_per_epoch=_middle(group["seconds_per_epoch"]),
        epochs_to_threshold=_middle(reached),
        iterations_to_threshold=_middle(reached * group["iterations_per_epoch"]),
        seconds_to_threshold=_middle(group["seconds_to_threshold"]),
        final_loss=_middle(group["final_loss"]),
        test_accuracy=_middle(group["test_accuracy"].dropna()),
    )


def _middle(column: pd.Series) -> Middle:
    values = [math.inf if pd.isna(value) else float(value) for value in column]
    return middle(values) if values else Middle(math.nan, math.nan, math.nan, 0.0, 0)
