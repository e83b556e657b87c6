"""What several seeds say together: medians and intervals that do not flatter."""

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digits_sweep.report.analysis.replicates import middle, replicates, share_interval
from tests.studies import add_run, finished, losses_reaching

times = st.floats(0.001, 1e6) | st.just(math.inf)


@given(st.lists(times, min_size=1, max_size=40), st.randoms())
def test_the_median_lies_in_its_interval_and_the_order_of_the_runs_does_not_matter(values, chance):
    found = middle(values)
    assert found.low <= found.median <= found.high
    assert middle(chance.sample(values, len(values))) == found


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=40))
def test_the_median_is_the_one_that_everybody_knows(values):
    assert middle(values).median == pytest.approx(statistics.median(values))


@pytest.mark.parametrize(
    ("runs", "coverage"), [(1, 0), (2, 0.5), (3, 0.75), (4, 0.875), (5, 0.9375), (6, 0.96875), (8, 0.9921875)]
)
def test_the_range_of_a_few_runs_covers_the_median_as_often_as_it_says(runs, coverage):
    found = middle([float(value) for value in range(runs)])
    assert (found.low, found.high, found.coverage) == (0, runs - 1, pytest.approx(coverage))


@pytest.mark.parametrize("runs", [6, 11, 25])
def test_the_interval_really_holds_the_median_in_at_least_95_of_100_samples(runs):
    chance = random.Random(runs)
    samples = [middle([chance.expovariate(1) for _ in range(runs)]) for _ in range(4000)]
    share = statistics.mean(sample.low <= math.log(2) <= sample.high for sample in samples)
    # Four standard errors of a share of 0.95 over 4,000 samples.
    assert share >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / 4000)


def test_no_run_has_no_median():
    with pytest.raises(ValueError, match="no value"):
        middle([])


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
def test_a_run_that_did_not_get_there_counts_as_infinite(tmp_path, epochs, median):
    for seed, epoch in enumerate(epochs):
        add_run(tmp_path, f"seed={seed}", losses_reaching(epoch), seed=seed)
    (group,) = replicates(finished(tmp_path).runs)
    assert group.epochs_to_threshold.median == median
    assert (group.reached, group.runs) == (sum(epoch is not None for epoch in epochs), len(epochs))


def test_a_diverged_run_is_a_miss_and_one_that_failed_or_still_trains_is_not_known(tmp_path):
    for seed, status in enumerate(["completed", "diverged", "failed", "interrupted"]):
        add_run(tmp_path, f"seed={seed}", losses_reaching(None), seed=seed, status=status)
    (group,) = replicates(finished(tmp_path).runs)
    assert (group.reached, group.runs) == (0, 2)


@pytest.mark.parametrize(
    ("hits", "runs", "low", "high"), [(4, 5, 0.2836, 0.9949), (0, 6, 0, 0.4593), (6, 6, 0.5407, 1)]
)
def test_the_share_of_runs_that_got_there_has_its_exact_interval(hits, runs, low, high):
    assert share_interval(hits, runs) == pytest.approx((low, high), abs=1e-4)


def test_seeds_are_replicates_and_everything_else_makes_a_configuration(tmp_path):
    for name, columns in {"a": {}, "b": {"seed": 1}, "c": {"lr": 1e-6}, "d": {"engine": "eager"}}.items():
        add_run(tmp_path, name, losses_reaching(2), **columns)
    groups = replicates(finished(tmp_path).runs)
    assert [(group.configuration, group.runs) for group in groups] == [
        ("batch size 20, lr 1e-4, closed_form", 2),
        ("batch size 20, lr 1e-6, closed_form", 1),
        ("batch size 20, lr 1e-4, eager", 1),
    ]


def test_what_follows_from_the_batch_size_is_not_told_again(tmp_path):
    add_run(tmp_path, "a", losses_reaching(2), batch_size=100)
    add_run(tmp_path, "b", losses_reaching(2), batch_size=5, lr=1e-6, weight_decay=5e-6)
    assert [group.configuration for group in replicates(finished(tmp_path).runs)] == ["batch size 100", "batch size 5"]
