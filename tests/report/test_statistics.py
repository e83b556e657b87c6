"""Seeds, pairs and sweeps in numbers: medians that count misses, intervals that cover, and what a lead is worth."""

import math
import random
import statistics

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls
from scipy.special import bdtr, betaincinv

from digits_sweep.report.critical import branch_sentence, branches_of
from digits_sweep.report.sentences import differences
from digits_sweep.report.statistics import (
    at_most,
    combine,
    contrast,
    estimate,
    paired,
    replicates,
    share_interval,
    with_sweep_names,
)
from digits_sweep.report.study import costs, fitted_costs
from digits_sweep.report.tables import comparison_table
from tests.studies import add_run, evaluation, finished, losses_reaching

COUNTS = [(hits, runs) for runs in (1, 2, 6, 24, 200, 1100) for hits in sorted({0, 1, runs // 3, runs - 1, runs})]
times = st.floats(0.001, 1e6) | st.just(math.inf)


@pytest.mark.parametrize(("hits", "runs"), COUNTS)
def test_the_binomial_distribution_is_that_of_scipy(hits, runs):
    assert at_most(hits, runs) == pytest.approx(float(bdtr(hits, runs, 0.5)), rel=1e-9)
    low = float(betaincinv(hits, runs - hits + 1, 0.025)) if hits else 0
    high = float(betaincinv(hits + 1, runs - hits, 0.975)) if hits < runs else 1
    assert share_interval(hits, runs) == pytest.approx((low, high), rel=1e-9)


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


@pytest.mark.parametrize("runs", [6, 11, 25])
def test_the_interval_contains_the_median_in_at_least_95_of_100_samples(runs):
    chance = random.Random(runs)
    samples = [estimate([chance.expovariate(1) for draw in range(runs)]) for sample in range(4000)]
    share = statistics.mean(sample.low <= math.log(2) <= sample.high for sample in samples)
    # Four standard errors of a share of 0.95 over 4,000 samples.
    assert share >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / 4000)


def test_no_run_has_no_median():
    with pytest.raises(ValueError, match="no values"):
        estimate([])


@pytest.mark.parametrize(
    ("epochs", "median"),
    [([3, 3, 3], 3), ([3, None, 3], 3), ([3, None, None], math.inf), ([2, 3, None, None], math.inf)],
)
def test_a_run_that_did_not_reach_the_threshold_counts_as_infinite(tmp_path, epochs, median):
    for seed, epoch in enumerate(epochs):
        add_run(tmp_path, f"seed={seed}", losses_reaching(epoch), seed=seed)
    (group,) = replicates(finished(tmp_path).runs)
    assert group.epochs_to_threshold.median == median
    assert (group.reached, group.runs) == (sum(epoch is not None for epoch in epochs), len(epochs))


def test_a_diverged_run_is_a_miss_and_one_that_failed_or_still_trains_is_left_out(tmp_path):
    for seed, status in enumerate(["completed", "diverged", "failed", "interrupted"]):
        add_run(tmp_path, f"seed={seed}", losses_reaching(None), seed=seed, status=status)
    (group,) = replicates(finished(tmp_path).runs)
    assert (group.reached, group.runs) == (0, 2)


def test_a_run_whose_evaluations_cannot_be_read_has_neither_reached_nor_missed(tmp_path):
    for seed in range(3):
        rows = [evaluation(0, 20, train_loss=2.3), evaluation(900, 20, train_loss=1.5)]
        config = {"evaluation.targets.train_loss": [1.6]}
        add_run(tmp_path, f"{seed}", losses_reaching(2), seed=seed, config=config, evaluations=rows)
    (tmp_path / "1" / "evaluations.csv").write_text("torn")
    study = finished(tmp_path)
    assert [None if pd.isna(each) else bool(each) for each in study.runs["reached"]] == [True, None, True]
    (group,) = replicates(study.runs)
    assert (group.runs, group.known, group.reached) == (3, 2, 2)
    assert group.examples_to_goal.runs == 2


# --- Pairs.


def runs(values, seeds=None) -> pd.DataFrame:
    return pd.DataFrame({"seed": seeds or range(len(values)), "seconds": pd.array(values, dtype="Float64")})


def test_pairs_are_matched_by_their_seed_and_not_by_their_place():
    found = paired(runs([1, 2, 3], [0, 1, 2]), runs([30, 10], [2, 0]), "seconds")
    assert (found.pairs, found.smaller, found.larger, found.ratio.median) == (2, 2, 0, 10)
    assert paired(runs([1.0], [0]), runs([1.0], [1]), "seconds") is None


@pytest.mark.parametrize(("count", "is_significant"), [(5, False), (6, True)])
def test_six_pairs_of_one_sign_are_the_fewest_that_are_significant(count, is_significant):
    found = paired(runs([1.0] * count), runs([1.1] * count), "seconds")
    assert (found.p_value, found.is_significant) == (2 * 0.5**count, is_significant)


def test_a_miss_is_larger_than_every_value_and_two_misses_are_a_tie():
    found = paired(runs([1.0, None, None]), runs([None, None, 2.0]), "seconds")
    assert (found.smaller, found.larger, found.pairs, found.ratio.high) == (1, 1, 3, math.inf)


@given(st.lists(st.tuples(st.floats(0.1, 100), st.floats(0.1, 100)), min_size=1, max_size=20))
def test_exchanging_the_two_exchanges_what_is_said(values):
    first, second = (runs([pair[place] for pair in values]) for place in (0, 1))
    one, other = paired(first, second, "seconds"), paired(second, first, "seconds")
    assert (one.smaller, one.larger, one.p_value) == (other.larger, other.smaller, other.p_value)


# --- Costs.


def test_the_costs_of_an_iteration_and_of_an_example_are_recovered(tmp_path):
    # 600 iterations take 1 s, 12,000 take 5.75 s, over as many examples.
    for size, seconds in ((100, 1.0), (5, 5.75)):
        add_run(tmp_path, f"{size}", losses_reaching(2), seconds, batch_size=size)
    found = costs(finished(tmp_path).runs)
    assert found.seconds_per_iteration == pytest.approx(4.75 / 11_400)
    assert found.seconds_per_example == pytest.approx((1 - 600 * 4.75 / 11_400) / 60_000)
    assert list(found.parts["examples"] + found.parts["iterations"]) == pytest.approx([5.75, 1.0])


@pytest.mark.parametrize("columns", [{}, {"engine": "lesson", "batch_size": 100}])
def test_costs_need_two_batch_sizes_that_do_the_same_work(tmp_path, columns):
    add_run(tmp_path, "a", losses_reaching(2))
    add_run(tmp_path, "b", losses_reaching(2), **columns)
    assert costs(finished(tmp_path).runs) is None


@pytest.mark.parametrize("seconds", [[1.0, 5.75, 2.0], [1.0, 0.9, 1.0], [1.0, 20.0, 5.0]])
def test_costs_are_never_below_zero(seconds):
    iterations, examples = np.array([600.0, 12_000.0, 3_000.0]), np.full(3, 60_000.0)
    expected = nnls(np.stack([iterations, examples], axis=1) / np.array(seconds)[:, None], np.ones(3))[0]
    assert fitted_costs(iterations, examples, np.array(seconds)) == pytest.approx(expected, abs=1e-12)


# --- Sweeps side by side.


@pytest.mark.parametrize(
    ("values", "base", "ratio", "p_value"),
    [
        ([1.0], [1.23], 1.23, None),
        ([1.0, 1.01, 1.02, 1.03], [2.0, 2.02, 2.04, 2.06], 2.0, 0.029),
        ([1.0, 3.0, 5.0, 7.0], [2.0, 4.0, 6.0, 8.0], 1.25, 0.69),
        ([1.0] * 3, [math.inf] * 3, math.inf, None),
        ([math.inf] * 3, [1.0] * 3, 0, None),
        ([math.inf] * 3, [math.inf] * 3, math.nan, None),
    ],
)
def test_a_contrast_is_a_ratio_of_medians_with_a_p_value_if_there_are_enough_runs(values, base, ratio, p_value):
    found = contrast(values, base)
    assert found.ratio == pytest.approx(ratio, rel=0.01, nan_ok=True)
    assert found.p_value == (None if p_value is None else pytest.approx(p_value, abs=0.005))


def two_sweeps(folder, seconds, epochs, **columns):
    """Sweeps `a` and `b` with as many runs as seconds and epochs are given for each."""
    studies = []
    for name in ("a", "b"):
        for seed, (each, epoch) in enumerate(zip(seconds[name], epochs[name], strict=True)):
            own = {column: values[name] for column, values in columns.items()}
            add_run(folder / name, f"seed={seed}", losses_reaching(epoch), each, seed=seed, **own)
        studies.append(finished(folder / name))
    return combine(studies)


ONE = {"a": [1.0], "b": [1.0]}


@pytest.mark.parametrize(
    ("seconds", "epochs", "to_goal", "examples"),
    [
        (
            {"a": [1.23], "b": [1.0]}, {"a": [2], "b": [2]},
            "1.23 times as fast (too few runs to tell from noise)", "the same (in 1 seed)",
        ),
        (
            {"a": [2.0, 2.02, 2.04, 2.06], "b": [1.0, 1.01, 1.02, 1.03]}, {"a": [2] * 4, "b": [2] * 4},
            "2 times as fast (more than the noise, p = 0.029)", "the same (in 4 seeds)",
        ),
        (ONE, {"a": [None], "b": [None]}, "neither reaches it", "the same (in 1 seed)"),
        (ONE, {"a": [None], "b": [2]}, "reached; not in A", "reached; not in A (fewer in 1 of 1 seeds, p = 1)"),
        (ONE, {"a": [2], "b": [None]}, "not reached", "not reached (fewer in 0 of 1 seeds, p = 1)"),
        (ONE, {"a": [2], "b": [4]}, "0.5 times as fast (too few runs to tell from noise)",
         "2 times as many (fewer in 0 of 1 seeds, p = 1)"),
    ],
)  # fmt: skip
def test_a_difference_is_written_with_whether_it_is_more_than_the_noise(tmp_path, seconds, epochs, to_goal, examples):
    rows = comparison_table(two_sweeps(tmp_path, seconds, epochs)).rows
    assert [str(row[5]) for row in rows] == ["", to_goal]
    assert [str(row[7]) for row in rows] == ["", examples]


def test_two_thresholds_are_never_compared_in_one_ratio(tmp_path):
    combined = two_sweeps(tmp_path, ONE, {"a": [2], "b": [2]}, loss_threshold={"a": 1.6, "b": 1.55})
    second = comparison_table(combined).rows[1]
    assert [str(cell) for cell in (second[5], second[7])] == ["another goal", "another goal"]
    assert str(second[3]).startswith("1 times as fast")


def test_seconds_that_were_timed_unsteadily_are_marked_where_they_are_compared(tmp_path):
    combined = two_sweeps(tmp_path, ONE, {"a": [2], "b": [2]})
    combined.history["seconds"] *= [1, *[1.0, 1.5, 2.0] * 3] * 2
    rows = comparison_table(combined).rows
    assert str(rows[1][3]) == "1 times as fast (timed unsteadily; too few runs to tell from noise)"


def test_sweeps_that_differ_in_their_engine_are_compared_batch_size_by_batch_size(tmp_path):
    studies = []
    for engine, seconds in (("lesson", 8.0), ("closed_form", 1.0)):
        for batch_size in (100, 20):
            losses = losses_reaching(2)
            add_run(tmp_path / engine, f"{batch_size}", losses, seconds, batch_size=batch_size, engine=engine)
        studies.append(finished(tmp_path / engine))
    combined = combine(studies)
    assert differences(combined) == ["engine: lesson in A, closed_form in B"]
    assert [[str(cell) for cell in row[:4]] for row in comparison_table(combined).rows] == [
        ["batch size 100", "A", "8 s", ""],
        ["batch size 100", "B", "1 s", "8 times as fast (too few runs to tell from noise)"],
        ["batch size 20", "A", "8 s", ""],
        ["batch size 20", "B", "1 s", "8 times as fast (too few runs to tell from noise)"],
    ]
    apart = with_sweep_names(combined)
    assert {"A: batch size 20", "B: batch size 20"} <= set(apart.runs["configuration"])
    assert set(apart.history["configuration"]) == set(apart.runs["configuration"])


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"lr": {"a": 1e-4, "b": 1e-6}}, "lr: 1e-4 in A, 1e-6 in B"),
        ({"torch_version": {"a": "2.14.0", "b": "2.15.0"}}, "torch version: 2.14.0 in A, 2.15.0 in B"),
        ({"config": {"a": {"data.scale": "raw"}, "b": {}}}, "scale: raw in A, unit in B"),
    ],
)
def test_what_differs_between_sweeps_is_written_once_and_not_in_every_name(tmp_path, columns, sentence):
    combined = two_sweeps(tmp_path, ONE, {"a": [2], "b": [2]}, **columns)
    assert differences(combined) == [sentence]
    assert set(combined.runs["configuration"]) == {"batch size 20"}


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
