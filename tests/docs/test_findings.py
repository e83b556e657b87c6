"""The analyses beside docs/findings.md: what they count in a recorded sweep, what they print and what they draw."""

import math
from dataclasses import replace
from importlib import import_module
from itertools import product

import pytest

from digits_sweep.report.vega import SERIES, colored
from digits_sweep.results.critical import STEPS, STEPS_COLUMNS, Answer, study_table, write_answers
from digits_sweep.results.files import as_csv, replace_file
from tests.documents import ROOT
from tests.studies import add_run, evaluation, finished, losses_reaching


@pytest.fixture(autouse=True)
def folder_of_the_scripts(monkeypatch):
    """`python docs/findings/rules.py` has its own folder on the path."""
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "findings"))


@pytest.fixture
def sweep(tmp_path):
    return tmp_path / "sweep"


def rows_and_below(text):
    """The cells of every row of a table in Markdown, and what stands below it."""
    table, _, below = text.partition("\n\n")
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines()[2:]], below.strip()


@pytest.fixture
def printed(sweep, capsys):
    """Finishes the sweep and runs a script; returns the rows that it prints, and what stands below them."""

    def of(script, svg=None):
        finished(sweep)
        import_module(script).main(sweep, svg)
        return rows_and_below(capsys.readouterr().out)

    return of


@pytest.fixture
def refused(sweep):
    """Finishes the sweep and runs a script that cannot use it; returns why."""

    def why(script):
        finished(sweep)
        with pytest.raises(SystemExit) as end:
            import_module(script).main(sweep, None)
        return str(end.value)

    return why


def repeated(sweep):
    """Raw inputs: a digit dies in the first two of three seeds; unit inputs: in none, and the lesson's 7 comes once."""
    for seed in range(3):
        add_run(sweep, f"raw_{seed}", losses_reaching(None, 30), seed=seed, batch_size=100, scale="raw",
                classes_never_predicted=int(seed < 2))  # fmt: skip
        add_run(sweep, f"unit_{seed}", losses_reaching(7 if seed == 0 else 3, 30), seed=seed, batch_size=100,
                classes_never_predicted=0)  # fmt: skip
    finished(sweep)


def test_a_row_of_the_lesson_is_counted_at_every_choice_that_it_does_not_state(sweep, printed):
    repeated(sweep)
    rows, _ = printed("lesson_repeated")
    assert rows == [
        ["100", "1e-4", "all", "none: 3, 3: 2, 7: 1", "1 of 6 (0 to 64 %)", "2 of 6 (4 to 78 %)"],
        ["100", "1e-4", "scale raw", "none: 3", "0 of 3 (0 to 71 %)", "2 of 3 (9 to 99 %)"],
        ["100", "1e-4", "scale unit", "3: 2, 7: 1", "1 of 3 (1 to 91 %)", "0 of 3 (0 to 71 %)"],
    ]


def test_of_one_choice_all_runs_are_counted(sweep, printed):
    add_run(sweep, "only", losses_reaching(3, 30), batch_size=100, classes_never_predicted=0)
    rows, below = printed("lesson_repeated")
    assert rows == [["100", "1e-4", "all", "3: 1", "0 of 1 (0 to 98 %)", "0 of 1 (0 to 98 %)"]]
    assert not below


def test_the_lower_rates_have_no_stated_epoch(sweep, printed):
    add_run(sweep, "lower", losses_reaching(None, 30), batch_size=5, lr=1e-6, weight_decay=5e-6)
    ((*_, as_stated, _),), _ = printed("lesson_repeated")
    assert as_stated == "not stated"


def test_a_seed_has_all_first_epochs_of_the_lesson_only_if_each_came_out_at_one_choice(sweep, printed):
    for seed, reached in enumerate([(7, 5, None), (7, 5, 2)]):
        for size, epoch in zip((100, 20, 5), reached, strict=True):
            add_run(sweep, f"{size}_{seed}", losses_reaching(epoch, 30), batch_size=size, seed=seed)
    _, below = printed("lesson_repeated")
    assert below == "All of the lesson's first epochs in one seed at one choice: 1 of 2 (1 to 99 %)."


@pytest.mark.parametrize("columns", [{"dataset": "mnist_sample"}, {"optimizer": "sgd"}, {"loss_threshold": 1.7}])
def test_runs_that_train_something_else_are_not_counted(sweep, columns, refused):
    add_run(sweep, "other", losses_reaching(3), batch_size=100, **columns)
    assert "no run here trains what the lesson trains" in refused("lesson_repeated")


def test_a_run_that_ended_before_it_could_tell_is_not_counted(sweep, printed):
    add_run(sweep, "short", losses_reaching(None, 29), batch_size=100, seed=0)
    add_run(sweep, "whole", losses_reaching(None, 30), batch_size=100, seed=1)
    add_run(sweep, "interrupted", losses_reaching(3, 3), batch_size=100, seed=2, status="interrupted")
    (row,), _ = printed("lesson_repeated")
    assert row[3] == "none: 1"


def test_the_figure_has_a_bar_for_each_first_epoch_and_a_frame_around_the_lessons(sweep, tmp_path, printed):
    repeated(sweep)
    script = import_module("lesson_repeated")
    rows = script.figure(script.lesson_runs(script.ended_runs(sweep))).rows()
    assert {row["epoch"]: row["runs"] for row in rows if row["kind"] == "bar"} == {"none": 3, "3": 2, "7": 1}
    assert [row["epoch"] for row in rows if row["kind"] == "frame"] == ["7"]
    printed("lesson_repeated", tmp_path / "figure.svg")
    assert "first epoch below the threshold" in (tmp_path / "figure.svg").read_text()


def test_runs_that_differ_in_one_setting_alone_are_pairs(sweep, printed):
    repeated(sweep)
    rows, below = printed("dead_digits")
    assert rows == [["scale", "raw", "unit", "2 of 3 (9 to 99 %)", "0 of 3 (0 to 71 %)", "2", "0", "0.5"]]
    assert below == "p: exact, with the seeds as clusters, adjusted by Holm for all 1 rows."


def test_runs_that_share_a_seed_are_one_piece_of_evidence(sweep, printed):
    for seed, size, scale in product(range(2), (100, 20, 5), ("raw", "unit")):
        add_run(sweep, f"{size}_{scale}_{seed}", losses_reaching(3), batch_size=size, scale=scale, seed=seed,
                classes_never_predicted=int(scale == "raw" and size != 100))  # fmt: skip
    rows, _ = printed("dead_digits")
    assert [[row[0], *row[5:]] for row in rows][-1] == ["scale", "4", "0", "1"]


def test_settings_that_change_together_are_one(sweep, printed):
    for seed in range(2):
        for head in ("softmax", "logits"):
            add_run(sweep, f"{head}_{seed}", losses_reaching(3), seed=seed, head=head,
                    classes_never_predicted=int(head == "softmax"))  # fmt: skip
    (row,), _ = printed("dead_digits")
    assert row[:3] == ["model", "mlp", "mlp_logits"]


def test_runs_that_differ_in_two_settings_are_no_pair(sweep, refused):
    for seed, (size, scale) in enumerate([(100, "raw"), (20, "raw"), (100, "unit")]):
        add_run(sweep, f"{size}_{scale}", losses_reaching(3), batch_size=size, scale=scale, seed=min(seed, 1),
                classes_never_predicted=seed % 2)  # fmt: skip
    assert "no two runs here differ in one setting alone" in refused("dead_digits")


def test_the_figure_has_the_share_of_every_value(sweep, tmp_path, printed):
    repeated(sweep)
    script = import_module("dead_digits")
    raw, unit = script.figure(script.dead_digits(script.ended_runs(sweep))).rows()
    assert (raw["value"], unit["value"]) == (pytest.approx(2 / 3, abs=1e-5), 0)
    printed("dead_digits", tmp_path / "figure.svg")
    svg = (tmp_path / "figure.svg").read_text()
    assert "scale raw" in svg
    assert "scale unit" in svg


@pytest.fixture
def with_rules(sweep):
    """The linear rule loses 0.1 to batch size 100 in both seeds, the fixed rate wins 0.02."""
    origin = {"scaling.reference_batch_size": 100, "scaling.reference_lr": 1e-4}
    for seed in range(2):
        for name, size, lr, loss in (("fixed", 100, 1e-4, 1.6), ("fixed", 5, 1e-4, 1.58), ("linear", 5, 5e-6, 1.7)):
            add_evaluated(sweep, f"{name}_{size}_{seed}", size, loss + seed / 1000, seed=seed, lr=lr, rule=name,
                          config=origin)  # fmt: skip
    finished(sweep)
    return sweep


def add_evaluated(sweep, name, size, loss, **columns):
    rows = [
        evaluation(0, size, train_loss=2.3),
        evaluation(180_000 // size, size, train_loss=loss, test_error=loss - 1.46),
    ]
    add_run(sweep, name, losses_reaching(3, 3), batch_size=size, evaluations=rows, **columns)


def test_a_rule_is_compared_with_the_batch_size_that_it_starts_from_seed_by_seed(with_rules, printed):
    rows, below = printed("rules")
    assert [[*row[:4], row[6]] for row in rows] == [
        ["fixed", "1e-4", "100", "1e-4", "-"],
        ["fixed", "1e-4", "5", "1e-4", "-0.0200 [-0.0200, -0.0200], above in 0 of 2"],
        ["linear", "1e-4", "5", "5e-6", "+0.1000 [+0.1000, +0.1000], above in 2 of 2"],
    ]
    assert rows[2][8].startswith("+10.00 % ")
    assert below == "After 180,000 examples, at frozen weights; medians over the seeds."


def test_rates_that_were_tuned_on_other_seeds_are_compared_with_one_another(with_rules, printed):
    for size, lr, seed, loss in ((100, 3e-3, 0, 1.51), (5, 3e-4, 0, 1.50), (100, 3e-3, 7, 1.0), (5, 1e-2, 7, 2.0)):
        add_evaluated(with_rules, f"tuned_{size}_{seed}", size, loss, lr=lr, seed=seed)
    rows, _ = printed("rules")
    above = {(row[2], row[3]): row[6].partition(" ")[0] for row in rows if row[0] == "-"}
    assert above == {("100", "3e-3"): "-", ("5", "3e-4"): "-0.0100", ("5", "1e-2"): "-"}


def test_runs_that_trained_on_other_numbers_of_examples_are_not_compared(with_rules, refused):
    add_run(with_rules, "shorter", losses_reaching(1, 1), batch_size=20, evaluations=[evaluation(3_000, 20)])
    assert "different numbers of examples" in refused("rules")


def test_runs_without_an_evaluation_are_not_compared(sweep, refused):
    add_run(sweep, "plain", losses_reaching(1, 1))
    assert "plain was not evaluated; run experiment=rules" in refused("rules")


def test_evaluated_runs_without_a_rule_are_compared_with_nothing(sweep, refused):
    for size in (100, 20):
        add_run(sweep, f"batch_size={size}", losses_reaching(1, 1), batch_size=size,
                evaluations=[evaluation(60_000 // size, size)])  # fmt: skip
    assert "no rule here has runs at the batch size and the rate that it starts" in refused("rules")


def test_an_interval_that_is_clear_of_zero_has_another_color(with_rules, tmp_path, printed):
    printed("rules", tmp_path / "figure.svg")
    svg = (tmp_path / "figure.svg").read_text()
    assert "fixed, from lr 1e-4" in svg
    assert "linear, from lr 1e-4" in svg
    assert colored(SERIES[1]) in svg
    assert colored(SERIES[0]) not in svg


COSTS = {"seconds_per_iteration": 1e-3, "seconds_per_example": 1e-5}
# Twice the batch needs half the steps to the first goal, and no fewer from there to the second.
TO_BOTH = Answer("train_error", 0.2, s_min=1e-6, b_crit=1e10, e_min=1e4, exponent=1.0, **COSTS)
LAST = Answer("train_error", 0.1, s_min=100.0, b_crit=100.0, e_min=1e4, exponent=1.0, **COSTS)


def growing(sweep, study):
    """Four seeds at batch size 100 and 200, and with 200 from 10,000 on; one that grows misses the goal."""
    study.mkdir()
    write_answers(study, [LAST, TO_BOTH])
    for seed, (batch, size, iterations, examples) in product(
        range(4), [(None, 100, 200, 20_000), (None, 200, 150, 30_000), ("{0:100,10000:200}", 100, 160, 26_000)]
    ):
        steps = iterations + seed
        reached = 0.05 if (seed, batch) != (3, "{0:100,10000:200}") else 0.15
        rows = [
            evaluation(0, size, train_error=0.9),
            replace(evaluation(steps, size, train_error=reached), examples=examples + size * seed),
        ]
        goal = {"evaluation.targets.train_error": [0.1]}
        add_run(sweep, f"{size}_{seed}_{batch is None}", losses_reaching(3), batch_size=size, seed=seed,
                evaluations=rows, batch_schedule=batch, config=goal)  # fmt: skip
    finished(sweep)


def test_a_growing_batch_is_compared_with_the_best_fixed_one_seed_by_seed_and_with_what_was_foretold(
    sweep, tmp_path, capsys
):
    growing(sweep, tmp_path / "study")
    import_module("growing_batch").main(tmp_path / "study", [sweep])
    rows, below = rows_and_below(capsys.readouterr().out)
    assert [row[0] for row in rows] == ["100", "200", "100, 200 from 10,000"]
    assert below.startswith(
        "To train error < 0.1, at 1000 us an iteration and 10 us an example; saved: of batch size 100"
    )
    assert [row[6:] for row in rows] == [
        ["-", "-", "-"],
        ["25 % [25 %, 25 %]", "-13 % [-13 %, -12 %]", "25 %, -12 %"],
        # One of its seeds misses the goal.
        ["20 % [missed, 20 %]", "-5 % [missed, -5 %]", "0 %, -25 %"],
    ]


def test_the_steps_of_a_growing_batch_follow_from_the_laws_between_goals():
    foretold = import_module("growing_batch").foretold
    laws = [TO_BOTH.law, LAST.law]
    assert foretold(((0, 100),), laws) == pytest.approx((200, 20_000), rel=1e-3)
    assert foretold(((0, 200),), laws) == pytest.approx((150, 30_000), rel=1e-3)
    # To the first goal 100 steps of 100, from there to the second 100 steps of any size.
    assert foretold(((0, 100), (10_000, 200)), laws) == pytest.approx((200, 30_000), rel=1e-2)
    # A border in the middle of the second part: half of its 100 steps at each size.
    assert foretold(((0, 100), (15_000, 300)), laws) == pytest.approx((200, 30_000), rel=1e-2)


@pytest.mark.parametrize("script", ["lesson_repeated", "dead_digits", "rules"])
def test_a_folder_that_is_no_sweep_is_refused(script, tmp_path):
    with pytest.raises(SystemExit, match="not a sweep"):
        import_module(script).main(tmp_path, None)


def test_two_studies_are_compared_by_what_they_state(tmp_path, capsys):
    for name, size, fresh in (("first", 300.0, 110.0), ("second", 200.0, 100.0)):
        (tmp_path / name).mkdir()
        known = {"b_crit": size, "b_crit_low": 0.8 * size, "b_crit_high": 1.25 * size}
        write_answers(tmp_path / name, [Answer("train_error", 0.1, **known), Answer("train_error", 0.05)])
        rows = [
            {"target": "train_error", "threshold": 0.1, "batch_size": batch_size, "lr": 1e-3, "seeds": 3}
            | {"median": steps, "low": steps, "high": steps, "tuned_median": tuned, "real_batch_size": batch_size}
            for batch_size, steps, tuned in ((5, fresh, 100.0), (20, 100.0, 100.0), (100, math.inf, math.inf))
        ]
        replace_file(tmp_path / name / STEPS, as_csv(study_table(rows, STEPS_COLUMNS)))
    import_module("studies").main(tmp_path / "first", tmp_path / "second")
    said = capsys.readouterr().out
    assert "| train error < 0.1 | 300 [240, 375] | 200 [160, 250] | 1.50 | 2.5 | 0.01 |" in said
    assert "both: a tuned minimum is optimistic by +2.4 % (standard error 2.4 %, 4 of them)" in said
