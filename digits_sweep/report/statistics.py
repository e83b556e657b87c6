"""Statistics of a few runs: medians with intervals, the evidence of a difference, tests judged together.

The evidence of a difference is an e-value: without a difference its mean is 1 at most, whenever one looks, so that it
is ever 20 or more with a probability of at most 5 % (Ville's inequality; Ramdas et al. 2023, arXiv:2210.01948). Seeds
may therefore be added, and looked at, until it is.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from digits_sweep.config.schema import LEAST_SEEDS

CONFIDENCE = 0.95
# A lead is decided by so much evidence, which it takes at least so many pairs to have.
DECIDED, FEWEST_PAIRS = 20.0, LEAST_SEEDS
# How much of the evidence is staked on one side being smaller in every pair: 20 after 6 of 6.
ALL_AGREE = 5 / 8
# How much more likely the largest of many differences has the sign of the lead, as exponents of e.
STRENGTHS = (2.0, 4.0)
# Timing is unsteady if the middle half of a run's epochs spreads over more than this share of their median.
UNSTEADY = 0.10


# --- Medians and shares.


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


def estimate(values: Sequence[float]) -> Estimate:
    """Return the median of `values` and the interval between two of them that covers it with 95 %, if n is enough.

    By the binomial distribution of how many of n values lie below the true median, the interval from the k-th
    smallest to the k-th largest covers it with probability 1 - 2 P(X < k), X ~ B(n, 1/2) (David and Nagaraja, Order
    Statistics, 2003, section 7.1). The largest k with 95 % is taken: the whole range at 6 to 8 values. Below 6 values
    the range covers less than 95 %, and `coverage` says how much. Values may be infinite: a run that did not reach
    the threshold is. If half of them or more are infinite, so is the median. Without a value all three are NaN.
    """
    ordered = sorted(values)
    count = len(ordered)
    if count < 2:
        (only,) = ordered or [math.nan]
        return Estimate(only, only, only, 0.0, count)
    ranks = [rank for rank in range(1, count // 2 + 1) if coverage(rank, count) >= CONFIDENCE]
    rank = max(ranks, default=1)
    middle = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    return Estimate(middle, ordered[rank - 1], ordered[count - rank], coverage(rank, count), count)


def or_infinity(column: Iterable[Any]) -> list[float]:
    """Return the values of a column, a missing one as infinity: that run did not reach the threshold."""
    return [math.inf if pd.isna(value) else float(value) for value in column]


@cache
def coverage(rank: int, count: int) -> float:
    """Return with which probability the median lies from the `rank`-th smallest of so many values to the largest."""
    return 1 - 2 * sum(math.comb(count, below) for below in range(rank)) / 2**count


def share_interval(hits: int, runs: int) -> tuple[float, float]:
    """Return the exact 95 % interval of the share `hits` of `runs` (Clopper and Pearson 1934)."""
    # Takes a fifth of a second to import, which a table of single runs need not wait for.
    from scipy.special import betaincinv

    tail = (1 - CONFIDENCE) / 2
    low = float(betaincinv(hits, runs - hits + 1, tail)) if hits else 0.0
    return low, float(betaincinv(hits + 1, runs - hits, 1 - tail)) if hits < runs else 1.0


# --- Evidence.


def evidence(differences: npt.ArrayLike) -> np.ndarray:
    """Return the evidence of a difference after each of the paired `differences` (..., n), in the same shape.

    If two configurations do not differ, either sign of a difference is as likely as the other, whatever its size. The
    evidence is how much more likely than that the signs so far are if one side leads: in every pair (weight 5/8), or
    the more surely the larger the difference is. The latter is the signed-rank test as a bet: a difference whose size
    has rank r among the m so far has the leader's sign with odds exp(strength r / (m + 1)). A difference of 0 says
    nothing; infinite ones, a miss, are the largest. n pairs of one sign give 2^n 5/16 and a little more.
    """
    values = np.asarray(differences, float)
    signs, sizes = np.sign(values), np.abs(values)
    counts, lead = np.cumsum(signs != 0, axis=-1), np.cumsum(signs, axis=-1)
    until_now = np.tril(np.ones((values.shape[-1],) * 2, bool)) & (sizes > 0)[..., None, :]
    smaller = (until_now & (sizes[..., None, :] < sizes[..., :, None])).sum(-1)
    as_large = (until_now & (sizes[..., None, :] == sizes[..., :, None])).sum(-1)
    ranks = signs * (smaller + (as_large + 1) / 2) / (counts + 1)
    with np.errstate(over="ignore"):
        bets = [
            np.exp(np.cumsum(math.log(2) - np.logaddexp(0, -odds * ranks), axis=-1))
            for strength in STRENGTHS
            for odds in (strength, -strength)
        ]
        agreeing = [np.where(lead == side * counts, np.exp2(counts), 0.0) for side in (1, -1)]
    return np.asarray(ALL_AGREE * np.mean(agreeing, axis=0) + (1 - ALL_AGREE) * np.mean(bets, axis=0))


def decided(looks: Sequence[Sequence[float]], candidates: int = 2) -> list[bool]:
    """Return for each of several comparisons if it is decided, by its evidence after each pair, all judged together.

    That is the case if all have evidence of 20 or more at some look, or if one has 20 whatever others are averaged with
    it: the closed test, which allows any false one among them in 5 % of the cases (Vovk and Wang 2021,
    arXiv:1912.06116). If the comparisons are those of the one that leads among several `candidates`, each of which
    might have led, it takes as many halves of 20. What is decided at a look stays so.
    """
    if not looks:
        return []
    length = max(map(len, looks))
    table = np.array([[*of_one, *[of_one[-1]] * (length - len(of_one))] for of_one in looks])
    if (table >= DECIDED).all(axis=0).any():
        return [True] * len(table)
    return [bool((row >= DECIDED * candidates / 2).any()) for row in adjusted(table)]


def adjusted(e_values: np.ndarray) -> np.ndarray:
    """Return for each of several comparisons (comparisons, n) the least mean of its e-value and any of the others."""
    least = e_values.copy()
    sizes = np.arange(2, len(e_values) + 1)[:, None]
    for number, own in enumerate(e_values):
        others = np.sort(np.delete(e_values, number, axis=0), axis=0)
        means = (own + np.cumsum(others, axis=0)) / sizes
        least[number] = np.minimum(own, means.min(axis=0, initial=np.inf))
    return least


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values of several tests, adjusted so that any false one among them has 5 % in all (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda test: p_values[test])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for done, test in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - done) * p_values[test]))
        adjusted[test] = largest
    return adjusted


def seeds_agree(differences: Sequence[int]) -> float:
    """Return the two-sided p value of whole `differences`, one a seed: without an effect either sign is as likely.

    A seed's difference is the sum over all settings that were tried with it, because runs that share a seed are no
    independent pairs. The distribution of the sum over the seeds is exact.
    """
    ways = {0: 1}
    for difference in filter(None, differences):
        sums: dict[int, int] = {}
        for total, count in ways.items():
            for signed in (total + difference, total - difference):
                sums[signed] = sums.get(signed, 0) + count
        ways = sums
    extreme = abs(sum(differences))
    return sum(count for total, count in ways.items() if abs(total) >= extreme) / sum(ways.values())


# --- What the runs of a sweep spread over.


def unsteady(history: pd.DataFrame) -> pd.Series:
    """Return the spread of the epochs' seconds, as a share of their median, of every run whose timing is unsteady.

    The first epoch is left out: it pays for warming up.
    """
    seconds = history[history["epoch"] > 1].groupby("run_dir")["seconds"]
    spread = (seconds.quantile(0.75) - seconds.quantile(0.25)) / seconds.median()
    return spread[spread > UNSTEADY]


def explained(runs: pd.DataFrame, values: pd.Series) -> float:
    """Return the share of the variance of log(examples to the goal) within batch sizes that lies between `values`.

    A run that missed counts as twice the examples that it trained on.
    """
    examples = runs["examples_to_goal"].fillna(2 * runs["epochs"] * runs["train_samples"]).astype(float)
    log = examples[examples > 0].map(math.log)
    within = log - log.groupby(runs["batch_size"], dropna=False).transform("mean")
    between = within.groupby(values, dropna=False).transform("mean")
    total = float((within**2).sum())
    return float((between**2).sum()) / total if total > 0 else 0.0


def fitted_costs(iterations: np.ndarray, examples: np.ndarray, seconds: np.ndarray) -> tuple[float, float]:
    """Return a and b of seconds = a x iterations + b x examples; each argument is (n,), of two batch sizes or more.

    By non-negative least squares on relative errors.
    """
    terms = np.stack([iterations, examples], axis=1) / seconds[:, None]
    both = np.linalg.lstsq(terms, np.ones(len(seconds)))[0]
    # What rounding leaves of a part that is 0 is no cost.
    both[np.abs(both * terms.mean(axis=0)) < 1e-9] = 0.0
    if (both >= 0).all():
        return float(both[0]), float(both[1])
    # One of them is 0 then, and the other is fitted alone: whichever leaves the smaller error.
    alone = terms.sum(axis=0) / (terms**2).sum(axis=0)
    errors = ((terms * alone - 1) ** 2).sum(axis=0)
    return (float(alone[0]), 0.0) if errors[0] <= errors[1] else (0.0, float(alone[1]))
