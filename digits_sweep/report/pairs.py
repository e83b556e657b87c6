"""Pairs of runs with the same seed: is one configuration before another, or is that the noise between seeds?

The evidence of a difference is an e-value: without a difference its mean is 1 at most, whenever one looks, so that it
is ever 20 or more with a probability of at most 5 % (Ville's inequality; Ramdas et al. 2023, arXiv:2210.01948). Seeds
may therefore be added, and looked at, until it is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from digits_sweep.config.schema import LEAST_SEEDS
from digits_sweep.report.statistics import Estimate, Replicates, estimate, finished, is_timed, or_infinity, ranked
from digits_sweep.report.study import Study

# A lead is decided by so much evidence, which it takes at least so many pairs to have.
DECIDED, FEWEST_PAIRS = 20.0, LEAST_SEEDS
# How much of the evidence is staked on one side being smaller in every pair: 20 after 6 of 6.
ALL_AGREE = 5 / 8
# How much more likely the largest of many differences has the sign of the lead, as exponents of e.
STRENGTHS = (2.0, 4.0)


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


@dataclass(frozen=True)
class Paired:
    """Two configurations seed by seed.

    `ratio` is the second one's value over the first one's; infinite if only the first has one, 0 if only the second
    has. In `smaller` of `pairs` seeds the first one's value is smaller, in `larger` of them it is larger; in the others
    both may be, as far as the measure can tell. `looks` has the evidence of a difference after each pair.
    """

    ratio: Estimate
    smaller: int
    larger: int
    pairs: int
    looks: tuple[float, ...]


def paired(first: pd.DataFrame, second: pd.DataFrame, column: str) -> Paired | None:
    """Compare a column of two configurations' runs, which may miss a value, by their `seed`; None without a pair.

    A run of which nobody knows if it reached the goal has no pair. Where the crossing of the one lies within what the
    other's may be early by (`lateness`), neither is the smaller.
    """
    ours, theirs = (_by_seed(runs, column) for runs in (first, second))
    pairs = [(ours[seed], theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]
    if not pairs:
        return None
    ratios = np.array([_ratio(own, other) for (_, own), (_, other) in pairs])
    smaller = np.array([own < earliest for (_, own), (earliest, _) in pairs])
    larger = np.array([earliest > other for (earliest, _), (_, other) in pairs])
    with np.errstate(divide="ignore"):
        # Rounded, because a/b and b/a are not always equally far from 1.
        differences = np.where(smaller | larger, np.round(np.log(ratios), 12), 0.0)
    return Paired(
        ratio=estimate(ratios.tolist()),
        smaller=int(smaller.sum()),
        larger=int(larger.sum()),
        pairs=len(pairs),
        looks=tuple(evidence(differences).tolist()),
    )


def _by_seed(runs: pd.DataFrame, column: str) -> dict[Any, tuple[float, float]]:
    """Return for every seed the least value that the run may have, and the value that it has."""
    known = runs[runs["seed"].notna() & runs["reached"].notna()]
    values: dict[Any, tuple[float, float]] = {}
    for seed, value, share in zip(known["seed"], or_infinity(known[column]), known["lateness"].fillna(0), strict=True):
        values.setdefault(seed, (value * (1 - share) if share else value, value))
    return values


def _ratio(own: float, other: float) -> float:
    if math.isinf(own):
        return 1.0 if math.isinf(other) else 0.0
    return other / own


@dataclass(frozen=True)
class Lead:
    """The lead of the first configuration over another one: by their pairs, None without one, and if it is decided."""

    over: Replicates
    pairs: Paired | None
    is_decided: bool


# The sentences of a verdict and `seeds=until_decided` ask for the same ones.
@lru_cache(maxsize=4)
def leads(study: Study) -> list[Lead]:
    """Return the lead of the first configuration of a study over every other one, all of them judged together."""
    best, *others = ranked(study)
    pairs = [_compared(study, best, other) for other in others]
    looks = [pair.looks if pair and pair.smaller > pair.larger else (0.0,) for pair in pairs]
    return [Lead(*lead) for lead in zip(others, pairs, decided(looks, 1 + len(others)), strict=True)]


def still_compared(study: Study) -> list[str]:
    """Return the configurations whose seeds may decide who leads: the leader, and those that it has not beaten.

    None if every lead is decided, or if there is nothing to decide because no run reached the goal.
    """
    order = ranked(study)
    if study.goal.problem or not any(group.reached for group in order):
        return []
    undecided = [lead.over.configuration for lead in leads(study) if not lead.is_decided]
    return [order[0].configuration, *undecided] if undecided else []


def _compared(study: Study, best: Replicates, other: Replicates) -> Paired | None:
    """Compare seed by seed, with the noise of the timing; at one fixed batch size an iteration costs the same."""
    runs = finished(study)
    ours, theirs = (runs[runs["configuration"] == group.configuration] for group in (best, other))
    costs_differ = best.batch_size != other.batch_size or pd.concat([ours, theirs])["batch_schedule"].notna().any()
    column = "own_seconds_to_goal" if is_timed(study) and costs_differ else "examples_to_goal"
    return paired(ours, theirs, column)
