"""The tables of sweeps that repeat the lesson, compare scaling rules, or have classes that are never predicted."""

import pytest

from digits_sweep.report.analysis.sentences.lesson import how_often
from digits_sweep.report.analysis.statistics.at_equal_examples import at_equal_examples
from digits_sweep.report.analysis.statistics.matched import dead_digits, matched
from digits_sweep.report.figures.style import SERIES
from digits_sweep.report.figures.svg import figure_of
from digits_sweep.report.page import page
from digits_sweep.report.pictures.experiments import experiments as figures
from digits_sweep.report.tables.experiments import experiments
from tests.pages import Page
from tests.studies import add_run, evaluation, finished, losses_reaching


@pytest.fixture
def sweep(tmp_path):
    return tmp_path / "sweep"


def replicated(sweep):
    """Raw inputs: a digit dies in the first two of three seeds; unit inputs: in none, and the lesson's 7 comes once."""
    for seed in range(3):
        add_run(sweep, f"raw_{seed}", losses_reaching(None, 30), seed=seed, batch_size=100, scale="raw",
                classes_never_predicted=int(seed < 2))  # fmt: skip
        add_run(sweep, f"unit_{seed}", losses_reaching(7 if seed == 0 else 3, 30), seed=seed, batch_size=100,
                classes_never_predicted=0)  # fmt: skip
    return finished(sweep)


def test_a_row_of_the_lesson_is_counted_at_every_choice_that_it_does_not_state(sweep):
    raw, unit = how_often(replicated(sweep).runs)
    assert (raw.setting, raw.here) == ("scale raw", "not within 30 epochs in 3 of 3")
    assert (unit.setting, unit.here) == ("scale unit", "epoch 3 in 2 of 3 and epoch 7 in 1 of 3")
    assert (raw.as_stated.hits, unit.as_stated.hits) == (0, 1)
    assert (raw.dead.hits, raw.dead.runs) == (2, 3)
    assert unit.as_stated.low == pytest.approx(0.0084, abs=1e-4)


def test_a_sweep_of_one_choice_is_not_counted(sweep):
    add_run(sweep, "only", losses_reaching(3, 30), batch_size=100)
    assert how_often(finished(sweep).runs) == []


def test_runs_that_differ_in_one_factor_alone_are_pairs(sweep):
    study = replicated(sweep)
    (found,) = matched(study.runs, study.runs["never_predicted"].gt(0))
    assert (found.factor, found.first, found.second) == ("scale", "raw", "unit")
    assert (found.of_first.hits, found.of_second.hits, found.of_first.runs) == (2, 0, 3)
    assert (found.only_first, found.only_second, found.p_value) == (2, 0, 0.5)


def test_settings_that_change_together_are_one_factor(sweep):
    for seed in range(2):
        for model, head in (("mlp", "softmax"), ("mlp_logits", "logits")):
            add_run(sweep, f"{head}_{seed}", losses_reaching(3), seed=seed, model=model, head=head,
                    classes_never_predicted=int(head == "softmax"))  # fmt: skip
    (found,) = dead_digits(finished(sweep).runs)
    assert (found.factor, found.first, found.second, found.only_first) == ("model", "mlp", "mlp_logits", 2)


def with_rules(sweep):
    """The linear rule loses 0.1 to batch size 100 in both seeds, the fixed rate wins 0.02."""
    origin = {"scaling.reference_batch_size": 100, "scaling.reference_lr": 1e-4}
    for seed in range(2):
        for name, size, lr, loss in (("fixed", 100, 1e-4, 1.6), ("fixed", 5, 1e-4, 1.58), ("linear", 5, 5e-6, 1.7)):
            rows = [
                evaluation(0, size, train_loss=2.3),
                evaluation(180_000 // size, size, train_loss=loss + seed / 1000, test_error=loss - 1.46),
            ]
            add_run(sweep, f"{name}_{size}_{seed}", losses_reaching(3, 3), seed=seed, batch_size=size, lr=lr, rule=name,
                    config=origin, evaluations=rows)  # fmt: skip


def test_a_rule_is_compared_with_the_batch_size_that_it_starts_from_seed_by_seed(sweep):
    with_rules(sweep)
    reference, fixed, linear = at_equal_examples(finished(sweep))
    assert (reference.reference, fixed.rule, linear.rule) == (None, "fixed", "linear")
    assert fixed.reference == linear.reference == reference.configuration
    assert fixed.train_loss.above.median == pytest.approx(-0.02)
    assert (fixed.train_loss.larger, linear.train_loss.larger, linear.train_loss.pairs) == (0, 2, 2)
    assert linear.test_error.above.median == pytest.approx(0.1)


def test_runs_that_trained_on_other_numbers_of_examples_are_not_compared(sweep):
    with_rules(sweep)
    add_run(sweep, "shorter", losses_reaching(1, 1), batch_size=20,
            evaluations=[evaluation(3_000, 20)])  # fmt: skip
    assert at_equal_examples(finished(sweep)) == []


def test_evaluated_runs_without_a_rule_are_compared_with_nothing(sweep):
    for size in (100, 20):
        add_run(sweep, f"batch_size={size}", losses_reaching(1, 1), batch_size=size,
                evaluations=[evaluation(60_000 // size, size)])  # fmt: skip
    assert at_equal_examples(finished(sweep)) == []


def test_each_has_its_table(sweep):
    replicated(sweep)
    with_rules(sweep.parent / "rules")
    names = [each.name for folder in (sweep, sweep.parent / "rules") for each in experiments(finished(folder))]
    assert names == ["lesson-replicated", "never-predicted", "rules"]


def test_each_has_a_figure_whose_text_has_its_numbers(sweep):
    replicated(sweep)
    with_rules(sweep.parent / "rules")
    texts = {each.name: each.text for folder in (sweep, sweep.parent / "rules") for each in figures(finished(folder))}
    assert texts == {
        "lesson-replicated": "batch size 100: 1 of 6 as in the lesson.",
        "never-predicted": "scale raw: 67%; scale unit: 0%.",
        "rules": "fixed, from lr 1e-4: -0.0200; linear, from lr 1e-4: +0.1000.",
    }


def test_a_table_and_its_figure_can_be_linked_to_apart(sweep):
    found = [each.get("id") for each in Page(page([replicated(sweep)], sweep)).root.iter() if each.get("id")]
    assert {"table-lesson-replicated", "lesson-replicated", "table-never-predicted", "never-predicted"} <= set(found)
    assert len(found) == len(set(found))


def test_the_figure_of_first_epochs_has_a_bar_for_each_and_a_frame_around_the_lessons(sweep):
    (shown,) = (each for each in figures(replicated(sweep)) if each.name == "lesson-replicated")
    (axis,) = figure_of(shown.panels, shown.columns, shown.height).axes
    assert [text.get_text() for text in axis.texts] == ["2", "1", "3", "batch size 100"]
    *bars, frame = axis.patches
    assert [bar.get_x() + bar.get_width() / 2 for bar in bars] == pytest.approx([3, 7, 32.5])
    assert frame.get_x() < 7 < frame.get_x() + frame.get_width()
    assert axis.get_xticklabels()[-1].get_text() == "none"


def test_an_interval_that_is_clear_of_zero_has_another_color(sweep):
    with_rules(sweep)
    (shown,) = figures(finished(sweep))
    (axis,) = figure_of(shown.panels, shown.columns, shown.height).axes
    zero, *lines = axis.lines
    assert list(zero.get_xdata()) == [0, 0]
    assert {line.get_color() for line in lines} == {SERIES[1]}


def test_a_sweep_like_any_other_has_none(sweep):
    for size in (100, 20, 5):
        add_run(sweep, f"batch_size={size}", losses_reaching(3), batch_size=size)
    study = finished(sweep)
    assert [*experiments(study), *figures(study)] == []
