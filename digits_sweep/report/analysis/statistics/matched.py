"""How often something is so, by factor: runs that differ in one setting alone are pairs."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import pandas as pd

from digits_sweep.report.analysis.configurations import labels, settings, telling_apart, with_short_rates
from digits_sweep.report.analysis.sentences.formatting import setting
from digits_sweep.report.analysis.statistics.pairs import sign_test
from digits_sweep.report.analysis.statistics.replicates import SAME_RUN, ended, share_interval


@dataclass(frozen=True)
class Share:
    """In `hits` of `runs` it is so; `low` to `high` is the exact 95 % interval of the true share."""

    hits: int
    runs: int
    low: float
    high: float


@dataclass(frozen=True)
class Matched:
    """Runs that differ in `factor` alone, seed by seed: it is `first` in one of a pair and `second` in the other.

    In `only_first` pairs it is so for the first run alone, in `only_second` for the second; `p_value` is that of the
    sign test, which is McNemar's exact test here (McNemar 1947).
    """

    factor: str
    first: str
    second: str
    of_first: Share
    of_second: Share
    only_first: int
    only_second: int
    p_value: float


def matched(runs: pd.DataFrame, so: pd.Series) -> list[Matched]:
    """Compare every two values of every setting that has several, over the ended `runs` that have their like.

    Of settings that change together, such as the model and its head, the first stands for all.

    `so` says for each of `runs` if it is so; a run for which that is unknown (NA) has no part in it.
    """
    # Of the dozens of columns few are needed, and to copy them all takes most of the time.
    needed = ["batch_size", *settings(runs)]
    needed += [name for name in ("status", *SAME_RUN) if name in runs and name not in needed]
    known = with_short_rates(ended(runs[needed]).assign(so=so).dropna(subset=["so"]))
    factors = ["batch_size", *telling_apart(known.drop(columns="so"))]
    known = known[[*factors, "seed", "so"]]
    names = labels(factors)
    return [each for factor in factors for each in _of_factor(known, factor, names[factor], factors)]


def dead_digits(runs: pd.DataFrame) -> list[Matched]:
    """Compare runs by whether a class is never predicted at their end, in every setting in which pairs differ."""
    dead = runs["never_predicted"].gt(0).where(runs["never_predicted"].notna())
    return [each for each in matched(runs, dead) if each.only_first or each.only_second]


def _of_factor(runs: pd.DataFrame, factor: str, name: str, factors: list[str]) -> Iterator[Matched]:
    others = [each for each in factors if each != factor] + ["seed"]
    values = {value: own.drop_duplicates(others) for value, own in runs.groupby(factor, sort=False)}
    for (first, ours), (second, theirs) in combinations(values.items(), 2):
        pairs = ours.merge(theirs, on=others, suffixes=("_first", "_second"))
        if pairs.empty:
            continue
        one, other = pairs["so_first"].astype(bool), pairs["so_second"].astype(bool)
        only_first, only_second = int((one & ~other).sum()), int((other & ~one).sum())
        yield Matched(
            factor=name,
            first=setting(factor, first),
            second=setting(factor, second),
            of_first=share_of(int(one.sum()), len(pairs)),
            of_second=share_of(int(other.sum()), len(pairs)),
            only_first=only_first,
            only_second=only_second,
            p_value=sign_test(only_first, only_second),
        )


def share_of(hits: int, runs: int) -> Share:
    """Return the share with its exact interval (Clopper and Pearson 1934)."""
    return Share(hits, runs, *share_interval(hits, runs))
