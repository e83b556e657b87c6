"""Seeds in numbers: medians that count misses, intervals that cover, costs."""

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

from digits_sweep.report.critical import branch_sentence, branches_of
from digits_sweep.report.figures import costs_of
from digits_sweep.report.ranking import groups_of
from digits_sweep.report.statistics import coverage, estimate, fitted_costs, holm, seeds_agree, share_interval
from tests.studies import add_run, evaluation, finished, losses_reaching

COUNTS = [(hits, runs) for runs in (1, 2, 6, 24, 200, 1100) for hits in sorted({0, 1, runs // 3, runs - 1, runs})]
times = st.floats(0.001, 1e6) | st.just(math.inf)


@pytest.mark.parametrize(("hits", "runs"), COUNTS)
def test_the_binomial_distribution_is_that_of_scipy(hits, runs):
    assert 1 - coverage(hits + 1, runs) == pytest.approx(2 * float(bdtr(hits, runs, 0.5)), rel=1e-9, abs=1e-12)
    # At its ends so many hits or more, or so many or fewer, have a probability of 2.5 %.
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
def test_a_run_that_did_not_reach_the_threshold_counts_as_infinite(tmp_path, epochs, median):
    for seed, epoch in enumerate(epochs):
        add_run(tmp_path, f"seed={seed}", losses_reaching(epoch), seed=seed)
    (group,) = groups_of(finished(tmp_path))
    assert group.epochs_to_threshold.median == median
    assert (group.reached, group.runs) == (sum(epoch is not None for epoch in epochs), len(epochs))


def test_a_diverged_run_is_a_miss_and_one_that_failed_or_still_trains_is_left_out(tmp_path):
    for seed, status in enumerate(["completed", "diverged", "failed", "interrupted"]):
        add_run(tmp_path, f"seed={seed}", losses_reaching(None), seed=seed, status=status)
    (group,) = groups_of(finished(tmp_path))
    assert (group.reached, group.runs) == (0, 2)


def test_a_run_whose_evaluations_cannot_be_read_has_neither_reached_nor_missed(tmp_path):
    for seed in range(3):
        rows = [evaluation(0, 20, train_loss=2.3), evaluation(900, 20, train_loss=1.5)]
        config = {"evaluation.targets.train_loss": [1.6]}
        add_run(tmp_path, f"{seed}", losses_reaching(2), seed=seed, config=config, evaluations=rows)
    (tmp_path / "1" / "evaluations.csv").write_text("torn")
    study = finished(tmp_path)
    assert [None if pd.isna(each) else bool(each) for each in study.runs["reached"]] == [True, None, True]
    (group,) = groups_of(study)
    assert (group.runs, group.known, group.reached) == (3, 2, 2)
    assert group.examples_to_goal.runs == 2


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


def test_the_costs_of_an_iteration_and_of_an_example_are_recovered(tmp_path):
    # 600 iterations take 1 s, 12,000 take 5.75 s, over as many examples.
    for size, seconds in ((100, 1.0), (5, 5.75)):
        add_run(tmp_path, f"{size}", losses_reaching(2), seconds, batch_size=size)
    iteration, example, parts = costs_of(finished(tmp_path).runs)
    assert iteration == pytest.approx(4.75 / 11_400)
    assert example == pytest.approx((1 - 600 * 4.75 / 11_400) / 60_000)
    assert list(parts["examples"] + parts["iterations"]) == pytest.approx([5.75, 1.0])


@pytest.mark.parametrize("columns", [{}, {"engine": "lesson", "batch_size": 100}])
def test_costs_need_two_batch_sizes_that_do_the_same_work(tmp_path, columns):
    add_run(tmp_path, "a", losses_reaching(2))
    add_run(tmp_path, "b", losses_reaching(2), **columns)
    assert costs_of(finished(tmp_path).runs) is None


@pytest.mark.parametrize("seconds", [[1.0, 5.75, 2.0], [1.0, 0.9, 1.0], [1.0, 20.0, 5.0]])
def test_costs_are_never_below_zero(seconds):
    iterations, examples = np.array([600.0, 12_000.0, 3_000.0]), np.full(3, 60_000.0)
    expected = nnls(np.stack([iterations, examples], axis=1) / np.array(seconds)[:, None], np.ones(3))[0]
    assert fitted_costs(iterations, examples, np.array(seconds)) == pytest.approx(expected, abs=1e-12)


# --- Branches.


def branches(losses: dict[int, list[float]], tolerance: float = 0.05) -> pd.DataFrame:
    rows = [(size, seed, loss) for size, values in losses.items() for seed, loss in enumerate(values)]
    table = pd.DataFrame(rows, columns=["batch_size", "seed", "train_loss"])
    return table.assign(lr=1e-3, examples=20_000, tolerance=tolerance)


@pytest.mark.parametrize(
    ("losses", "limit", "sentence"),
    [
        (
            {5: [0.4, 0.5], 10: [0.4, 0.51], 20: [0.41, 0.52], 40: [0.5, 0.6], 80: [0.4, 0.5]}, 20,
            "up to batch size 20 what the loss exceeds its floor by after 20,000 more examples is at most 5% above",
        ),
        # Each seed has an order of its own, and so a loss of its own, that both batch sizes share.
        ({5: [0.2, 0.8], 10: [0.204, 0.816]}, 10, "up to batch size 10, the largest that was tried, what the"),
        ({5: [0.4], 10: [0.4]}, 10, "up to batch size 10, the largest that was tried, what the"),
    ],
)  # fmt: skip
def test_the_limit_is_the_last_batch_size_before_the_loss_rises_beyond_the_tolerance(losses, limit, sentence):
    found = branches_of(branches(losses))
    assert (found.limit, found.ratios[0].median) == (limit, 1)
    assert sentence in branch_sentence(found)


def test_a_tolerance_is_a_share_of_what_the_loss_exceeds_its_floor_by():
    table = branches({5: [1.59], 10: [1.593], 20: [1.6]})
    assert branches_of(table).limit == 20
    assert branches_of(table, floor=1.4612).limit == 10


def test_without_a_branch_there_is_nothing_to_say():
    assert branches_of(branches({})) is None
