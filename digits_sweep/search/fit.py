"""The fit of steps against batch size, and the critical batch size with its interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

RESAMPLES, SEED, TAIL = 1_000, 0, 2.5
LEAST_SIZES = 4
# An interval that reaches so many times beyond the batch sizes that were run says nothing.
FAR = 10.0
# The search for the critical batch size ends so many times beyond them.
BEYOND = 1e4
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Steps:
    """The steps to a goal at a batch size, a number a seed, infinite for a miss.

    `more_than` are the steps after which a miss was given up: the steps of one that is censored are more than that.
    """

    batch_size: int
    values: tuple[float, ...]
    more_than: float

    @property
    def median(self) -> float:
        """The median of the seeds; infinite if half of them or more missed the goal, or if there is none."""
        return float(np.median(self.values)) if self.values else math.inf


@dataclass(frozen=True)
class Fit:
    """S = s_min + e_min / B, with B_crit = e_min / s_min and the interval that holds it with 95 %.

    `leave_one_out` has B_crit without each batch size, None if it cannot be told then; `residuals` the logarithm of
    measured over fitted steps, for the batch sizes that reached the goal.
    """

    s_min: float
    e_min: float
    b_crit: float
    low: float
    high: float
    leave_one_out: dict[int, float | None]
    residuals: dict[int, float]

    def steps(self, batch_size: float) -> float:
        """Return the steps that the fit expects at a batch size."""
        return self.s_min + self.e_min / batch_size


def fit_steps(steps: Sequence[Steps]) -> tuple[Fit | None, str]:
    """Fit the steps to a goal against the batch size; if that cannot be done, return None and the reason.

    The model is (S/S_min - 1)(E/E_min - 1) = 1 with E = S B examples, that is S = S_min + E_min/B, and the critical
    batch size is E_min/S_min (McCandlish et al. 2018, An Empirical Model of Large-Batch Training, equations 2.11 and
    2.12). Fitted by least squares on logarithms of the medians over seeds. A batch size that did not reach the goal is
    censored: it counts if the fit expects fewer steps than those after which it was given up. The interval is that of
    the percentiles when the seeds of every batch size are drawn anew, with fixed random numbers (the bootstrap).
    """
    steps = [each for each in steps if each.values or each.more_than > 0]
    sizes = np.array([each.batch_size for each in steps], float)
    medians = np.array([each.median for each in steps])
    bounds = np.array([each.more_than for each in steps])
    if (reached := int(np.isfinite(medians).sum())) < LEAST_SIZES:
        return None, f"{reached} batch sizes reached the goal, and a fit needs {LEAST_SIZES}"
    s_min, b_crit = _fitted(sizes, medians, bounds)
    if b_crit <= sizes.min():
        return None, f"the curve is flat: no batch size is below the critical one, not even {sizes.min():.0f}"
    if b_crit >= sizes.max():
        return None, f"no batch size is above the critical one: beyond {sizes.max():.0f} steps would still become fewer"
    low, high = _interval(steps, sizes, bounds, np.log([s_min, b_crit]))
    if low < sizes.min() / FAR or high > sizes.max() * FAR:
        return None, "the seeds differ too much: its interval reaches far beyond the batch sizes that were run"
    finite = np.isfinite(medians)
    residuals = np.log(medians[finite]) - np.log(s_min * (1 + b_crit / sizes[finite]))
    return (
        Fit(
            s_min=s_min,
            e_min=s_min * b_crit,
            b_crit=b_crit,
            low=low,
            high=high,
            leave_one_out=_leave_one_out(sizes, medians, bounds),
            residuals=dict(zip(sizes[finite].astype(int).tolist(), residuals.tolist(), strict=True)),
        ),
        "",
    )


def _fitted(sizes: Floats, medians: Floats, bounds: Floats, start: Floats | None = None) -> tuple[float, float]:
    """Return S_min and B_crit of the least squares; an infinite median is censored at its bound."""
    reached = np.isfinite(medians)
    measured = np.log(np.where(reached, medians, np.maximum(bounds, 1e-9)))
    widest = np.log([sizes.min() / BEYOND, sizes.max() * BEYOND])
    if start is None:
        start = np.array([measured[reached].min(), np.log(np.median(sizes))])

    def residuals(parameters: Floats) -> Floats:
        difference = measured - parameters[0] - np.log1p(np.exp(parameters[1]) / sizes)
        return np.where(reached, difference, np.maximum(difference, 0))

    def slopes(parameters: Floats) -> Floats:
        share = 1 / (1 + sizes / np.exp(parameters[1]))
        counts = reached | (residuals(parameters) > 0)
        return -np.stack([counts, counts * share], axis=1)

    limits: tuple[Floats, Floats] = (np.array([-50, widest[0]]), np.array([50, widest[1]]))
    start = np.clip(start, limits[0] + 1e-6, limits[1] - 1e-6)
    best = least_squares(residuals, start, slopes, bounds=limits, xtol=1e-9, ftol=1e-9)
    return float(np.exp(best.x[0])), float(np.exp(best.x[1]))


def _interval(steps: Sequence[Steps], sizes: Floats, bounds: Floats, start: Floats) -> tuple[float, float]:
    chance = np.random.default_rng(SEED)
    drawn = np.stack([_drawn(each.values, chance) for each in steps], axis=1)
    several = [_fitted(sizes, medians, bounds, start)[1] for medians in drawn if np.isfinite(medians).sum() >= 2]
    low, high = np.percentile(several, [TAIL, 100 - TAIL])
    return float(low), float(high)


def _drawn(values: Sequence[float], chance: np.random.Generator) -> Floats:
    """Return the medians of `values` drawn anew so many times; of none, that the goal was not reached."""
    if not values:
        return np.full(RESAMPLES, math.inf)
    return np.median(chance.choice(np.array(values), (RESAMPLES, len(values))), axis=1)


def _leave_one_out(sizes: Floats, medians: Floats, bounds: Floats) -> dict[int, float | None]:
    without: dict[int, float | None] = {}
    for index, size in enumerate(sizes):
        others = np.arange(len(sizes)) != index
        _, b_crit = _fitted(sizes[others], medians[others], bounds[others])
        without[int(size)] = b_crit if sizes[others].min() < b_crit < sizes[others].max() else None
    return without
