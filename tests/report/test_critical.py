"""What the report shows of a critical batch size."""

import math
from dataclasses import replace

import pandas as pd
import pytest
from matplotlib.figure import Figure

from digits_sweep.errors import UnreadableRecord
from digits_sweep.report.analysis.curves import critical as statistics
from digits_sweep.report.analysis.study import load_study
from digits_sweep.report.figures import critical as figures
from digits_sweep.report.figures.svg import as_svg
from digits_sweep.report.page import page
from digits_sweep.results.critical import STEPS, STEPS_TYPES, TUNING, TUNING_TYPES, Answer, Check, write_answers
from tests.studies import add_run, evaluation, finished, losses_reaching

ANSWER = Answer(
    "train_error", 0.1, 17.0, 4080.0, 240.0, 204.0, 292.0, {"5": 230.0}, {"5": 0.1}, None, 119e-6, 8.4e-6, False, 58.0,
    0.24, 61.0, Check(50, 4e-3, 7, 98.0, 95.0, 90.0, 99.0),
)  # fmt: skip
UNKNOWN = Answer("train_error", 0.07, reason="2 batch sizes reached the goal, and a fit needs 4")
SIZES = (5, 20, 100, 1000)


@pytest.fixture
def folder(tmp_path):
    noisy = [evaluation(place, 20, noise_scale=10.0 * place) for place in (1, 10, 100)]
    add_run(tmp_path, "a", losses_reaching(1, 1), batch_size=20, evaluations=noisy)
    add_run(tmp_path, "b", losses_reaching(1, 1), batch_size=5)
    finished(tmp_path)
    rows = [
        ("train_error", threshold, size, 1e-3, 7, steps, 0.9 * steps, 1.1 * steps, steps)
        for threshold in (0.1, 0.07)
        for size, steps in zip(SIZES, (833, 221, math.inf if threshold == 0.07 else 58, 21), strict=True)
    ]
    pd.DataFrame(rows, columns=list(STEPS_TYPES)).to_csv(tmp_path / STEPS, index=False)
    tuning = [
        (size, lr, seed, "train_error", threshold, lr < 4e-3, 100 / lr if lr < 4e-3 else None, None)
        for threshold in (0.1, 0.07)
        for size in SIZES
        for lr in (1e-3, 2e-3, 4e-3)
        for seed in (0, 1, 2)
    ]
    pd.DataFrame(tuning, columns=list(TUNING_TYPES)).to_csv(tmp_path / TUNING, index=False)
    write_answers(tmp_path, [ANSWER, UNKNOWN])
    return tmp_path


@pytest.fixture
def axis():
    return Figure().subplots()


def test_the_page_answers_which_batch_size_pays(folder):
    text = page([load_study(folder)], folder)
    assert "<h1>Which batch size pays, and which is soonest?</h1>" in text
    assert "well below batch size 240 [204, 292]" in text
    assert "cannot be told (2 batch sizes reached the goal, and a fit needs 4)" in text
    assert "run at batch size 50, it takes 95 steps [90, 99] on 7 fresh seeds" in text
    names = "steps examples seconds rates response-0 response-1 noise".split()  # noqa: SIM905
    for name in names:
        assert f'<figure id="critical-{name}">' in text
    assert text.count('role="img" aria-label="') == len(names) + len(load_study(folder).runs)
    assert "train error &lt; 0.07, batch size 100" in text


def test_a_sweep_without_one_has_the_page_of_a_sweep(tmp_path):
    add_run(tmp_path, "a", losses_reaching(1, 1))
    study = finished(tmp_path)
    assert study.critical is None
    assert "How long is an epoch" in page([study], tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [(STEPS, "a,b\n1,2\n"), (STEPS, ",".join(STEPS_TYPES) + "\nx,0.1,-5,1,1,1,1,1,1\n"), (TUNING, "")],
)
def test_a_table_of_somebody_else_is_refused(folder, name, content):
    (folder / name).write_text(content)
    with pytest.raises(UnreadableRecord, match=name):
        load_study(folder)


def test_a_batch_size_that_missed_is_an_open_mark_above_the_others(folder, axis):
    figures.steps(load_study(folder).critical, axis)
    (opened,) = (line for line in axis.lines if line.get_markerfacecolor() == "none" and line.get_marker() == "s")
    assert list(opened.get_xdata()) == [100]
    assert opened.get_ydata()[0] > 833


def test_runs_that_missed_are_open_marks_in_the_response(folder, axis):
    found = load_study(folder).critical
    figures.response(found.tuning_of(ANSWER), [5, 20, 100, 1000], axis)
    opened = [line for line in axis.lines if line.get_markerfacecolor() == "none"]
    assert [list(line.get_xdata()) for line in opened] == [[4e-3] * 3] * len(SIZES)


def test_the_noise_scale_is_drawn_beside_the_critical_batch_size(folder, axis):
    study = load_study(folder)
    noise = statistics.noise_along_runs(study.evaluations, study.runs)
    figures.noise_scale(study.critical, noise, "digits", axis)
    assert [text.get_text() for text in axis.texts] == ["B_crit, train error < 0.1"]
    assert list(axis.lines[0].get_ydata()) == [10, 100, 1000]


def test_curves_follow_the_fit_and_the_costs(folder):
    fitted = statistics.fitted_steps(ANSWER, [5, 500])
    assert fitted.values[0] == pytest.approx(17 + 4080 / 5)
    assert statistics.times(fitted).values[0] == pytest.approx(17 * 5 + 4080)
    assert statistics.times(fitted, ANSWER).values[0] == pytest.approx((17 + 4080 / 5) * (119e-6 + 5 * 8.4e-6))
    assert statistics.times(fitted, UNKNOWN) is None
    assert statistics.fitted_steps(UNKNOWN, [5, 500]) is None


def test_the_rules_start_from_the_middle_batch_size(folder):
    rows = load_study(folder).critical.steps_to(ANSWER)
    sqrt, linear = statistics.rate_lines(rows)
    assert sqrt.values == pytest.approx([1e-3 * math.sqrt(size / 20) for size in SIZES])
    assert linear.values == pytest.approx([1e-3 * size / 20 for size in SIZES])


@pytest.mark.sampled(3)
@pytest.mark.parametrize("rows", [4, 0])
@pytest.mark.parametrize("draw", [figures.steps, figures.examples, figures.seconds, figures.rates])
def test_if_nothing_is_reached_a_figure_is_drawn_all_the_same(folder, draw, rows):
    found = load_study(folder).critical
    steps = found.steps.assign(median=math.inf, low=math.inf, high=math.inf, lr=pd.NA).astype(STEPS_TYPES)
    alone = replace(found, answers=[UNKNOWN], steps=steps.head(rows))
    as_svg("name", "text", [("", "", lambda axis: draw(alone, axis))])
