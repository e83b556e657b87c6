"""The referee of cheap estimates: what each says where the truth is known, and how it is scored."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks.estimates import (
    Setting,
    always,
    branching,
    micro_batches,
    optimizer_noise,
    plain_noise,
    quick,
    run_average,
    square_root,
    susceptibility,
    two_sizes,
)
from benchmarks.estimators import HELD_OUT, SETTINGS, as_said, figure, quantile, rows_of, score, section, write_section
from digits_sweep.report.critical import Critical, branches_of
from digits_sweep.results.critical import (
    BRANCHES_COLUMNS,
    STEPS_COLUMNS,
    TUNING_COLUMNS,
    Answer,
    Law,
    study_table,
)
from digits_sweep.results.sweep import RecordedSweep, newest_sweep
from digits_sweep.search.settings import read_critical
from tests.commands import Program

TRUTH, SIZES = 200.0, (5, 20, 100, 300, 1000)
LAW = Law(20.0, TRUTH, 1.45)
ANSWER = Answer("train_error", 0.1, s_min=20.0, b_crit=TRUTH, exponent=1.45)


def study(**changes):
    """A study of a known law, whose best rate follows the square root."""
    rows = [
        {"batch_size": size, "lr": 1e-3 * math.sqrt(size / 100) * 2**exponent, "seed": seed, "target": "train_error",
         "threshold": 0.1, "reached": True, "iterations": LAW.steps(size) * 1.5 ** abs(exponent), "examples": None}
        for size in SIZES for exponent in (-1, 0, 1) for seed in (42, 43)
    ]  # fmt: skip
    steps = [
        {"target": "train_error", "threshold": 0.1, "batch_size": size, "lr": 1e-3, "seeds": 7,
         "median": LAW.steps(size), "low": 1.0, "high": 1e4, "tuned_median": 1.0, "real_batch_size": size}
        for size in SIZES
    ]  # fmt: skip
    return Critical([ANSWER], study_table(steps, STEPS_COLUMNS), study_table(rows, TUNING_COLUMNS), **changes)


def values(estimator, setting):
    return [each.value for each in estimator(setting)]


def test_whoever_always_says_the_same_pays_nothing():
    (said,) = always(Setting("a", study(), []))
    assert (said.value, said.examples) == (300, 0)


@pytest.mark.parametrize("estimator", [two_sizes, square_root])
def test_counted_steps_that_follow_the_law_give_its_critical_batch_size(estimator):
    said = list(estimator(Setting("a", study(), [])))
    assert [each.value for each in said] == pytest.approx([TRUTH, TRUTH], rel=0.02)
    assert all(each.examples > 0 for each in said)


def test_two_batch_sizes_with_the_same_steps_or_examples_are_a_failure():
    for iterations in (100.0, None):
        table = study().tuning.assign(reached=iterations is not None, iterations=iterations)
        assert all(map(math.isnan, values(two_sizes, Setting("a", replace(study(), tuning=table), []))))


def test_branches_say_up_to_where_the_loss_stays_unless_it_stays_to_the_end():
    rows = [
        {"batch_size": 5 * 2**power, "lr": 1e-3, "seed": 1, "examples": 1000,
         "train_loss": 1 + (power > 3), "tolerance": 0.05}
        for power in range(6)
    ]  # fmt: skip
    (said,) = branching(Setting("a", study(branches=branches_of(study_table(rows, BRANCHES_COLUMNS))), []))
    assert said.value == 40
    assert said.examples == pytest.approx(6 * 1000 + 5 * LAW.steps(5))
    stays = branches_of(study_table(rows[:4], BRANCHES_COLUMNS))
    assert math.isnan(*values(branching, Setting("a", study(branches=stays), [])))
    assert values(branching, Setting("a", study(), [])) == []


def test_a_quick_study_answers_the_goals_that_it_shares():
    answers = [replace(ANSWER, b_crit=150.0), replace(ANSWER, threshold=0.3, b_crit=1.0)]
    (said,) = quick(Setting("a", study(), [], answers, 5e5))
    assert (said.goal, said.value, said.examples) == (0, 150.0, 5e5)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs that measure the gradient's noise, at two batch sizes."""
    program = Program(tmp_path_factory.mktemp("runs"))
    finished = program(
        "-m", "data=mnist_sample", "data.batch_size=20,100", "model=mlp_logits", "model.hidden_size=16",
        "optimizer.lr=5e-3", "evaluation.per_doubling=4", "evaluation.train_samples=500", "evaluation.test_samples=50",
        "evaluation.noise_scale=true", "evaluation.on_balance=0.5", "trainer.num_epochs=2",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    return list(RecordedSweep(newest_sweep(program.outputs)).runs.values())


@pytest.mark.full
@pytest.mark.parametrize("estimator", [plain_noise, run_average, optimizer_noise, susceptibility, micro_batches])
def test_a_single_run_gives_an_estimate_at_its_goal_for_the_examples_up_to_there(estimator, runs):
    answer = replace(ANSWER, threshold=0.3)
    setting = Setting("a", replace(study(), answers=[answer]), runs)
    said = list(estimator(setting))
    assert len(said) == 2
    for each, run in zip(said, runs, strict=True):
        assert 1 < each.value < 1e5
        assert 0 < each.examples <= setting.reached(run, 0) * run.batch_size * 1.01
    never = Setting("a", replace(study(), answers=[replace(answer, threshold=1e-9)]), runs)
    assert list(estimator(never)) == []


def table_of(logs):
    names = [name for name in SETTINGS if name not in HELD_OUT][:2] + list(HELD_OUT[:2])
    rows = [
        {"estimator": "e", "setting": name, "goal": 0, "truth": 1.0, "value": 1.0, "log": log, "weight": 1.0,
         "examples": 100.0, "held_out": name in HELD_OUT}
        for name, log in zip(names, logs, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_constant_factor_is_forgiven_and_what_is_left_is_counted_on_other_settings():
    scored = score(table_of([math.log(3)] * 4))
    assert scored.factor == pytest.approx(1 / 3)
    assert scored.median == pytest.approx((1, 1, 1))
    assert scored.near == (1, 1, 1)
    worse = score(table_of([0, 0, math.log(2), math.log(4)]))
    assert worse.median[0] == pytest.approx(2)
    assert worse.most == pytest.approx((4, 2, 4))


def test_a_failure_is_infinitely_far_off_and_never_dropped():
    scored = score(table_of([0, 0, 0, math.inf]))
    assert scored.most[0] == math.inf
    assert scored.near[0] == 0.5
    (row,) = rows_of(table_of([0, 0, 0, math.inf]))
    assert row == ("e", "100", "1 of 4", "1", "1", "fails", "50 %")


def test_without_settings_of_both_kinds_nothing_is_calibrated():
    scored = score(table_of([0, math.log(3), 0, 0]).iloc[:2])
    assert math.isnan(scored.factor)
    assert scored.most == pytest.approx((3, 1, 3))


def test_estimates_of_one_goal_weigh_as_much_together_as_a_single_one():
    logs, weights = np.array([0.0, 0.0, 0.0, 5.0]), np.array([1 / 3, 1 / 3, 1 / 3, 1.0])
    assert quantile(logs, weights, 0.5) == 0.0
    assert quantile(logs, weights, 0.6) == 5.0


def test_the_figure_draws_a_mark_an_estimate_and_none_for_a_failure(tmp_path):
    drawn = figure(table_of([0, 0, 1, math.inf]))
    assert list(drawn.table["kind"]) == ["estimate"] * 3 + ["median"]
    assert drawn.svg().startswith("<svg")


def test_what_the_program_says_of_its_own_estimates_is_counted_without_a_factor():
    rows = {"estimator": "a quick study", "goal": 0, "weight": 1.0}
    logs = {"mnist, MLP 32, Adam": [0.0, 0.5], "mnist, MLP 32, SGD": [math.inf, -1.0]}
    table = pd.DataFrame([{**rows, "setting": name, "log": log} for name, some in logs.items() for log in some])
    assert as_said(table) == (
        "As they are said, without a factor, on all settings: a quick study (Adam, 2 goals): 50 % within 1.5 and 100 % "
        "within 2, 1.3 of the study's in the median; a quick study (SGD, 2 goals): 0 % within 1.5 and 0 % within 2, "
        "0.37 of the study's in the median."
    )


def test_the_table_is_put_between_the_marks_of_the_page_and_nothing_else_changes(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n\n<!-- estimators -->\nold\n<!-- end of estimators -->\n\nafter\n")
    setting = Setting(
        "mnist, linear, Adam", replace(study(), answers=[replace(ANSWER, b_crit_low=1.0, b_crit_high=9.0)]), []
    )
    write_section(page, section([setting], table_of([0, 0, 0, 0])))
    text = page.read_text()
    assert text.startswith(
        "before\n\n<!-- estimators -->\n\n    python -m benchmarks.estimators --settings 'mnist, linear, Adam'\n"
    )
    assert "mnist, linear, Adam: 200 [1, 9] at 10 %." in text
    assert "Nothing is calibrated" in text
    assert text.endswith("\n\n<!-- end of estimators -->\n\nafter\n")
    page.write_text("nothing")
    with pytest.raises(ValueError, match="has no"):
        write_section(page, "text")


@pytest.mark.full
def test_every_setting_is_a_study_that_can_be_planned_and_four_are_held_out():
    assert len(SETTINGS) >= 8
    assert set(HELD_OUT) < set(SETTINGS)
    assert len(SETTINGS) - len(HELD_OUT) == 6
    for overrides in SETTINGS.values():
        assert len(read_critical(list(overrides)).planned.runs) == 6
