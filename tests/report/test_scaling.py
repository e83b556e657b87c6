"""What is drawn against the batch size: marks, perfect scaling, and the cost of an epoch."""

import math

import numpy as np
import pytest
from scipy.optimize import nnls

from digits_sweep.report.analysis.curves import cost, scaling
from tests.studies import add_run, finished, losses_reaching


@pytest.fixture
def runs(tmp_path):
    for seed, epoch in enumerate((3, 4, None)):
        add_run(tmp_path, f"100_{seed}", losses_reaching(epoch), 1.0, batch_size=100, seed=seed)
        add_run(tmp_path, f"5_{seed}", losses_reaching(2), 5.75, batch_size=5, seed=seed)
    return finished(tmp_path).runs


@pytest.mark.parametrize(
    ("compute", "reached", "missed"),
    [
        (scaling.epochs_to_threshold, [3, 4], 10),
        (scaling.iterations_to_goal, [1800, 2400], 6000),
        (scaling.seconds_to_goal, [3, 4], 10),
    ],
)
def test_a_run_that_missed_keeps_the_training_that_it_had(runs, compute, reached, missed):
    large, small = compute(runs)
    assert [value for value in large.reached if not math.isnan(value)] == reached
    assert [value for value in large.missed if not math.isnan(value)] == [missed]
    assert all(map(math.isnan, small.missed))


def test_perfect_scaling_halves_the_iterations_with_twice_the_batch_size(runs):
    line = scaling.perfect_scaling(runs)
    assert list(line["batch_size"]) == [5, 100]
    assert list(line["batch_size"] * line["iterations_to_goal"]) == [5 * 24_000] * 2


def test_perfect_scaling_needs_two_batch_sizes(runs):
    assert scaling.perfect_scaling(runs[runs["batch_size"] == 5]).empty


def test_the_costs_of_an_iteration_and_of_an_example_are_recovered(runs):
    # 600 iterations take 1 s, 12,000 take 5.75 s, over as many examples.
    costs = cost.costs(runs)
    assert costs.seconds_per_iteration == pytest.approx(4.75 / 11_400)
    assert costs.seconds_per_example == pytest.approx((1 - 600 * 4.75 / 11_400) / 60_000)
    assert list(costs.parts["examples"] + costs.parts["iterations"]) == pytest.approx([5.75, 1.0])
    assert list(costs.parts["measured"]) == [5.75, 1.0]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        # More examples in fewer iterations take less: by the sign of a fit of both, examples would give seconds back.
        ([1, 6], (0.001, 0)),
        ([6, 1], (0, 0.001)),
    ],
)
def test_no_cost_is_negative_and_the_one_that_is_left_is_fitted_alone(seconds, expected):
    iterations, examples = np.array([[1000.0, 5000], [6000, 1000]])
    found = cost.fitted_costs(iterations, examples, np.array(seconds, float))
    relative = np.stack([iterations, examples], axis=1) / np.array(seconds)[:, None]
    assert found == pytest.approx(tuple(nnls(relative, np.ones(2))[0]))
    assert found == pytest.approx(expected, rel=0.4)


def test_one_batch_size_does_not_separate_iterations_from_examples(runs):
    assert cost.costs(runs[runs["batch_size"] == 5]) is None


@pytest.mark.parametrize(
    ("columns", "one_cost"),
    [
        ({"lr": 1e-6, "weight_decay": 5e-6}, True),
        ({"num_threads": 2}, True),
        ({"engine": "eager"}, False),
        ({"hidden_size": 32}, False),
        ({"config": {"model.hidden_layers": 1}}, False),
    ],
)
def test_runs_of_two_networks_or_engines_have_no_cost_in_common(tmp_path, columns, one_cost):
    add_run(tmp_path, "a", losses_reaching(2), 1.0, batch_size=100)
    add_run(tmp_path, "b", losses_reaching(2), 5.75, batch_size=5, **columns)
    assert (cost.costs(finished(tmp_path).runs) is not None) == one_cost
