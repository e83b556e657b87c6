"""The figures, as a notebook uses them: a result of the analysis and an axis."""

import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure

from digits_sweep.config.schema import softmax_floor
from digits_sweep.report.analysis.curves import along_epochs as curves
from digits_sweep.report.analysis.curves import cost, evaluated, scaling
from digits_sweep.report.analysis.panels import layout_of
from digits_sweep.report.figures import batch_size, courses
from digits_sweep.report.figures.predictions import predictions
from digits_sweep.report.figures.style import SIZES
from digits_sweep.report.pictures.captions import pictures
from tests.studies import add_run, evaluation, finished, losses_reaching


@pytest.fixture
def axis():
    return Figure().subplots()


@pytest.fixture
def study(tmp_path):
    for seed, epoch in enumerate((3, 4, None)):
        add_run(tmp_path, f"100_{seed}", losses_reaching(epoch), 1.0, batch_size=100, seed=seed)
        add_run(tmp_path, f"5_{seed}", losses_reaching(2), 5.75, batch_size=5, seed=seed)
    return finished(tmp_path)


def texts(axis) -> list[str]:
    return [text.get_text() for text in axis.texts]


def lines(axis) -> list[LineCollection]:
    return [each for each in axis.collections if isinstance(each, LineCollection)]


def marks(axis) -> dict[str, list[float]]:
    """The heights of open and of full marks."""
    found: dict[str, list[float]] = {"open": [], "full": []}
    for each in axis.collections:
        if isinstance(each, PathCollection):
            for (_, y), face in zip(each.get_offsets(), each.get_facecolor(), strict=True):
                found["full" if face[3] else "open"].append(float(y))
    return found


def test_the_threshold_and_the_floor_are_drawn_and_named(study, axis):
    courses.loss_against_epoch(curves.losses(study.runs, study.history), layout_of(study.runs), 0, axis)
    assert sorted(texts(axis)) == ["100", "5", "floor 1.4612", "threshold 1.6"]
    assert {1.6, softmax_floor(10)} <= {line.get_ydata()[0] for line in axis.lines}


def test_without_the_softmax_there_is_no_floor(tmp_path, axis):
    add_run(tmp_path, "a", losses_reaching(2), model="mlp_logits")
    study = finished(tmp_path)
    courses.loss_against_epoch(curves.losses(study.runs, study.history), layout_of(study.runs), 0, axis)
    assert texts(axis) == ["20", "threshold 1.6"]


@pytest.mark.parametrize("draw", [courses.loss_against_epoch, courses.loss_against_seconds])
def test_every_seed_is_a_line_beside_their_median(study, axis, draw):
    draw(curves.losses(study.runs, study.history), layout_of(study.runs), 0, axis)
    assert len([line for line in axis.lines if len(line.get_xdata()) == 10]) == 6
    (medians,) = lines(axis)
    assert [len(segment) for segment in medians.get_segments()] == [10, 10]


def test_a_run_that_missed_is_an_open_mark_and_the_others_are_full(study, axis):
    batch_size.epochs_to_threshold(scaling.epochs_to_threshold(study.runs), layout_of(study.runs), 0, axis)
    assert marks(axis) == {"open": [10], "full": [3, 4, 4, 2, 2, 2, 2]}


def test_the_ticks_are_the_batch_sizes(study, axis):
    batch_size.seconds_per_epoch(scaling.seconds_per_epoch(study.runs), layout_of(study.runs), 0, axis)
    assert sorted(int(tick.get_text()) for tick in axis.get_xticklabels()) == [5, 100]


def test_perfect_scaling_is_a_line_if_there_is_one(study, axis):
    found, layout = scaling.iterations_to_goal(study.runs), layout_of(study.runs)
    batch_size.iterations_to_goal(found, [scaling.perfect_scaling(study.runs)], "1.6", layout, 0, axis)
    assert [line.get_linestyle() for line in axis.lines] == [":"]
    other = Figure().subplots()
    none = pd.DataFrame({"batch_size": [], "iterations_to_goal": []})
    batch_size.iterations_to_goal(found, [none], "1.6", layout, 0, other)
    assert len(other.lines) == 0


def test_a_mark_shows_its_run_under_the_mouse(tmp_path):
    add_run(tmp_path, "a <b>", losses_reaching(3))
    study = finished(tmp_path)
    (figure,) = (each for each in pictures(study) if each.name == "examples")
    assert '<g class="mark" data-run="0"><title>a &lt;b&gt;: 180,000 digits</title>' in figure.svg


def test_the_costs_are_named_with_their_unit(study, axis):
    batch_size.cost_split(cost.costs(study.runs), axis)
    assert texts(axis) == ["12.5 \u00b5s an example", "417 \u00b5s an iteration", "measured"]


def test_every_configuration_is_a_step_line_in_the_color_of_its_batch_size(study, axis):
    shares = curves.reached_shares(study.runs)
    courses.fraction_reached([curves.ReachedShare("unfinished", [], []), *shares], layout_of(study.runs), 0, axis)
    assert [line.get_color() for line in axis.lines] == [SIZES[-1], SIZES[0]]


def test_a_class_that_is_never_predicted_has_a_frame(axis):
    predictions(pd.DataFrame([[5, 0, 7]], index=["a run"]), axis)
    assert texts(axis) == ["a run", "5", "0", "7"]
    assert [text.get_text() for text in axis.texts if text.get_bbox_patch()] == ["0"]


@pytest.fixture
def evaluated_study(tmp_path):
    for size in (20, 5):
        rows = [
            evaluation(0, size, train_loss=2.3, noise_scale=130.0),
            evaluation(300, size, train_loss=1.8, noise_scale=-4.0),
            evaluation(900, size, train_loss=1.5, noise_scale=900.0),
        ]
        add_run(tmp_path, f"{size}", losses_reaching(2), batch_size=size, evaluations=rows)
    return finished(tmp_path)


def test_the_noise_scale_stands_beside_the_loss_at_which_it_was_measured(evaluated_study, axis):
    found = evaluated.with_noise_scale(evaluated.courses(evaluated_study.evaluations))
    courses.noise_scale(found, "digits", layout_of(evaluated_study.runs), 0, axis)
    urls = [url for each in axis.collections if isinstance(each, PathCollection) for url in each.get_urls()]
    assert [url.rpartition(" ")[2] for url in urls] == ["2.3", "1.5", "2.3", "1.5"]


def test_the_loss_at_frozen_weights_is_drawn_with_its_threshold(evaluated_study, axis):
    found, layout = evaluated.courses(evaluated_study.evaluations), layout_of(evaluated_study.runs)
    courses.loss_against_examples(found, [1.6], "digits", layout, 0, axis)
    assert lines(axis)[0].get_segments()[0][:, 0].tolist() == [0, 6_000, 18_000]
    assert sorted(texts(axis)) == ["20", "5", "threshold 1.6"]


def test_an_interrupted_run_is_no_miss(tmp_path, axis):
    add_run(tmp_path, "a", losses_reaching(None))
    add_run(tmp_path, "b", losses_reaching(None), seed=1, status="interrupted")
    (marks,) = scaling.examples_to_goal(finished(tmp_path).runs)
    assert [value for value in marks.missed if value == value] == [600_000]
