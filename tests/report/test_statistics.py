"""Seeds in numbers: medians that count misses, intervals that cover, evidence that one may look at any time, costs."""

import math
import statistics
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls
from scipy.special import bdtr

from digits_sweep.report.figures import costs_of
from digits_sweep.report.ranking import groups_of, paired
from digits_sweep.report.statistics import (
    DECIDED,
    adjusted,
    decided,
    estimate,
    evidence,
    fitted_costs,
    holm,
    seeds_agree,
    share_interval,
)
from digits_sweep.report.study import load_study
from tests.studies import evaluation

times = st.floats(0.001, 1e6) | st.just(math.inf)


@pytest.mark.parametrize(("hits", "runs"), [(0, 1), (1, 1), (2, 6), (23, 24), (370, 1100)])
def test_at_the_ends_of_its_interval_a_share_is_as_unlikely_as_it_says(hits, runs):
    low, high = share_interval(hits, runs)
    assert low == 0 if hits == 0 else bdtr(hits - 1, runs, low) == pytest.approx(0.975)
    assert high == 1 if hits == runs else bdtr(hits, runs, high) == pytest.approx(0.025)


@given(st.lists(times, min_size=1, max_size=40), st.randoms())
def test_the_median_lies_in_its_interval_and_the_order_of_the_runs_does_not_matter(values, chance):
    found = estimate(values)
    assert found.low <= found.median <= found.high
    assert estimate(chance.sample(values, len(values))) == found
    if all(map(math.isfinite, values)):
        assert found.median == pytest.approx(statistics.median(values))


@pytest.mark.parametrize(
    ("runs", "coverage"), [(1, 0), (2, 0.5), (3, 0.75), (4, 0.875), (5, 0.9375), (6, 0.96875), (8, 0.9921875)]
)
def test_the_range_of_a_few_runs_covers_the_median_as_often_as_it_says(runs, coverage):
    found = estimate([float(value) for value in range(runs)])
    assert (found.low, found.high, found.coverage) == (0, runs - 1, pytest.approx(coverage))


@pytest.mark.parametrize(
    ("epochs", "median"),
    [([3, 3, 3], 3), ([3, None, 3], 3), ([3, None, None], math.inf), ([2, 3, None, None], math.inf)],
)
def test_a_run_that_did_not_reach_the_threshold_counts_as_infinite(recorded, epochs, median):
    (group,) = groups_of(recorded(*({"reached": epoch, "seed": seed} for seed, epoch in enumerate(epochs))))
    assert group.of("first_epoch_below_threshold").median == median
    assert (group.reached, group.runs) == (sum(epoch is not None for epoch in epochs), len(epochs))


def test_a_diverged_run_is_a_miss_and_one_that_failed_or_still_trains_is_left_out(recorded):
    ends = enumerate(["completed", "diverged", "failed", "interrupted"])
    (group,) = groups_of(recorded(*({"reached": None, "seed": seed, "status": status} for seed, status in ends)))
    assert (group.reached, group.runs) == (0, 2)


def test_a_run_whose_evaluations_cannot_be_read_has_neither_reached_nor_missed(recorded):
    rows = [evaluation(0, 20, train_loss=2.3), evaluation(900, 20, train_loss=1.5)]
    columns = {"config": {"evaluation.targets.train_loss": [1.6]}, "evaluations": rows}
    folder = recorded(*({**columns, "seed": seed} for seed in range(3))).folder
    (folder / "b" / "evaluations.csv").write_text("torn")
    study = load_study(folder)
    assert [None if pd.isna(each) else bool(each) for each in study.runs["reached"]] == [True, None, True]
    (group,) = groups_of(study)
    assert (group.runs, group.known, group.reached, group.of("examples_to_goal").runs) == (3, 2, 2, 2)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_the_adjustment_that_scipy_has_for_the_smallest_and_grows_with_the_p_value(p_values):
    adjusted = holm(p_values)
    assert min(adjusted) == pytest.approx(min(1, len(p_values) * min(p_values)))
    assert all(own <= other <= 1 for own, other in zip(p_values, adjusted, strict=True))
    order = sorted(range(len(p_values)), key=lambda test: p_values[test])
    assert [adjusted[test] for test in order] == sorted(adjusted)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8))
def test_the_p_value_of_whole_differences_is_that_of_all_combinations_of_their_signs(differences):
    sums = [
        sum(map(math.prod, zip(signs, differences, strict=True))) for signs in product((1, -1), repeat=len(differences))
    ]
    expected = statistics.mean(abs(total) >= abs(sum(differences)) for total in sums)
    assert seeds_agree(differences) == pytest.approx(expected)


# --- Costs.


def test_the_costs_of_an_iteration_and_of_an_example_are_recovered(recorded):
    # 600 iterations take 1 s, 12,000 take 5.75 s, over as many examples.
    study = recorded({"batch_size": 100, "seconds": 1.0}, {"batch_size": 5, "seconds": 5.75})
    iteration, example, parts = costs_of(study.runs)
    assert iteration == pytest.approx(4.75 / 11_400)
    assert example == pytest.approx((1 - 600 * 4.75 / 11_400) / 60_000)
    assert list(parts["examples"] + parts["iterations"]) == pytest.approx([5.75, 1.0])


@pytest.mark.parametrize("columns", [{}, {"engine": "lesson", "batch_size": 100}])
def test_costs_need_two_batch_sizes_that_do_the_same_work(recorded, columns):
    assert costs_of(recorded({}, columns).runs) is None


@pytest.mark.parametrize("seconds", [[1.0, 5.75, 2.0], [1.0, 0.9, 1.0], [1.0, 20.0, 5.0]])
def test_costs_are_never_below_zero(seconds):
    iterations, examples = np.array([600.0, 12_000.0, 3_000.0]), np.full(3, 60_000.0)
    expected = nnls(np.stack([iterations, examples], axis=1) / np.array(seconds)[:, None], np.ones(3))[0]
    assert fitted_costs(iterations, examples, np.array(seconds)) == pytest.approx(expected, abs=1e-12)


# --- Pairs of runs with the same seed.

sizes = st.floats(0, 10) | st.just(math.inf)


def runs_of(values, seeds=None) -> pd.DataFrame:
    seconds = pd.array(values, dtype="Float64")
    columns = {"seed": seeds or range(len(values)), "seconds": seconds, "reached": ~seconds.isna(), "lateness": 0.0}
    return pd.DataFrame(columns)


def test_pairs_are_matched_by_their_seed_and_not_by_their_place():
    pairs = paired(runs_of([1, 2, 3], [0, 1, 2]), runs_of([30, 10], [2, 0]), "seconds")
    assert (pairs.pairs, pairs.smaller, pairs.larger, pairs.ratio.median) == (2, 2, 0, 10)
    assert paired(runs_of([1.0], [0]), runs_of([1.0], [1]), "seconds") is None


def test_a_miss_is_larger_than_every_value_and_two_misses_are_a_tie():
    pairs = paired(runs_of([1.0, None, None]), runs_of([None, None, 2.0]), "seconds")
    assert (pairs.smaller, pairs.larger, pairs.pairs, pairs.ratio.high) == (1, 1, 3, math.inf)


@given(st.lists(st.tuples(st.floats(0.1, 100), st.floats(0.1, 100)), min_size=1, max_size=20))
def test_exchanging_the_two_exchanges_what_is_said(values):
    first, second = (runs_of([pair[side] for pair in values]) for side in (0, 1))
    one, other = paired(first, second, "seconds"), paired(second, first, "seconds")
    assert (one.smaller, one.larger) == (other.larger, other.smaller)
    assert one.looks == pytest.approx(other.looks)


@pytest.mark.parametrize(
    ("signs", "is_decided"),
    [
        ([1] * 5, False),
        ([1] * 6, True),
        ([-1] * 6, True),
        ([0] * 4 + [1] * 6, True),
        ([1] * 12 + [-1], True),
        ([1] * 9 + [-1], False),
        ([1, -1] * 12, False),
        ([0] * 30, False),
    ],
)
def test_six_pairs_that_all_agree_decide_and_of_more_most_have_to(signs, is_decided):
    assert bool(evidence(signs)[-1] >= DECIDED) == is_decided


def test_one_small_difference_against_the_others_weighs_less_than_a_large_one():
    against = [np.array([*[-1.0] * 9, size]) for size in (0.1, 10.0, math.inf)]
    small, large, missed = (evidence(differences)[-1] for differences in against)
    assert small > 2 * large
    assert large == missed


@given(st.lists(sizes, min_size=1, max_size=8))
def test_without_a_difference_the_mean_evidence_is_1_after_any_number_of_pairs(values):
    """Either sign is as likely as the other, whatever the sizes: the mean over all combinations of signs is exact."""
    signs = np.array(list(product((1, -1), repeat=len(values))))
    found = evidence(signs * np.minimum(values, 1e300))
    assert found.mean(axis=0) == pytest.approx(np.ones(len(values)))
    # And from any look on, whatever was seen until then.
    for until in range(len(values)):
        later = found[:, -1].reshape(2 ** (until + 1), -1).mean(axis=1)
        assert later == pytest.approx(found[:: 2 ** (len(values) - until - 1), until])


@given(st.lists(sizes, min_size=1, max_size=8), st.floats(0.1, 5))
def test_evidence_does_not_depend_on_the_unit(values, unit):
    signs = np.resize([1, 1, -1], len(values))
    assert evidence(signs * np.array(values) * 2) == pytest.approx(evidence(signs * np.array(values)))


def test_a_thousand_pairs_are_no_reason_to_overflow():
    assert evidence([-1.0] * 1_500)[-1] >= DECIDED
    assert evidence([-1.0, 1.0] * 750)[-1] < 1


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=8))
def test_of_several_comparisons_none_gains_and_one_alone_loses_nothing(e_values):
    together = adjusted(np.array(e_values)[:, None])[:, 0]
    assert all(own <= alone for own, alone in zip(together, e_values, strict=True))
    assert list(adjusted(np.array([[e_values[0]]]))) == [[e_values[0]]]
    assert decided([[each] for each in e_values]) == [min(e_values) >= DECIDED or own >= DECIDED for own in together]


@pytest.mark.parametrize(
    ("looks", "candidates", "expected"),
    [
        ([[21]], 2, [True]),
        ([[21], [21]], 3, [True, True]),
        ([[21], [0.4]], 3, [False, False]),
        ([[39], [0.4]], 3, [False, False]),
        ([[62], [0.4]], 3, [True, False]),
        # Decided at a look, it stays so; but all have to be at the same one.
        ([[1, 21, 5]], 2, [True]),
        ([[1, 21, 5], [1, 5, 21]], 3, [False, False]),
        # A configuration that has lost trains no more seeds: its evidence stays what it is.
        ([[1, 25], [1, 5, 22]], 3, [True, True]),
        ([], 1, []),
    ],
)
def test_leads_are_judged_together_at_every_look(looks, candidates, expected):
    assert decided(looks, candidates) == expected


def test_beside_comparisons_that_show_nothing_more_evidence_is_needed():
    assert adjusted(np.array([[30.0], [0.0]])).tolist() == [[15.0], [0.0]]
    assert adjusted(np.array([[90.0], [25.0], [0.5]])).ravel() == pytest.approx([115.5 / 3, 12.75, 0.5])
