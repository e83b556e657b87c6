"""Compare runs with the same seed at two settings: they start from the same weights, so they are pairs."""

import math
from dataclasses import dataclass

import pandas as pd

from digits_sweep.report.analysis.statistics.binomial import at_most
from digits_sweep.report.analysis.statistics.replicates import Estimate, estimate, or_infinity

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Paired:
    """Two configurations seed by seed.

    `ratio` is the second one's value over the first one's; infinite if only the first has one. In `smaller` of `pairs`
    seeds the first one's value is smaller, in `larger` of them it is larger.
    """

    ratio: Estimate
    smaller: int
    larger: int
    pairs: int

    @property
    def p_value(self) -> float:
        """Return that of the sign test, which needs no more than an order."""
        return sign_test(self.smaller, self.larger)

    @property
    def is_significant(self) -> bool:
        """Whether the difference is more than the noise between seeds, at 5 %; six pairs of one sign are the fewest."""
        return self.p_value < SIGNIFICANT


def paired(first: pd.DataFrame, second: pd.DataFrame, column: str) -> Paired | None:
    """Compare a column of two configurations' runs, which may miss a value, by their `seed`; None without a pair."""
    values = [pd.Series(or_infinity(runs[column]), index=runs["seed"]) for runs in (first, second)]
    ours, theirs = (each[~each.index.duplicated()] for each in values)
    seeds = ours.index.intersection(theirs.index)
    pairs = [(float(ours[seed]), float(theirs[seed])) for seed in seeds]
    if not pairs:
        return None
    return Paired(
        ratio=estimate([_ratio(own, other) for own, other in pairs]),
        smaller=sum(own < other for own, other in pairs),
        larger=sum(own > other for own, other in pairs),
        pairs=len(pairs),
    )


def sign_test(smaller: int, larger: int) -> float:
    """Return the two-sided p value of so many pairs of one sign and of the other; ties are left out."""
    decided = smaller + larger
    return min(1.0, 2 * at_most(min(smaller, larger), decided)) if decided else 1.0


def _ratio(own: float, other: float) -> float:
    if math.isinf(own):
        return 1.0 if math.isinf(other) else 0.0
    return other / own
