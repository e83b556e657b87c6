"""Where a run's evaluations fall below its thresholds: bracketed, interpolated, never guessed."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digits_sweep.results.files import write_table
from digits_sweep.results.record import EvaluationRow
from digits_sweep.results.targets import TARGETS_FILE, Crossing, Point, all_reached, crossing, targets_of, targets_table

# Inside these, values and thresholds differ enough for their logarithms to differ too.
VALUES = st.floats(0.01, 3)


@st.composite
def evaluations(draw) -> list[Point]:
    """Evaluations in rising order, from the first step on, of any values."""
    steps = draw(st.lists(st.integers(1, 50), max_size=12))
    points, iterations = [], 0
    for step in [0, *steps]:
        iterations += step
        points.append(Point(iterations, 20 * iterations, 0.1 * iterations, draw(VALUES)))
    return points


@given(points=evaluations(), threshold=VALUES)
def test_the_first_value_below_the_threshold_counts_and_the_one_before_it_brackets_it(points, threshold):
    found = crossing(points, threshold)
    below = [point for point in points if point.value < threshold]
    assert found.reached == bool(below)
    if not below:
        assert found == Crossing(None, points[-1], None)
        return
    assert found.at == below[0]
    assert found.before == (points[points.index(found.at) - 1] if found.at.iterations else None)


@given(points=evaluations(), threshold=VALUES)
def test_the_crossing_lies_in_its_bracket_in_every_unit_alike(points, threshold):
    found = crossing(points, threshold)
    if found.crossed and found.before:
        for unit in ("iterations", "examples", "seconds"):
            low, value, high = (getattr(each, unit) for each in (found.before, found.crossed, found.at))
            assert low <= value <= high + 1e-9
        assert found.crossed.examples == pytest.approx(20 * found.crossed.iterations)
        assert found.crossed.seconds == pytest.approx(0.1 * found.crossed.iterations)


@given(points=evaluations(), thresholds=st.tuples(VALUES, VALUES).map(sorted))
def test_a_lower_threshold_is_never_reached_earlier(points, thresholds):
    low, high = (crossing(points, threshold) for threshold in thresholds)
    assert high.reached or not low.reached
    if low.crossed and high.crossed:
        assert low.crossed.iterations >= high.crossed.iterations - 1e-9


@given(
    rate=st.floats(1e-3, 0.1), start=st.floats(1, 3), fraction=st.floats(0.1, 0.9), steps=st.integers(2, 20)
)  # fmt: skip
def test_the_crossing_of_an_exponential_decay_is_exact(rate, start, fraction, steps):
    points = [Point(10 * k, 10 * k, k, start * math.exp(-rate * 10 * k)) for k in range(steps)]
    threshold = start * (points[-1].value / start) ** fraction
    expected = math.log(start / threshold) / rate
    assert crossing(points, threshold).crossed.iterations == pytest.approx(expected, rel=1e-6)


def points(*values: float) -> list[Point]:
    return [Point(10 * number, 100 * number, number / 2, value) for number, value in enumerate(values)]


def test_a_value_at_the_threshold_is_not_below_it():
    assert not crossing(points(1.7, 1.6), 1.6).reached
    assert crossing(points(1.7, 1.6, 1.5), 1.6).crossed == Point(10, 100, 0.5, 1.6)


def test_a_run_that_is_below_from_the_first_evaluation_has_no_bracket():
    assert crossing(points(1.5, 1.4), 1.6) == Crossing(points(1.5)[0], None, points(1.5)[0])


def test_without_evaluations_nothing_is_reached():
    assert crossing([], 1.6) == Crossing(None, None, None)


def test_an_error_of_zero_is_interpolated_without_a_logarithm():
    assert crossing(points(0.4, 0.0), 0.1).crossed.iterations == pytest.approx(7.5)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_after_a_loss_that_is_no_number_the_first_one_below_counts(value):
    assert not crossing(points(value), 1.6).reached
    assert crossing(points(1.7, value, 1.5), 1.6).crossed.iterations == 20


@pytest.mark.parametrize(
    ("direction", "values", "threshold", "iterations"),
    [
        (">=", (0.2, 0.6, 0.9), 0.9, 20),
        (">", (0.2, 0.6, 0.9), 0.9, None),
        (">", (0.2, 0.6, 0.9), 0.75, 15),
        (">=", (0.95, 0.1), 0.9, 0),
        ("<=", (3.0, 2.0), 2.0, 10),
        ("<", (3.0, 2.0), 2.0, None),
        ("<", (0.5, -0.5, -1.5), -1.0, 15),
        (">=", (math.nan, -4.0, -2.0), -3.0, 15),
    ],
)
def test_a_value_may_have_to_rise_or_to_fall_and_have_any_sign(direction, values, threshold, iterations):
    crossed = crossing(points(*values), threshold, direction).crossed
    assert (crossed and crossed.iterations) == (iterations and pytest.approx(iterations))


def test_two_values_next_to_each_other_are_bracketed_all_the_same():
    below = math.nextafter(1.6, 0)
    assert 0 <= crossing(points(1.6, below), 1.6).crossed.iterations <= 10


# targets.csv


def row(iterations: int, train_loss: float, test_error: float, classes_never_predicted: int = 0) -> EvaluationRow:
    return EvaluationRow(
        iterations, 20 * iterations, iterations / 10, train_loss, 0.5, 2.0, test_error, classes_never_predicted
    )


RUN = [row(0, 2.3, 0.9, 4), row(10, 1.7, 0.4, 2), row(20, 1.5, 0.2, 1), row(30, 1.48, 0.15)]
TARGETS = {"train_loss": [1.6], "train_error": [], "test_loss": [], "test_error": [0.3, 0.1]}


def test_every_target_of_a_run_has_a_row_reached_or_not():
    loss, error, missed = targets_of("batch_size=20", TARGETS, RUN)
    share = math.log(1.7 / 1.6) / math.log(1.7 / 1.5)
    assert (loss.run_dir, loss.target, loss.threshold, loss.reached) == ("batch_size=20", "train_loss", 1.6, True)
    assert loss.iterations == pytest.approx(10 + 10 * share)
    assert loss.examples == pytest.approx(20 * loss.iterations)
    assert loss.seconds == pytest.approx(loss.iterations / 10)
    assert (loss.iterations_before, loss.iterations_at) == (10, 20)
    assert (loss.examples_before, loss.examples_at) == (200, 400)
    assert (loss.seconds_before, loss.seconds_at) == (1.0, 2.0)
    assert loss.classes_never_predicted == 1
    assert (error.target, error.threshold, error.iterations_at) == ("test_error", 0.3, 20)
    assert (missed.reached, missed.iterations, missed.iterations_at) == (False, None, None)
    assert (missed.iterations_before, missed.examples_before, missed.seconds_before) == (30, 600, 3.0)
    assert missed.classes_never_predicted is None


def test_a_run_without_an_evaluation_misses_its_targets():
    assert [(each.reached, each.iterations_before) for each in targets_of("run", TARGETS, [])] == [(False, None)] * 3


def test_a_run_may_stop_when_all_its_targets_are_reached():
    assert not all_reached(TARGETS, RUN)
    assert all_reached({"train_loss": [1.6], "test_error": [0.3, 0.2]}, RUN)
    assert not all_reached({"train_loss": [1.6], "test_error": [0.3, 0.2]}, RUN[:3])
    assert not all_reached({"train_loss": [], "test_error": []}, RUN)


def test_targets_are_a_table_in_which_what_is_missing_is_empty(tmp_path):
    write_table(tmp_path / TARGETS_FILE, targets_table([*targets_of("run", TARGETS, RUN)]))
    text = (tmp_path / "targets.csv").read_text()
    assert text.splitlines()[0] == (
        "run_dir,target,threshold,reached,iterations,examples,seconds,iterations_before,iterations_at,examples_before,"
        "examples_at,seconds_before,seconds_at,classes_never_predicted,direction"
    )
    assert text.splitlines()[3] == "run,test_error,0.1,False,,,,30,,600,,3.0,,,<"
    assert pd.read_csv(tmp_path / "targets.csv")["reached"].tolist() == [True, True, False]


def test_without_a_target_the_table_has_its_columns(tmp_path):
    write_table(tmp_path / TARGETS_FILE, targets_table([]))
    assert pd.read_csv(tmp_path / "targets.csv").columns[-1] == "direction"


def moving(chance, per_doubling, noise):
    """Evaluations of an error that halves with every doubling and moves up and down: 0.1 after 1,000 iterations."""
    iterations = 2 ** np.arange(4, 14, 1 / per_doubling)
    errors = 100 / iterations * np.exp(noise * chance.standard_normal(len(iterations)))
    return [Point(at, at, at, value) for at, value in zip(iterations, errors, strict=True)]


def median_crossing(per_doubling, on_balance):
    chance = np.random.default_rng(0)
    crossings = [crossing(moving(chance, per_doubling, 0.3), 0.1, on_balance=on_balance).crossed for _ in range(400)]
    return np.exp(np.mean([math.log(point.iterations) for point in crossings]))


def test_an_error_that_moves_is_below_on_balance_at_the_same_step_however_often_it_is_looked_at():
    first = [median_crossing(density, on_balance=False) for density in (6, 12, 24)]
    assert first[0] > 1.05 * first[1] > 1.1 * first[2]
    on_balance = [median_crossing(density, on_balance=True) for density in (6, 12, 24)]
    assert on_balance == pytest.approx([1000] * 3, rel=0.03)


@given(points=evaluations(), threshold=VALUES)
def test_on_balance_a_value_above_gives_way_to_one_below(points, threshold):
    found = crossing(points, threshold, on_balance=True)
    if found.reached:
        assert found.at.value < threshold
        assert found.before is None or found.before.value >= threshold
    falling = sorted(points, key=lambda point: -point.value)
    falling = [replace(point, iterations=number) for number, point in enumerate(falling)]
    assert crossing(falling, threshold, on_balance=True) == crossing(falling, threshold)


def test_on_balance_a_run_ends_so_many_doublings_beyond_its_last_target():
    rows = [
        EvaluationRow(at, at, 0.1, 1.0, error, 1.0, error, 0, None) for at, error in ((8, 0.2), (16, 0.05), (23, 0.02))
    ]
    assert not all_reached({"train_error": [0.1]}, rows[:2], 0.5)
    assert all_reached({"train_error": [0.1]}, rows, 0.5)
    assert all_reached({"train_error": [0.1]}, rows[:2])
