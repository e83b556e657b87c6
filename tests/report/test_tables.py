"""The tables on the page: what every one of them shows, and which settings have a column of their own."""

import math

import pytest

from digits_sweep.report.tables import as_markdown, configuration_table, run_table, runs_for_terminal
from tests.many import sweep_of
from tests.studies import evaluation


def rows_of(table) -> list[dict[str, str]]:
    header, *rows = table.as_text()
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_a_run_is_a_row_that_answers_both_questions(recorded):
    assert rows_of(run_table(recorded({"reached": 3, "seconds": 1.5, "batch_size": 100}).runs)) == [
        {
            "run": "a",
            "batch size": "100",
            "lr": "1e-4",
            "weight decay": "5e-4",
            "s/epoch": "1.50",
            "first epoch < 1.6": "3",
            "digits to it": "180,000",
            "final loss": "1.5000",
            "test accuracy": "95.00 %",
            "status": "completed",
        }
    ]


@pytest.mark.parametrize(
    ("columns", "title", "cell"),
    [
        ({"reached": None}, "first epoch < 1.6", "not reached in 10 epochs"),
        ({"losses": [1.9]}, "first epoch < 1.6", "not reached in 1 epoch"),
        ({"losses": [], "status": "failed"}, "first epoch < 1.6", "-"),
        ({"config": {"trainer.stop_at_threshold": True}}, "status", "completed: trainer.loss_threshold reached"),
        ({"status": "failed", "error": "Traceback\nOSError: full"}, "status", "failed: OSError: full"),
        ({"concurrent_runs": 2}, "s/epoch", "1.00 (2 at once)"),
        ({"seconds": 0.00412}, "s/epoch", "0.0041"),
    ],
)
def test_what_is_not_as_usual_is_said_in_the_cell(recorded, columns, title, cell):
    assert rows_of(run_table(recorded(columns).runs))[0][title] == cell


@pytest.mark.parametrize(
    ("columns", "title", "cells"),
    [
        ({"seed": 1}, "seed", ["0", "1"]),
        ({"config": {"scaling.rule": "sqrt"}}, "rule", ["-", "sqrt"]),
        ({"engine": "eager"}, "engine", ["closed_form", "eager"]),
        ({"num_threads": 2}, "num threads", ["1", "2"]),
        ({"config": {"data.scale": "raw"}}, "scale", ["unit", "raw"]),
        ({"config": {"optimizer.eps": 1e-6}}, "eps", ["1e-8", "1e-6"]),
        ({"config": {"model.arguments.sizes": [64, 32]}}, "sizes", ["not set", "[64, 32]"]),
        # Where a sweep lies is no setting.
        ({"config": {"data.root": "elsewhere"}}, "status", ["completed", "completed"]),
    ],
)
def test_a_setting_that_differs_has_a_column(recorded, columns, title, cells):
    rows = rows_of(run_table(recorded({}, columns).runs))
    assert [row[title] for row in rows] == cells
    assert list(rows[0])[9:] == list(dict.fromkeys([title, "status"]))


def test_a_configuration_is_a_row_with_what_it_differs_in_and_the_medians_of_its_seeds(recorded):
    runs = [{"reached": epoch, "seconds": 1.3, "seed": seed} for seed, epoch in enumerate((2, 3, None))]
    small = {"reached": None, "seconds": 3.8, "batch_size": 5, "lr": 1e-6, "weight_decay": 5e-6}
    table = configuration_table(recorded(*runs, *({**small, "seed": seed} for seed in range(3))))
    first, second = rows_of(table)
    assert first == {
        "batch size": "20",
        "lr": "1e-4",
        "weight decay": "5e-4",
        "digits to 1.6": "180,000 (120,000 to not reached)",
        "iterations": "9,000 (6,000 to not reached)",
        "seconds": "3.9 s (2.6 s to not reached)",
        "reached": "2 of 3 (9 % to 99 %)",
        "first epoch < 1.6": "3 (2 to not reached)",
        "s/epoch": "1.30 (every run)",
        "final loss": "1.5000 (1.5000 to 1.7000)",
        "test accuracy": "95.00 % (every run)",
    }
    assert (second["lr"], second["first epoch < 1.6"]) == ("1e-6", "not reached (every run)")
    # For a program: what is neither missing nor infinite.
    cells = dict(zip(table.names, table.rows[0], strict=True))
    examples = cells["examples_to_goal"]
    assert (examples.value, examples.low, examples.high) == (180_000, 120_000, None)
    assert (cells["batch_size"].value, cells["test_accuracy"].value) == (20, 0.95)
    assert {"examples_to_goal", "seconds_per_epoch"} <= table.ranges
    assert "batch_size" not in table.ranges


@pytest.mark.parametrize(
    ("columns", "title", "cell"),
    [
        ({"classes_never_predicted": 2}, "reached", "2 of 2 (16 % to 100 %; 2 with a class never predicted)"),
        ({"config": {"trainer.stop_at_threshold": True}}, "final loss", "1.5000 (every run; at the stop of 2 of 2)"),
    ],
)
def test_what_limits_a_figure_stands_beside_it(recorded, columns, title, cell):
    table = configuration_table(recorded(*({**columns, "seed": seed} for seed in range(2))))
    assert rows_of(table)[0][title] == cell


def test_every_target_has_a_column(recorded):
    rows = [evaluation(0, 20, train_loss=2.3, test_error=0.9), evaluation(900, 20, train_loss=1.5, test_error=0.1)]
    config = {"evaluation.targets.train_loss": [1.6], "evaluation.targets.test_error": [0.2, 0.05]}
    (row,) = rows_of(configuration_table(recorded({"evaluations": rows, "config": config})))
    titles = ("digits to a test error of 0.2", "digits to 1.6", "digits to a test error of 0.05")
    assert [row[title] for title in titles] == ["12,300", "15,300", "not reached"]


def test_of_many_configurations_and_if_none_arrived_the_best_comes_first(recorded, tmp_path):
    table = configuration_table(sweep_of(tmp_path / "many", 24))
    seconds = [row[table.names.index("seconds_to_goal")].value for row in table.rows]
    assert seconds == sorted(seconds)
    none = recorded(*({"batch_size": size, "losses": [loss]} for size, loss in ((100, 1.9), (20, 1.7), (5, 1.8))))
    assert [row["batch size"] for row in rows_of(configuration_table(none))] == ["20", "5", "100"]


def test_a_run_without_a_threshold_did_not_miss_it(recorded):
    runs = recorded({"reached": None}).runs
    assert "first_epoch_below_threshold" in run_table(runs).names
    without = runs.assign(loss_threshold=math.nan)
    assert "first_epoch_below_threshold" not in run_table(without).names
    assert not runs_for_terminal(without).notes


def test_markdown_is_aligned_and_escaped():
    assert as_markdown([["a", "b"], ["1|2", "3"]]) == "| a    | b |\n| ---- | - |\n| 1\\|2 | 3 |\n"
