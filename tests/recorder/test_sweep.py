"""A recorder in a program that a sweep has started: the sweep says what the run is, and where it ends."""

import math
from dataclasses import asdict

import pytest

from digits_sweep import Recorder
from digits_sweep.config.own_command import RUN
from digits_sweep.config.plan import plan
from digits_sweep.errors import CannotRecord
from digits_sweep.results.record import Record, Status, write_record
from digits_sweep.results.run import read_run

TYPED = ("command=a", "data.batch_size=30", "optimizer.lr=0.5", "seed=3", "model.arguments.width=8")


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Start a run of 100 examples an epoch, 4 iterations, as a sweep with more `overrides` does."""

    def start(*overrides: str):
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        config = asdict(plan([*TYPED, *overrides]).runs[0].config)
        write_record(folder, Record(2, folder="run", config=config))
        monkeypatch.setenv(RUN, str(folder))
        return folder

    return start


def train(recorder: Recorder, epochs: int, loss: float = 1.0, error: float = 0.5) -> None:
    """Train without ever asking whether the run has ended, as a program of somebody's does."""
    with recorder:
        for epoch in range(epochs):
            with recorder.epoch():
                for _ in range(4):
                    recorder.step(loss / (epoch + 1))
            recorder.evaluated(test_error=error / (epoch + 1))


def test_it_takes_what_the_sweep_knows_and_adds_what_the_sweep_does_not(started):
    folder = started()
    recorder = Recorder(train_samples=100, dataset="mine", parameters=7)
    assert (recorder.batch_size, recorder.lr, recorder.seed) == (30, 0.5, 3)
    train(recorder, epochs=2)
    run = read_run(folder)
    assert (run.record.status, run.record.number, run.epochs, run.record.ended) == (Status.COMPLETED, 2, 2, None)
    assert (run.record.dataset, run.record.parameters, run.record.train_samples) == ("mine", 7, 100)
    assert run.row["lr"] == 0.5
    assert not run.misfits


@pytest.mark.parametrize(
    ("passed", "key"),
    [
        ({"batch_size": 20}, "data.batch_size=20: the sweep has data.batch_size=30"),
        ({"lr": 0.1}, "optimizer.lr=0.1"),
        ({"seed": 0}, "seed=0"),
        ({"loss_threshold": 0.1}, "trainer.loss_threshold=0.1"),
        ({"settings": {"width": 4}}, "model.arguments.width=4"),
        ({"targets": {"test_error": [0.1]}}, "evaluation.targets.test_error"),
        ({"model": "cnn"}, "model.name=cnn"),
    ],
)
def test_what_it_is_passed_otherwise_is_refused_at_the_call(started, passed, key):
    started()
    with pytest.raises(CannotRecord, match=key):
        Recorder(train_samples=100, **passed)


def test_the_same_values_may_be_passed(started):
    started()
    assert Recorder(train_samples=100, batch_size=30, lr=0.5, seed=3, settings={"width": 8}).batch_size == 30


def test_without_a_folder_and_a_sweep_it_says_what_is_missing(monkeypatch):
    monkeypatch.delenv(RUN, raising=False)
    with pytest.raises(CannotRecord, match="name one, such as outputs/sweeps/mine"):
        Recorder(train_samples=100)


@pytest.mark.parametrize(
    ("overrides", "loss", "status", "ended", "iterations", "complete"),
    [
        # At the first iteration after which there are so many examples, which may lie within an epoch.
        (["trainer.max_examples=130"], 1.0, Status.COMPLETED, "trainer.max_examples reached", 5, False),
        (["trainer.max_examples=131"], 1.0, Status.COMPLETED, "trainer.max_examples reached", 6, False),
        (["trainer.max_examples=200"], 1.0, Status.COMPLETED, "trainer.max_examples reached", 8, True),
        (
            ["evaluation.stop=true", "evaluation.targets.test_error=[0.3,0.26]"],
            1.0, Status.COMPLETED, "all targets reached", 8, True,
        ),
        (
            ["trainer.stop_at_threshold=true", "trainer.loss_threshold=0.6"],
            1.0, Status.COMPLETED, "trainer.loss_threshold reached", 8, True,
        ),
        ([], math.nan, Status.DIVERGED, "its loss is no number", 4, True),
    ],
)  # fmt: skip
def test_the_run_ends_where_the_sweep_has_what_it_wants_however_far_the_program_goes_on(
    started, overrides, loss, status, ended, iterations, complete
):
    folder = started(*overrides)
    train(Recorder(train_samples=100), epochs=9, loss=loss)
    run = read_run(folder)
    assert (run.record.status, run.record.ended, run.iterations) == (status, ended, iterations)
    assert run.history[-1].complete is complete
    assert all(row.iterations <= iterations for row in run.evaluations)
    assert not run.misfits


def test_an_evaluation_of_the_last_iteration_that_counts_is_recorded(started):
    folder = started("trainer.max_examples=100")
    train(Recorder(train_samples=100), epochs=3)
    assert [row.iterations for row in read_run(folder).evaluations] == [4]


def test_it_says_when_the_sweep_wants_an_evaluation(started):
    started("evaluation.per_doubling=1", "evaluation.every_examples=150")
    recorder = Recorder(train_samples=100)
    due = []
    with recorder:
        for _ in range(3):
            with recorder.epoch():
                for _ in range(4):
                    due += [recorder.iterations] if recorder.is_due else []
                    recorder.step(1.0)
    assert due == [0, 1, 2, 4, 6, 8]


def test_a_program_that_fails_says_why(started):
    folder = started()
    with pytest.raises(ValueError, match="no luck"), Recorder(train_samples=100):
        raise ValueError("no luck")
    assert read_run(folder).record.error_line == "ValueError: no luck"
