"""Several seeds together: medians and intervals that cover what they claim to cover."""

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digits_sweep.report.analysis.statistics.replicates import estimate, replicates, share_interval
from tests.studies import add_run, finished, losses_reaching

times = st.floats(0.001, 1e6) | st.just(math.inf)


@given(st.lists(times, min_size=1, max_size=40), st.randoms())
def test_the_median_lies_in_its_interval_and_the_order_of_the_runs_does_not_matter(values, chance):
    found = estimate(values)
    assert found.low <= found.median <= found.high
    assert estimate(chance.sample(values, len(values))) == found


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=40))
def test_the_median_is_the_usual_one(values):
    assert estimate(values).median == pytest.approx(statistics.median(values))


@pytest.mark.parametrize(
    ("runs", "coverage"), [(1, 0), (2, 0.5), (3, 0.75), (4, 0.875), (5, 0.9375), (6, 0.96875), (8, 0.9921875)]
)
def test_the_range_of_a_few_runs_covers_the_median_as_often_as_it_says(runs, coverage):
    found = estimate([float(value) for value in range(runs)])
    assert (found.low, found.high, found.coverage) == (0, runs - 1, pytest.approx(coverage))


@pytest.mark.parametrize("runs", [6, 11, 25])
def test_the_interval_contains_the_median_in_at_least_95_of_100_samples(runs):
    chance = random.Random(runs)
    samples = [estimate([chance.expovariate(1) for _ in range(runs)]) for _ in range(4000)]
    share = statistics.mean(sample.low <= math.log(2) <= sample.high for sample in samples)
    # Four standard errors of a share of 0.95 over 4,000 samples.
    assert share >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / 4000)


def test_no_run_has_no_median():
    with pytest.raises(ValueError, match="no values"):
        estimate([])


@pytest.mark.parametrize(
    ("epochs", "median"),
    [
        ([3, 3, 3], 3),
        ([3, None, 3], 3),
        ([3, None, None], math.inf),
        ([2, 3, None, None], math.inf),
        ([None], math.inf),
    ],
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


@pytest.mark.parametrize(
    ("hits", "runs", "low", "high"), [(4, 5, 0.2836, 0.9949), (0, 6, 0, 0.4593), (6, 6, 0.5407, 1)]
)
def test_the_share_of_runs_that_reached_the_threshold_has_its_exact_interval(hits, runs, low, high):
    assert share_interval(hits, runs) == pytest.approx((low, high), abs=1e-4)
