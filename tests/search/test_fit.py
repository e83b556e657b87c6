"""The critical batch size: planted ones are found, and what the runs cannot tell is refused."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digits_sweep.search.fit import Steps, fit_steps

SIZES = (5, 20, 100, 300, 1000, 4000)


def measured(s_min, b_crit, sizes=SIZES, noise=0.0, seeds=7):
    chance = np.random.default_rng(0)
    return [Steps(b, tuple(s_min * (1 + b_crit / b) * np.exp(chance.normal(0, noise, seeds))), 0) for b in sizes]


@pytest.mark.full
@settings(max_examples=5)
@given(s_min=st.floats(5, 500), b_crit=st.floats(20, 1500))
def test_a_planted_curve_is_found(s_min, b_crit):
    fit, reason = fit_steps(measured(s_min, b_crit))
    assert reason == ""
    assert (fit.s_min, fit.e_min, fit.b_crit) == pytest.approx((s_min, s_min * b_crit, b_crit), rel=1e-4)
    assert (fit.low, fit.high) == pytest.approx((b_crit, b_crit), rel=1e-4)
    assert max(map(abs, fit.residuals.values())) < 1e-5
    assert fit.steps(b_crit) == pytest.approx(2 * s_min, rel=1e-4)


@pytest.mark.full
def test_the_interval_holds_the_planted_one_and_is_the_same_every_time():
    found = measured(17, 240, noise=0.1)
    fit, _ = fit_steps(found)
    assert fit.low < 240 < fit.high < 2 * fit.low
    assert fit_steps(found)[0] == fit
    assert set(fit.leave_one_out) == set(SIZES)
    assert all(150 < value < 400 for value in fit.leave_one_out.values())


def test_the_medians_of_the_reference_give_its_critical_batch_size():
    medians = zip(SIZES, (851, 181, 41, 22.5, 18, 16.7), strict=True)
    fit, _ = fit_steps([Steps(size, (steps,) * 7, 0) for size, steps in medians])
    assert fit.b_crit == pytest.approx(242, rel=0.01)


@pytest.mark.full
def test_a_batch_size_that_missed_the_goal_needs_more_steps_than_it_was_given():
    found = measured(17, 240)
    without, _ = fit_steps(found[1:])
    # The fit expects 833 steps at batch size 5: more than 500 says nothing new, more than 5,000 does.
    agrees, _ = fit_steps([Steps(5, (math.inf,) * 7, 500), *found[1:]])
    assert agrees.b_crit == pytest.approx(without.b_crit, rel=1e-3)
    contradicts, _ = fit_steps([Steps(5, (), 5_000), *found[1:]])
    assert contradicts.b_crit > 1.2 * without.b_crit
    assert 5 not in contradicts.residuals


def test_a_median_counts_its_misses():
    assert Steps(5, (100.0, 110.0, math.inf), 400).median == 110
    assert Steps(5, (100.0, math.inf, math.inf), 400).median == math.inf


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (measured(17, 240, (5, 20, 100)), "3 batch sizes reached the goal, and a fit needs 4"),
        ([Steps(size, (), 1000) for size in SIZES], "0 batch sizes reached the goal"),
        ([Steps(size, (20.0,) * 7, 0) for size in SIZES], "the curve is flat"),
        (measured(17, 240, (500, 1000, 2000, 4000)), "the curve is flat: no batch size is below the critical one"),
        (measured(17, 240, (1, 2, 5, 10)), "no batch size is above the critical one"),
        ([], "0 batch sizes reached the goal"),
    ],
)
def test_what_the_runs_cannot_tell_is_refused_with_the_reason(found, reason):
    fit, why = fit_steps(found)
    assert fit is None
    assert why.startswith(reason)


def test_seeds_that_differ_too_much_are_refused():
    fit, why = fit_steps(measured(17, 240, (50, 200, 400, 1000), noise=2.5, seeds=3))
    assert fit is None
    assert why
