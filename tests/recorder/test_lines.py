"""A run from lines of JSON, as a shell script writes them."""

import json

import pytest

from digits_sweep.errors import CannotRecord
from digits_sweep.recorder.lines import record_lines
from digits_sweep.results.record import Status
from digits_sweep.results.run import read_run


@pytest.fixture
def head(tmp_path) -> dict:
    """The first line of a run in a sweep of its own; without `sweep` it is that of the sweep that started it."""
    folder = tmp_path / "outputs" / "sweeps" / "mine"
    return {"sweep": str(folder), "train_samples": 100, "batch_size": 50, "lr": 0.1, "loss_threshold": 0.5}


def run_of(tmp_path):
    (record,) = tmp_path.glob("outputs/sweeps/mine/*/record.json")
    return read_run(record.parent)


def record(*lines) -> None:
    record_lines([line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines])


def test_steps_evaluations_and_ends_of_epochs_are_recorded(tmp_path, head):
    epochs = [
        [
            {"loss": 1 / epoch},
            {"loss": 2 / epoch},
            {"epoch": epoch, "seconds": epoch},
            "\n",
            {"test_error": 0.5 / epoch},
        ]
        for epoch in (1, 2)
    ]
    record(head, {"test_error": 0.9}, *epochs[0], *epochs[1])
    run = run_of(tmp_path)
    assert run.record.status is Status.COMPLETED
    assert [(row.loss_mean, row.seconds, row.examples) for row in run.history] == [(1.5, 1.0, 100), (0.75, 2.0, 200)]
    assert [(row.iterations, row.test_error) for row in run.evaluations] == [(0, 0.9), (2, 0.5), (4, 0.25)]
    assert run.record.test_accuracy == 0.75


def test_without_seconds_they_are_measured(tmp_path, head):
    record(head, {"loss": 1}, {"loss": 1}, {"epoch": 1})
    assert run_of(tmp_path).history[0].seconds > 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("epoch 1 is done\n", "line 3 is no JSON .*: epoch 1 is done"),
        ("[1]\n", "line 3 is no JSON"),
        ({"epoch": 2}, "line 3: epoch 2 ends, must be 1"),
        ({"epoch": 1, "test_error": 0.5}, "line 3: .*unexpected keyword argument 'test_error'"),
        ({"test_error": 12.5}, "line 3: "),
    ],
)
def test_a_line_that_says_something_else_fails_the_run_with_its_number(tmp_path, head, line, message):
    with pytest.raises(CannotRecord, match=message):
        record(head, {"loss": 1}, line)
    assert run_of(tmp_path).record.status is Status.FAILED


def test_no_line_at_all_is_refused():
    with pytest.raises(CannotRecord, match="no line on standard input"):
        record()
