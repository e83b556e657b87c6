"""The critical batch size: planted ones are found, and what the runs cannot tell is refused."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digits_sweep.results.critical import Law
from digits_sweep.search.fit import Steps, fit_steps, interval

SIZES = (5, 20, 100, 300, 1000, 4000)


def measured(s_min, b_crit, sizes=SIZES, noise=0.0, seeds=7, exponent=1.45):
    chance, law = np.random.default_rng(0), Law(s_min, b_crit, exponent)
    return [Steps(b, tuple(law.steps(b) * np.exp(chance.normal(0, noise, seeds))), 0, b) for b in sizes]


def steps(size, values, more_than=0):
    return Steps(size, values, more_than, size)


@settings(max_examples=20)
@given(s_min=st.floats(5, 500), b_crit=st.floats(20, 1500), exponent=st.floats(0.9, 2.2))
def test_a_planted_curve_is_found_with_its_exponent(s_min, b_crit, exponent):
    fit, reason = fit_steps(measured(s_min, b_crit, exponent=exponent))
    assert reason == ""
    assert fit.law.b_crit == pytest.approx(b_crit, rel=0.03)
    assert fit.law.exponent == pytest.approx(exponent, rel=0.15)
    assert max(map(abs, fit.residuals.values())) < 0.03
    low, high = interval(fit.draws.b_crit)
    assert low < b_crit < high


def test_the_interval_holds_the_planted_one_and_is_the_same_every_time():
    found = measured(17, 240, noise=0.1)
    fit, _ = fit_steps(found)
    low, high = interval(fit.draws.b_crit)
    assert low < 240 < high < 2 * low
    again, _ = fit_steps(found)
    assert interval(again.draws.b_crit) == (low, high)
    assert set(fit.leave_one_out) == set(SIZES)
    assert all(150 < value < 400 for value in fit.leave_one_out.values())


def test_both_definitions_agree_with_the_law():
    law = Law(17.0, 240.0, 1.66)
    assert law.steps(240) == pytest.approx(17 * 2 ** (1 / 1.66))
    assert law.steps(law.batch_size(0.2)) * law.batch_size(0.2) == pytest.approx(1.2 * 17 * 240)
    assert Law(17.0, 240.0, 1.0).batch_size(0.2) == pytest.approx(0.2 * 240)


def test_a_law_with_a_sharper_bend_is_told_from_the_plain_one():
    sharp, _ = fit_steps(measured(17, 300, noise=0.05, exponent=2.1))
    plain, _ = fit_steps(measured(17, 300, noise=0.05, exponent=1.0))
    assert interval(sharp.draws.exponent)[0] > 1
    assert interval(plain.draws.exponent)[0] < 1
    assert sharp.p_value > 0.01


def test_steps_that_no_law_of_this_form_has_reject_it():
    bumpy = measured(17, 300, noise=0.03)
    bumpy[2] = steps(100, tuple(1.6 * value for value in bumpy[2].values))
    fit, _ = fit_steps(bumpy)
    assert fit.p_value < 0.001
    assert max(fit.residuals, key=lambda size: abs(fit.residuals[size])) == 100


def test_with_few_batch_sizes_the_exponent_is_averaged_over():
    few = interval(fit_steps(measured(17, 240, (20, 100, 500, 2000), noise=0.3))[0].draws.exponent)
    many = interval(fit_steps(measured(17, 240, noise=0.3))[0].draws.exponent)
    assert few[0] < 1.2 < 1.8 < few[1]
    assert few[1] / few[0] > many[1] / many[0]


@pytest.mark.parametrize(("seeds", "has_interval"), [(1, False), (2, False), (3, True)])
def test_fewer_than_three_seeds_have_no_interval(seeds, has_interval):
    fit, _ = fit_steps(measured(17, 240, noise=0.1, seeds=seeds))
    assert 150 < fit.law.b_crit < 400
    assert (fit.draws is not None) == has_interval


def test_a_batch_size_that_missed_the_goal_needs_more_steps_than_it_was_given():
    found = measured(17, 240)
    without, _ = fit_steps(found[1:])
    # The fit expects 833 steps at batch size 5: more than 500 says nothing new, more than 5,000 does.
    agrees, _ = fit_steps([steps(5, (math.inf,) * 7, 500), *found[1:]])
    assert agrees.law.b_crit == pytest.approx(without.law.b_crit, rel=0.02)
    contradicts, _ = fit_steps([steps(5, (), 5_000), *found[1:]])
    assert contradicts.law.b_crit > 1.2 * without.law.b_crit
    assert 5 not in contradicts.residuals


def test_a_median_counts_its_misses():
    assert steps(5, (100.0, 110.0, math.inf), 400).median == 110
    assert steps(5, (100.0, math.inf, math.inf), 400).median == math.inf


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (measured(17, 240, (5, 20, 100)), "3 batch sizes reached the goal, and a fit needs 4"),
        ([steps(size, (), 1000) for size in SIZES], "0 batch sizes reached the goal"),
        ([steps(size, (20.0,) * 7) for size in SIZES], "the curve is flat"),
        (measured(17, 240, (500, 1000, 2000, 4000)), "the curve is flat: no batch size is below the critical one"),
        (measured(17, 240, (1, 2, 5, 10)), "no batch size is above the critical one"),
        ([], "0 batch sizes reached the goal"),
        (measured(17, 240, (50, 200, 400, 1000), noise=1.2, seeds=3), "the seeds differ too much"),
    ],
)
def test_what_the_runs_cannot_tell_is_refused_with_the_reason(found, reason):
    fit, why = fit_steps(found)
    assert fit is None
    assert why.startswith(reason)
