"""What the report shows of a critical batch size."""

import math
import re
from dataclasses import replace

import pandas as pd
import pytest

from digits_sweep.errors import UnreadableRecord
from digits_sweep.report.critical import branch_sentence, branches_of, headline
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
def figures(folder):
    """Every figure by its name."""
    study = load_study(folder)
    return {figure.name.removeprefix("critical-"): figure for figure in critical_figures(study, study.critical)}


@pytest.fixture
def tables(figures):
    return {name: figure.table for name, figure in figures.items()}


def of_kind(table: pd.DataFrame, kind: str) -> pd.DataFrame:
    return table[table["kind"] == kind]


def test_the_page_answers_which_batch_size_pays(folder):
    text = re.sub("</?span.*?>", "", page([load_study(folder)], folder))
    for part in (
        "<h1>Which batch size pays, and which is soonest?</h1>",
        "Use about 60 (31 to 110 cost at most 10 % more time here, for train error &lt; 0.1).",
        "the critical batch size is 240 [204, 292]; 80 [60, 110] costs 20 % more",
        "cannot be told (2 batch sizes reached the goal, and a fit needs 4)",
        "batch size 50, which is in no fit, takes 95 steps [90, 99]",
        *(f'<figure id="critical-{name}"' for name in ("steps", "examples", "seconds", "rates", "noise")),
        *(f'<figure id="critical-response-{number}"' for number in (0, 1)),
    ):
        assert part in text


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


def test_the_noise_scale_is_drawn_beside_the_critical_batch_size(figures):
    assert list(of_kind(figures["noise"].table, "seed")["noise_scale"]) == [10, 100, 1000]
    assert "train error < 0.1" in figures["noise"].svg().replace("&lt;", "<")


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


def test_a_smaller_last_batch_counts_as_what_it_is_and_a_study_from_before_it_is_shown_as_it_was(folder):
    table = pd.read_csv(folder / STEPS)
    table.assign(real_batch_size=table["batch_size"].replace(1000, 718.5)).to_csv(folder / STEPS, index=False)
    rows = critical_table(load_study(folder).critical).rows
    (last,) = (row for row in rows if row[1].value == 1000 and "0.1" in row[0].text)
    assert last[6].value == pytest.approx(21 * 718.5)
    table.drop(columns="real_batch_size").to_csv(folder / STEPS, index=False)
    steps = load_study(folder).critical.steps
    assert (steps["real_batch_size"] == steps["batch_size"]).all()


def test_both_critical_batch_sizes_and_what_the_fit_leaves_over_stand_in_the_tables(folder):
    study = load_study(folder).critical
    first, second = answer_table(study.answers).as_text()[1:]
    assert [cell.split()[0] for cell in first[1:]] == ["240", "80", "1.3", "58", "31", "61"]
    assert second[1:] == ["-"] * 6
    five = next(row for row in critical_table(study).rows if row[1].value == 5)
    assert five[4].value == pytest.approx(math.exp(0.1))


def branches_table(losses: dict[int, list[float]], tolerance: float = 0.05) -> pd.DataFrame:
    rows = [(size, seed, loss) for size, values in losses.items() for seed, loss in enumerate(values)]
    table = pd.DataFrame(rows, columns=["batch_size", "seed", "train_loss"])
    return table.assign(lr=1e-3, examples=20_000, tolerance=tolerance)


@pytest.mark.parametrize(
    ("losses", "limit", "sentence"),
    [
        (
            {5: [0.4, 0.5], 10: [0.4, 0.51], 20: [0.41, 0.52], 40: [0.5, 0.6], 80: [0.4, 0.5]}, 20,
            "up to batch size 20 what the loss exceeds its floor by after 20,000 more examples is at most 5 % above",
        ),
        # Each seed has an order of its own, and so a loss of its own, that both batch sizes share.
        ({5: [0.2, 0.8], 10: [0.204, 0.816]}, 10, "up to batch size 10, the largest that was tried, what the"),
        ({5: [0.4], 10: [0.4]}, 10, "up to batch size 10, the largest that was tried, what the"),
    ],
)  # fmt: skip
def test_the_limit_is_the_last_batch_size_before_the_loss_rises_beyond_the_tolerance(losses, limit, sentence):
    found = branches_of(branches_table(losses))
    assert (found.limit, found.ratios[0].median) == (limit, 1)
    assert sentence in branch_sentence(found)


def test_a_tolerance_is_a_share_of_what_the_loss_exceeds_its_floor_by():
    table = branches_table({5: [1.59], 10: [1.593], 20: [1.6]})
    assert (branches_of(table).limit, branches_of(table, floor=1.4612).limit) == (20, 10)
    assert branches_of(table.head(0)) is None
