"""Calibration of the critical batch size: studies of a known law, with rates that are tuned and seeds that differ."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.calibration_section import Check, Section, studies
from digits_sweep.report.critical import REJECTED
from digits_sweep.results.critical import Law
from digits_sweep.search.answers import MORE_EXAMPLES, soonest
from digits_sweep.search.fit import Fit, Steps, fit_steps, interval

SIZES = (5, 20, 100, 300, 1000, 4000)
# Standard deviations of the logarithm of the steps between seeds, at these batch sizes, as on MNIST.
SPREADS = (0.22, 0.16, 0.2, 0.1, 0.07, 0.07)
EXPONENTS = (1.0, 1.36, 1.66, 2.1)
S_MIN, B_CRIT = 17.0, 300.0
# A rate of a grid, each twice the one before, that lies so many steps of it off the best one costs so much in
# logarithms, times the square of that.
CURVATURE, RATES, TUNING_SEEDS = 0.15, np.arange(-4, 5), 5
# Seconds of an iteration and of an example.
COST = (84e-6, 6.5e-6)


@dataclass(frozen=True)
class Studies:
    """How studies are made: `budget` are the steps after which a run is given up, as a multiple of S_MIN."""

    exponent: float
    sizes: Sequence[int] = SIZES
    spreads: Sequence[float] = SPREADS
    seeds: int = 7
    is_tuned: bool = True
    b_crit: float = B_CRIT
    budget: float = np.inf
    curvature: float = CURVATURE

    @property
    def law(self) -> Law:
        return Law(S_MIN, self.b_crit, self.exponent)

    def steps(self, chance: np.random.Generator) -> list[Steps]:
        """Return the steps of a study, its rates tuned as the program tunes them: the least median of a grid."""
        sizes, spreads = np.array(self.sizes, float), np.array(self.spreads)
        middle = np.log(self.law.steps(sizes))
        if self.is_tuned:
            offs = self.curvature * (RATES - chance.uniform(-0.5, 0.5, (len(sizes), 1))) ** 2
            noise = chance.normal(size=(*offs.shape, TUNING_SEEDS)) * spreads[:, None, None]
            best = (offs + np.median(noise, axis=2)).argmin(axis=1)
            middle += offs[np.arange(len(sizes)), best]
        steps = np.exp(middle[:, None] + spreads[:, None] * chance.normal(size=(len(sizes), self.seeds)))
        most = S_MIN * self.budget
        steps = np.where(steps > most, np.inf, steps)
        bounds = [most if np.isinf(row).any() else 0.0 for row in steps]
        columns = zip(self.sizes, steps.tolist(), bounds, strict=True)
        return [Steps(size, tuple(row), bound, float(size)) for size, row, bound in columns]

    def fits(self, chance: np.random.Generator, count: int) -> Iterator[Fit]:
        """Yield the fits of so many studies, without those that the program refuses."""
        yield from (fit for _ in range(count) if (fit := fit_steps(self.steps(chance))[0]))


def laws(chance: np.random.Generator, share: float) -> Iterator[Check]:
    """Count how often every stated interval covers the truth, and how often a law is said to be rejected."""
    count = studies(1_000, share)
    for exponent in EXPONENTS:
        made, hits, told, before = Studies(exponent), Counter[str](), 0, None
        truths = {
            "the critical batch size": made.b_crit,
            "the batch size at 20 % more examples": made.law.batch_size(MORE_EXAMPLES),
            "the soonest batch size": float(soonest(made.law, *COST, SIZES)),
            "the exponent": exponent,
        }
        for fit in made.fits(chance, count):
            assert fit.draws is not None
            values = fit.draws.b_crit, fit.draws.batch_size(MORE_EXAMPLES), soonest(fit.draws, *COST, SIZES)
            for (name, truth), drawn in zip(truths.items(), (*values, fit.draws.exponent), strict=True):
                low, high = interval(drawn)
                hits[name] += low <= truth <= high
            low, high = interval(fit.draws.exponent)
            hits["plain"] += not low <= 1 <= high
            hits["any"] += fit.p_value is not None and fit.p_value < REJECTED
            low, high = interval(fit.draws.b_crit)
            hits["another"] += before is not None and low <= before <= high
            before, told = fit.law.b_crit, told + 1
        law = f"the exponent is {exponent:g}"
        for name in truths:
            most = 0.97 if name == "the critical batch size" else 1.0
            yield Check(f"the interval of {name} covers it", law, hits[name], told, 0.92, most)
        yield Check("the critical batch size that another study finds lies in it", law, hits["another"], told - 1)
        limits = (0.0, 0.05) if exponent == 1 else (0.0, 1.0)
        yield Check("S = S_min + E_min / B is said to be rejected", law, hits["plain"], told, *limits)
        yield Check("every law of this form is said to be rejected", law, hits["any"], told, 0.0, 0.05)


# What is not as in the section before: the exponent is 1.36 there too.
OTHERS = {
    "3 fresh seeds": Studies(1.36, seeds=3),
    "5 fresh seeds": Studies(1.36, seeds=5),
    "four batch sizes": Studies(1.36, (20, 100, 500, 2000), (0.16, 0.2, 0.1, 0.07)),
    "the best rates are known": Studies(1.36, is_tuned=False),
    "a rate beside the best one costs twice as much": Studies(1.36, curvature=2 * CURVATURE),
    "the same spread of 0.25 at all batch sizes": Studies(1.36, spreads=(0.25,) * len(SIZES)),
    "batch size 5 misses its budget": Studies(1.36, budget=40.0),
    "the critical batch size is 60": Studies(1.36, b_crit=60.0),
    "the critical batch size is 2,000": Studies(1.36, b_crit=2_000.0),
}
OUTSIDE = {"4, below all batch sizes": 4.0, "6,000, above all batch sizes": 6_000.0}


def others(chance: np.random.Generator, share: float) -> Iterator[Check]:
    """Count how often the interval covers in studies of another kind, and how often it is refused where it must be."""
    count = studies(600, share)
    for name, made in OTHERS.items():
        drawn = [interval(fit.draws.b_crit) for fit in made.fits(chance, count) if fit.draws]
        hits = sum(low <= made.b_crit <= high for low, high in drawn)
        yield Check("the interval of the critical batch size covers it", name, hits, len(drawn), 0.92)
    for name, b_crit in OUTSIDE.items():
        made = Studies(1.36, b_crit=b_crit)
        drawn = [interval(fit.draws.b_crit) for fit in made.fits(chance, count) if fit.draws]
        wrong = sum(not low <= b_crit <= high for low, high in drawn)
        yield Check("an interval is stated that does not cover it", f"it is {name}", wrong, count, most=0.05)


SECTIONS = [
    Section(
        "The critical batch size",
        "Six batch sizes from 5 to 4,000, a critical one of 300, the rate of each tuned with 5 seeds on a grid, 7 "
        "fresh seeds, spreads between seeds as on MNIST (0.22 at batch size 5 to 0.07 at 4,000, in logarithms). All "
        "intervals average over exponents from 0.7 to 3, and one draw in six leaves a batch size out. So they hold at "
        "the ends of these exponents, and where a batch size does not follow the law; between the ends they are wider "
        "than they need to be, most of all those of what the exponent moves most, the batch size at 20 % more examples "
        "and the soonest one, and with four batch sizes, which say least of it. Two studies of one law both err, so "
        "that what one finds lies in the interval of the other less often than the truth does.",
        laws,
    ),
    Section(
        "The critical batch size, with other studies",
        "As above, with an exponent of 1.36, but for what stands under *if*. A wider interval than it needs is no "
        "fault here: with the best rates known it covers more often than it says.",
        others,
    ),
]
