"""The tables: what every one of them shows, and which settings have a column of their own."""

import pytest

from digits_sweep.report.analysis.statistics.replicates import replicates
from digits_sweep.report.tables.configurations import questions
from digits_sweep.report.tables.table_of_runs import as_markdown, short_table
from tests.studies import add_run, finished, losses_reaching


def short(sweep) -> list[dict[str, str]]:
    header, *rows = short_table(finished(sweep).runs)
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_a_run_is_a_row_that_answers_both_questions(tmp_path):
    add_run(tmp_path, "a", losses_reaching(3), 1.5, batch_size=100)
    assert short(tmp_path) == [
        {
            "batch size": "100",
            "lr": "1e-4",
            "weight decay": "5e-4",
            "s/epoch": "1.50",
            "first epoch < 1.6": "3",
            "digits to it": "180,000",
            "final loss": "1.5000",
            "test accuracy": "95.00%",
            "status": "completed",
        }
    ]


@pytest.mark.parametrize(
    ("columns", "title", "cell"),
    [
        ({"losses": losses_reaching(None)}, "first epoch < 1.6", "not reached in 10 epochs"),
        ({"losses": [1.9]}, "first epoch < 1.6", "not reached in 1 epoch"),
        ({"losses": [], "status": "failed"}, "first epoch < 1.6", "-"),
        ({"config": {"trainer.stop_at_threshold": True}}, "status", "completed: trainer.loss_threshold reached"),
        ({"status": "failed", "error": "Traceback\nOSError: full"}, "status", "failed: OSError: full"),
        ({"concurrent_runs": 2}, "s/epoch", "1.00 (2 at once)"),
    ],
)
def test_what_is_not_as_usual_is_said_in_the_cell(tmp_path, columns, title, cell):
    add_run(tmp_path, "a", **{"losses": losses_reaching(2), **columns})
    assert short(tmp_path)[0][title] == cell


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
    ],
)
def test_a_setting_that_differs_has_a_column(tmp_path, columns, title, cells):
    add_run(tmp_path, "a", losses_reaching(2))
    add_run(tmp_path, "b", losses_reaching(2), **columns)
    rows = short(tmp_path)
    assert [row[title] for row in rows] == cells
    assert list(rows[0])[8:] == [title, "status"]


def test_where_a_sweep_lies_has_no_column(tmp_path):
    for name in ("a", "b"):
        add_run(tmp_path, name, losses_reaching(2), config={"data.root": name})
    assert list(short(tmp_path)[0])[8:] == ["status"]


def test_the_two_questions_are_answered_beside_what_the_lesson_states(tmp_path):
    for seed, epoch in enumerate((2, 3, None)):
        add_run(tmp_path, f"20_{seed}", losses_reaching(epoch), 1.3, seed=seed)
        losses = losses_reaching(None)
        add_run(tmp_path, f"5_{seed}", losses, 3.8, batch_size=5, lr=1e-6, weight_decay=5e-6, seed=seed)
    study = finished(tmp_path)
    header, first, second = questions(study.runs, replicates(study.runs), study.goal).as_text()
    assert dict(zip(header, first, strict=True)) == {
        "configuration": "batch size 20 (lr 1e-4, weight decay 5e-4)",
        "digits to 1.6": "180,000 (120,000 to not reached)",
        "iterations": "9,000 (6,000 to not reached)",
        "seconds": "3.9 s (2.6 s to not reached)",
        "s/epoch": "1.3 (every run)",
        "lesson: s/epoch": "13 (10.0 times as long)",
        "first epoch < 1.6": "3 (2 to not reached)",
        "lesson: first epoch": "5",
        "reached": "2 of 3 (9% to 99%)",
        "final loss": "1.5000 (1.5000 to 1.7000)",
        "test accuracy": "95.00% (every run)",
    }
    assert second[5:9] == ["not reached (every run)", '"better"', "3.8 (every run)", "not stated"]


def test_what_the_lesson_states_is_left_out_if_another_network_is_trained(tmp_path):
    add_run(tmp_path, "a", losses_reaching(2), model="mlp_logits")
    study = finished(tmp_path)
    header = questions(study.runs, replicates(study.runs), study.goal).header
    assert not [title for title in header if title.startswith("lesson")]


def test_a_crossing_says_how_many_runs_have_a_class_that_they_never_predict(tmp_path):
    add_run(tmp_path, "a", losses_reaching(2))
    add_run(tmp_path, "b", losses_reaching(2), seed=1, classes_never_predicted=2)
    study = finished(tmp_path)
    header, row = questions(study.runs, replicates(study.runs), study.goal).as_text()
    assert row[header.index("reached")] == "2 of 2 (16% to 100%; 1 with a class never predicted)"


def test_figures_of_a_run_that_stopped_early_are_marked(tmp_path):
    add_run(tmp_path, "a", losses_reaching(2, 2), config={"trainer.stop_at_threshold": True})
    study = finished(tmp_path)
    header, row = questions(study.runs, replicates(study.runs), study.goal).as_text()
    assert row[header.index("final loss")] == "1.5000 (at the stop of 1 of 1)"


def test_markdown_is_aligned_and_escaped():
    assert as_markdown([["a", "b"], ["1|2", "3"]]) == "| a    | b |\n| ---- | - |\n| 1\\|2 | 3 |\n"
