"""What the report shows of a critical batch size."""

import math
import re
from dataclasses import replace

import pandas as pd
import pytest

from digits_sweep.errors import UnreadableRecord
from digits_sweep.report.critical import headline
from digits_sweep.report.critical_figures import critical_figures
from digits_sweep.report.page import page
from digits_sweep.report.study import load_study
from digits_sweep.report.tables import answer_table, critical_table
from digits_sweep.results.critical import (
    ANSWERS,
    BRANCHES,
    STEPS,
    STEPS_COLUMNS,
    TUNING,
    TUNING_COLUMNS,
    Answer,
    Check,
    Factor,
    study_table,
    write_answers,
)
from tests.studies import add_run, evaluation, finished, losses_reaching

ANSWER = Answer(
    "train_error", 0.1, 17.0, 4080.0, 240.0, 204.0, 292.0, {"5": 230.0}, {"5": 0.1}, None, 119e-6, 8.4e-6, False, 58.0,
    0.24, 61.0, Check(50, 4e-3, 7, 98.0, 95.0, 90.0, 99.0, {"20": 221.0}), 1.3, 1.1, 1.9, 0.001, 80.0, 60.0, 110.0,
    45.0, 75.0, 31.0, 110.0, 1, 30.0, 120.0,
)  # fmt: skip
UNKNOWN = Answer("train_error", 0.07, reason="2 batch sizes reached the goal, and a fit needs 4")
HEADER = ",".join(STEPS_COLUMNS) + "\n"
SIZES = (5, 20, 100, 1000)


@pytest.fixture
def folder(tmp_path):
    noisy = [evaluation(iterations, 20, noise_scale=10.0 * iterations) for iterations in (1, 10, 100)]
    add_run(tmp_path, "a", losses_reaching(1, 1), batch_size=20, evaluations=noisy)
    add_run(tmp_path, "b", losses_reaching(1, 1), batch_size=5)
    finished(tmp_path)
    rows = [
        ("train_error", threshold, size, 1e-3, 7, steps, 0.9 * steps, 1.1 * steps, steps, size)
        for threshold in (0.1, 0.07)
        for size, steps in zip(SIZES, (833, 221, math.inf if threshold == 0.07 else 58, 21), strict=True)
    ]
    pd.DataFrame(rows, columns=list(STEPS_COLUMNS)).to_csv(tmp_path / STEPS, index=False)
    tuning = [
        (size, lr, seed, "train_error", threshold, lr < 4e-3, 100 / lr if lr < 4e-3 else None, None)
        for threshold in (0.1, 0.07)
        for size in SIZES
        for lr in (1e-3, 2e-3, 4e-3)
        for seed in (0, 1, 2)
    ]
    pd.DataFrame(tuning, columns=list(TUNING_COLUMNS)).to_csv(tmp_path / TUNING, index=False)
    write_answers(tmp_path, [ANSWER, UNKNOWN])
    return tmp_path


@pytest.fixture
def tables(folder):
    """The table of every figure by its name."""
    study = load_study(folder)
    return {figure.name.removeprefix("critical-"): figure.table for figure in critical_figures(study, study.critical)}


def of_kind(table: pd.DataFrame, kind: str) -> pd.DataFrame:
    return table[table["kind"] == kind]


def test_the_page_answers_which_batch_size_pays(folder):
    text = page([load_study(folder)], folder)
    assert "<h1>Which batch size pays, and which is soonest?</h1>" in text
    headline = "Use about 60 (31 to 110 cost at most 10 % more time here, for train error &lt; 0.1)."
    assert headline in re.sub("</?span.*?>", "", text)
    assert "the critical batch size is 240 [204, 292]; 80 [60, 110] costs 20 % more" in re.sub("</?span.*?>", "", text)
    assert "cannot be told (2 batch sizes reached the goal, and a fit needs 4)" in text
    assert "batch size 50, which is in no fit, takes 95 steps [90, 99]" in text
    for name in ("steps", "examples", "seconds", "rates", "response-0", "response-1", "noise"):
        assert f'<figure id="critical-{name}"' in text


def test_a_quick_answer_is_said_with_its_factor_and_never_with_an_interval(folder):
    none = dict.fromkeys(
        f"{name}_{end}" for name in ("b_crit", "b_20", "exponent", "soonest") for end in ("low", "high")
    )
    quick = replace(ANSWER, factor=Factor(1.5, 22, 26), p_value=None, check=None, **none)
    write_answers(folder, [quick, UNKNOWN])
    study = load_study(folder)
    assert headline(study.critical.answers).endswith("up to about 240 (give or take a factor of 1.5).")
    text = page([study], folder)
    assert "In 22 of 26 comparisons it was within a factor of 1.5 of the full study" in text
    assert "One seed has no interval" in text
    assert "95 %" not in text
    steps = next(each for each in critical_figures(study, study.critical) if each.name == "critical-steps")
    (mark,) = of_kind(steps.table, "b_crit").to_dict("records")
    assert (mark["low"], mark["high"]) == (160, 360)
    assert "with a factor of 1.5 to each side" in steps.caption


def test_a_sweep_without_one_has_the_page_of_a_sweep(tmp_path):
    add_run(tmp_path, "a", losses_reaching(1, 1))
    study = finished(tmp_path)
    assert study.critical is None
    assert "How long is an epoch" in page([study], tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (STEPS, "a,b\n1,2\n"),
        (STEPS, HEADER),
        (STEPS, f"{HEADER}train_error,0.1,-5,1,1,1,1,1,1,1\n"),
        (STEPS, f"{HEADER}train_error,0.1,5,nan,1,1,1,1,1,1\n"),
        (STEPS, f"{HEADER}x,0.1,5,1,1,1,1,1,1,1\n"),
        (STEPS, f"{HEADER}train_error,0.5,5,1,1,1,1,1,1,1\n"),
        (TUNING, ""),
        (BRANCHES, "batch_size,lr,seed,examples,train_loss,tolerance\n5,1,0,1,1,-inf\n"),
        (ANSWERS, "[]"),
        (ANSWERS, '[{"target": "train_error", "threshold": 0}]'),
        (ANSWERS, '[{"target": "=1+1", "threshold": 0.1}]'),
    ],
)
def test_a_file_of_somebody_else_is_refused_in_one_line(folder, name, content):
    (folder / name).write_text(content)
    with pytest.raises(UnreadableRecord, match=name) as refused:
        load_study(folder)
    assert "\n" not in str(refused.value)


def test_what_missed_is_an_open_mark_above_the_others(tables):
    missed = tables["steps"][tables["steps"]["missed"].fillna(False).astype(bool)]
    assert list(missed["place"]) == [100]
    assert missed["value"].iloc[0] > 833
    runs = of_kind(tables["response-0"], "run")
    assert set(runs.loc[runs["missed"], "lr"]) == {4e-3}
    assert runs.loc[runs["missed"], "steps"].min() > runs.loc[~runs["missed"], "steps"].max()


def test_the_noise_scale_is_drawn_beside_the_critical_batch_size(folder, tables):
    assert list(of_kind(tables["noise"], "seed")["noise_scale"]) == [10, 100, 1000]
    study = load_study(folder)
    (figure,) = (each for each in critical_figures(study, study.critical) if each.name == "critical-noise")
    assert "train error < 0.1" in figure.svg().replace("&lt;", "<")


def test_curves_follow_the_fit_and_the_costs(tables):
    first = {name: of_kind(tables[name], "fit")["value"].iloc[0] for name in ("steps", "examples", "seconds")}
    steps = (17**1.3 + (4080 / 5) ** 1.3) ** (1 / 1.3)
    assert first["steps"] == pytest.approx(steps)
    assert first["examples"] == pytest.approx(5 * steps)
    assert first["seconds"] == pytest.approx(steps * (119e-6 + 5 * 8.4e-6))
    assert set(of_kind(tables["steps"], "fit")["goal"]) == {"train error < 0.1"}
    assert of_kind(tables["seconds"], "check")["place"].tolist() == [50]


def test_the_rules_start_from_the_middle_batch_size(tables):
    rates = tables["rates"][tables["rates"]["goal"] == "train error < 0.1"]
    ends = (SIZES[0], SIZES[-1])
    assert of_kind(rates, "root")["lr"].tolist() == pytest.approx([1e-3 * math.sqrt(size / 20) for size in ends])
    assert of_kind(rates, "linear")["lr"].tolist() == pytest.approx([1e-3 * size / 20 for size in ends])


@pytest.mark.parametrize("rows", [4, 0])
def test_if_nothing_is_reached_every_figure_is_drawn_all_the_same(folder, rows):
    study = load_study(folder)
    steps = study.critical.steps.assign(median=math.inf, low=math.inf, high=math.inf, lr=pd.NA)
    steps = study_table(steps.head(rows).to_dict("records"), STEPS_COLUMNS)
    alone = replace(study.critical, answers=[UNKNOWN], steps=steps)
    assert all(figure.svg().startswith("<svg") for figure in critical_figures(study, alone))


def test_a_study_from_before_real_batch_sizes_is_shown_as_it_was(folder):
    table = pd.read_csv(folder / STEPS)
    table.drop(columns="real_batch_size").to_csv(folder / STEPS, index=False)
    steps = load_study(folder).critical.steps
    assert (steps["real_batch_size"] == steps["batch_size"]).all()


def test_a_smaller_last_batch_counts_as_what_it_is(folder):
    table = pd.read_csv(folder / STEPS)
    table.assign(real_batch_size=table["batch_size"].replace(1000, 718.5)).to_csv(folder / STEPS, index=False)
    study = load_study(folder)
    (last,) = (row for row in critical_table(study.critical).rows if row[1].value == 1000 and "0.1" in row[0].text)
    assert last[6].value == pytest.approx(21 * 718.5)


def test_both_critical_batch_sizes_and_what_the_fit_leaves_over_stand_in_the_tables(folder):
    study = load_study(folder).critical
    first, second = answer_table(study.answers).as_text()[1:]
    assert [cell.split()[0] for cell in first[1:]] == ["240", "80", "1.3", "58", "31", "61"]
    assert second[1:] == ["-"] * 6
    five = next(row for row in critical_table(study).rows if row[1].value == 5)
    assert five[4].value == pytest.approx(math.exp(0.1))
