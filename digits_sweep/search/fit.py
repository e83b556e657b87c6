"""The fit of steps against batch size, and the critical batch size with its interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, gammaincc

from digits_sweep.results.critical import Law

RESAMPLES, SEED, TAIL = 1_000, 0, 2.5
# Fewer seeds than these say nothing of how far the next ones would lie apart.
LEAST_SIZES, LEAST_SEEDS = 4, 3
# The exponent before anything is measured: a logarithm that is normal around that of 1.45. With four batch sizes it
# decides, so that the exponents from 0.7 to 3 are averaged; with six or more the steps do.
EXPONENT, EXPONENT_SPREAD = math.log(1.45), 0.35
# Medians of steps are never believed to be more exact than this, in logarithms.
LEAST_NOISE = 0.03
# The steps of one seed lie so far from their median, in logarithms: at small batch sizes a little more.
SEED_NOISE = 0.2
# One draw of the seeds in so many also leaves a batch size out.
LEFT_OUT = 6
# An interval that reaches so many times beyond the batch sizes that were run says nothing.
FAR = 10.0
# The search for the critical batch size ends so many times beyond them.
BEYOND = 1e4
# Steps of the least squares, which end sooner if none changes a logarithm by more.
ITERATIONS, CLOSE = 25, 1e-5
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Steps:
    """The steps to a goal at a batch size, a number a seed, infinite for a miss.

    `batch_size` is the mean number of examples in a step, below `name` if the last batch of an epoch is smaller.
    `more_than` are the steps after which a miss was given up: the steps of one that is censored are more than that.
    """

    name: int
    values: tuple[float, ...]
    more_than: float
    batch_size: float

    @property
    def median(self) -> float:
        """The median of the seeds; infinite if half of them or more missed the goal, or if there is none."""
        return float(np.median(self.values)) if self.values else math.inf


@dataclass(frozen=True)
class Fit:
    """The law that fits the steps best, and those of all draws, whose members are (draws,); None if seeds are too few.

    `leave_one_out` has B_crit without each batch size, None if it cannot be told then; `residuals` the logarithm of
    measured over fitted steps, for the batch sizes that reached the goal; `p_value` is the probability of residuals as
    large as these if the law holds. All three are None with so few batch sizes that any law fits.
    """

    law: Law
    draws: Law | None
    leave_one_out: dict[int, float | None] | None = None
    residuals: dict[int, float] | None = None
    p_value: float | None = None


def interval(values: Floats) -> tuple[float, float]:
    """Return the percentiles between which 95 % of `values` lie."""
    low, high = np.percentile(values, [TAIL, 100 - TAIL])
    return float(low), float(high)


def fit_steps(steps: Sequence[Steps], least_sizes: int = LEAST_SIZES) -> tuple[Fit | None, str]:
    """Fit the steps to a goal against the batch size; if that cannot be done, return None and the reason.

    The law is S^a = S_min^a + (E_min / B)^a, which with a = 1 is that of McCandlish et al. 2018 (An Empirical Model of
    Large-Batch Training, equations 2.11 and 2.12). Fitted by least squares on logarithms of the medians over seeds,
    the exponent held near `EXPONENT` as far as the seeds leave it open. A batch size that did not reach the goal is
    censored: it counts if the fit expects fewer steps than those after which it was given up.

    For the interval, the seeds of every batch size are drawn anew (the bootstrap) with the exponent's own expectation
    (randomize then optimize, Bardsley et al. 2014), and some draws leave a batch size out, with fixed random numbers.
    With fewer batch sizes than `LEAST_SIZES` nothing is left to test the law with: there are neither residuals nor
    their probability, and no fit without a batch size.
    """
    steps = [each for each in steps if each.values or each.more_than > 0]
    sizes = np.array([each.batch_size for each in steps], float)
    medians = np.array([[each.median for each in steps]])
    bounds = np.array([each.more_than for each in steps])
    finite = np.isfinite(medians[0]) if steps else np.zeros(0, bool)
    if (reached := int(finite.sum())) < least_sizes:
        return None, f"{reached} batch sizes reached the goal, and a fit needs {least_sizes}"
    chance = np.random.default_rng(SEED)
    drawn = np.stack([_drawn(each.values, chance) for each in steps], axis=1)
    noise = _noise(drawn) if any(len(each.values) > 1 for each in steps) else SEED_NOISE
    start = _fitted(sizes, medians, bounds, noise)
    law = Law(*np.exp(start[0]).tolist())
    if law.b_crit <= sizes.min():
        return None, f"the curve is flat: no batch size is below the critical one, not even {sizes.min():.0f}"
    if law.b_crit >= sizes.max():
        return None, f"no batch size is above the critical one: beyond {sizes.max():.0f} steps would still become fewer"
    draws = None
    if min(len(each.values) for each in steps if each.values) >= LEAST_SEEDS:
        draws = _draws(sizes, drawn, bounds, noise, start, chance)
        low, high = interval(draws.b_crit)
        if low < sizes.min() / FAR or high > sizes.max() * FAR:
            return None, "the seeds differ too much: its interval reaches far beyond the batch sizes that were run"
    if reached < LEAST_SIZES:
        return Fit(law, draws), ""
    residuals = (np.log(medians[0]) - np.log(law.steps(sizes)))[finite]
    names = [each.name for each in steps]
    return Fit(
        law=law,
        draws=draws,
        leave_one_out=dict(zip(names, _leave_one_out(sizes, medians, bounds, noise, start), strict=True)),
        residuals=dict(zip(np.array(names)[finite].tolist(), residuals.tolist(), strict=True)),
        p_value=float(gammaincc(max(1, reached - 3) / 2, (residuals**2).sum() / noise**2 / 2)),
    ), ""


def _drawn(values: Sequence[float], chance: np.random.Generator) -> Floats:
    """Return the medians of `values` drawn anew so many times; of none, that the goal was not reached."""
    if not values:
        return np.full(RESAMPLES, math.inf)
    return np.median(chance.choice(np.array(values), (RESAMPLES, len(values))), axis=1)


def _noise(drawn: Floats) -> float:
    """Return how far medians of the same steps lie apart, as a standard deviation of logarithms over batch sizes."""
    variances = [np.log(medians[np.isfinite(medians)]).var() for medians in drawn.T if np.isfinite(medians).sum() > 1]
    return max(LEAST_NOISE, math.sqrt(np.mean(variances)) if variances else 0.0)


def _draws(
    sizes: Floats, drawn: Floats, bounds: Floats, noise: float, start: Floats, chance: np.random.Generator
) -> Law:
    weights = np.ones(drawn.shape)
    left_out = chance.integers(0, LEFT_OUT * len(sizes), len(drawn))
    rows = np.flatnonzero(left_out < len(sizes))
    weights[rows, left_out[rows]] = 0
    centres = EXPONENT + EXPONENT_SPREAD * chance.standard_normal(len(drawn))
    can_be_told = (np.isfinite(drawn) & (weights > 0)).sum(axis=1) >= 2
    medians, weights, centres = drawn[can_be_told], weights[can_be_told], centres[can_be_told]
    return Law(*np.exp(_fitted(sizes, medians, bounds, noise, weights, centres, start)).T)


def _leave_one_out(sizes: Floats, medians: Floats, bounds: Floats, noise: float, start: Floats) -> list[float | None]:
    weights = 1 - np.eye(len(sizes))
    fitted = np.exp(_fitted(sizes, np.repeat(medians, len(sizes), axis=0), bounds, noise, weights, start=start))
    ranges = (sizes[kept > 0] for kept in weights)
    return [
        float(b_crit) if others.min() < b_crit < others.max() else None
        for b_crit, others in zip(fitted[:, 1], ranges, strict=True)
    ]


def _fitted(
    sizes: Floats,
    medians: Floats,
    bounds: Floats,
    noise: float,
    weights: Floats | None = None,
    centres: Floats | float = EXPONENT,
    start: Floats | None = None,
) -> Floats:
    """Return the logarithms of S_min, B_crit and the exponent that fit every row of `medians` best, (rows, 3).

    By damped least squares (Levenberg and Marquardt), all rows at once. An infinite median is censored at its bound.
    `weights`, of the shape of `medians`, are 0 for a batch size that is left out.
    """
    x, reached = np.log(sizes), np.isfinite(medians)
    y = np.log(np.where(reached, medians, np.maximum(bounds, 1e-9)))
    weights = np.ones(medians.shape) if weights is None else weights
    least, most = x.min() - math.log(BEYOND), x.max() + math.log(BEYOND)
    if start is None:
        start = np.array([[y[reached].min(), np.median(x), EXPONENT]])
    parameters = np.repeat(start, len(medians) // len(start), axis=0)
    ridge = noise / EXPONENT_SPREAD

    def differences(parameters: Floats) -> tuple[Floats, Floats]:
        s_min, b_crit, exponent = parameters.T[:, :, None]
        power, distance = np.exp(exponent), b_crit - x
        bend, share = np.logaddexp(0, power * distance) / power, expit(power * distance)
        difference = (y - s_min - bend) * weights
        counts = weights * (reached | (difference > 0))
        slopes = np.stack([np.ones_like(share), share, share * distance - bend], axis=2) * counts[:, :, None]
        own = ridge * (centres - parameters[:, 2])
        own_slope = np.broadcast_to([[[0, 0, ridge]]], (len(slopes), 1, 3))
        return np.column_stack([difference * (counts > 0), own]), np.concatenate([slopes, own_slope], axis=1)

    damping = np.full(len(medians), 1e-2)
    difference, slopes = differences(parameters)
    for _ in range(ITERATIONS):
        across = slopes.transpose(0, 2, 1)
        normal = across @ slopes
        normal += np.eye(3) * (damping[:, None, None] * normal + 1e-9)
        step = np.linalg.solve(normal, across @ difference[:, :, None])[:, :, 0]
        tried = parameters + np.clip(step, -2, 2)
        tried[:, 1:] = np.clip(tried[:, 1:], [least, -1.5], [most, 2.5])
        others = differences(tried)
        if np.abs(tried - parameters).max() < CLOSE:
            break
        better = (others[0] ** 2).sum(axis=1) <= (difference**2).sum(axis=1)
        damping = np.clip(np.where(better, damping / 4, damping * 6), 1e-9, 1e9)
        parameters = np.where(better[:, None], tried, parameters)
        difference = np.where(better[:, None], others[0], difference)
        slopes = np.where(better[:, None, None], others[1], slopes)
    return parameters
