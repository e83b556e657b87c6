"""The figures, as a notebook uses them: a table and an axis."""

import pytest
from matplotlib.figure import Figure

from digits_sweep.report import figures
from digits_sweep.results.history import softmax_floor
from tests.studies import add_run, finished, losses_reaching


@pytest.fixture
def axis():
    return Figure().subplots()


@pytest.fixture
def study(tmp_path):
    for seed, epoch in enumerate((3, 4, None)):
        add_run(tmp_path, f"100_{seed}", losses_reaching(epoch), 1.0, batch_size=100, seed=seed)
        add_run(tmp_path, f"5_{seed}", losses_reaching(2), 5.75, batch_size=5, seed=seed)
    return finished(tmp_path)


def test_the_threshold_and_the_floor_are_drawn_and_named(study, axis):
    figures.loss_against_epoch(study.runs, study.history, axis)
    assert {text.get_text() for text in axis.texts} == {"threshold 1.6", "floor 1.4612"}
    assert {1.6, softmax_floor(10)} <= {line.get_ydata()[0] for line in axis.lines}


def test_without_the_softmax_there_is_no_floor(tmp_path, axis):
    add_run(tmp_path, "a", losses_reaching(2), model="mlp_logits")
    study = finished(tmp_path)
    figures.loss_against_epoch(study.runs, study.history, axis)
    assert [text.get_text() for text in axis.texts] == ["threshold 1.6"]


def test_every_seed_is_a_line_beside_their_median(study, axis):
    figures.loss_against_epoch(study.runs, study.history, axis)
    lines = [line for line in axis.lines if len(line.get_xdata()) == 10]
    assert len(lines) == 6 + 2


@pytest.mark.parametrize(
    ("draw", "missed_at"),
    [("epochs_to_threshold", 10), ("iterations_to_threshold", 6000), ("seconds_to_threshold", 10)],
)
def test_a_run_that_missed_is_an_open_mark_where_its_training_ended(study, axis, draw, missed_at):
    getattr(figures, draw)(study.runs, axis)
    open_marks = [line for line in axis.lines if line.get_markerfacecolor() == "none"]
    assert [value for line in open_marks for value in line.get_ydata() if value == value] == [missed_at]


def test_the_line_of_perfect_scaling_halves_the_iterations_with_twice_the_batch_size(study, axis):
    figures.iterations_to_threshold(study.runs, axis)
    (line,) = [line for line in axis.lines if line.get_label() == "perfect scaling"]
    assert list(line.get_xdata() * line.get_ydata()) == [5 * 24_000] * 2


def test_the_costs_of_an_iteration_and_of_an_example_are_found_again(study):
    # 600 iterations take 1 s, 12,000 take 5.75 s, over as many examples.
    iteration, example = figures.cost_of_iterations_and_examples(study.runs)
    assert iteration == pytest.approx(4.75 / 11_400)
    assert example == pytest.approx((1 - 600 * 4.75 / 11_400) / 60_000)


def test_one_batch_size_does_not_tell_iterations_from_examples(study):
    assert figures.cost_of_iterations_and_examples(study.runs[study.runs["batch_size"] == 5]) is None


def test_the_share_of_runs_that_got_there_never_counts_a_miss_as_there(study, axis):
    figures.fraction_reached(study.runs, axis)
    assert {line.get_label(): line.get_ydata()[-1] for line in axis.lines} == {
        "batch size 100": pytest.approx(2 / 3),
        "batch size 5": 1,
    }
