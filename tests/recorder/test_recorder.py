"""A training loop of somebody else's, recorded."""

import math

import pandas as pd
import pytest
import torch

from digits_sweep import Recorder, load_sweep
from digits_sweep.errors import CannotRecord
from digits_sweep.results.record import Status, read_record
from digits_sweep.results.run import read_run
from digits_sweep.results.sweep import load_history
from tests.commands import Program


def recorder(folder, **changed) -> Recorder:
    given = {"batch_size": 30, "train_samples": 100, "lr": 1e-3, "loss_threshold": 0.5} | changed
    return Recorder(folder / "outputs" / "sweeps" / "mine", **given)


def train(run: Recorder, *means: float, error: BaseException | None = None) -> None:
    for mean in means:
        with run.epoch():
            for step in range(4):
                run.step(torch.tensor(mean + (step - 1.5) / 100, requires_grad=True))
    if error:
        raise error


def test_its_epochs_and_its_settings_are_in_the_table(tmp_path):
    for width in (4, 8):
        with recorder(tmp_path, settings={"width": width}, parameters=7, model="CNN", seed=3) as run:
            train(run, 1.0, 0.4)
            run.evaluated(test_error=0.25)
    table = load_sweep(tmp_path / "outputs/sweeps/mine")
    assert list(table["settings.width"]) == ["4", "8"]
    for name, value in {
        "batch_size": 30, "lr": 1e-3, "weight_decay": 0, "seed": 3, "model": "CNN", "engine": "own loop", "epochs": 2,
        "iterations_per_epoch": 4, "iterations": 8, "first_epoch_below_threshold": 2, "parameters": 7,
        "status": "completed", "test_accuracy": 0.75, "train_samples": 100,
    }.items():  # fmt: skip
        assert list(table[name]) == [value] * 2, name
    assert list(table["final_loss"]) == pytest.approx([0.4] * 2)
    assert (table["peak_memory_mb"] > 1).all()
    history = load_history(tmp_path / "outputs/sweeps/mine")
    assert list(history["loss_mean"][:2]) == pytest.approx([1.0, 0.4])
    assert (history["seconds"] > 0).all()
    assert pd.read_csv(tmp_path / "outputs" / "summary.csv")["run_dir"][0] == (
        "sweeps/mine/model=CNN_batch_size=30_lr=0.001_seed=3_width=4"
    )


def test_evaluations_give_targets(tmp_path):
    with recorder(tmp_path, targets={"test_error": [0.5]}) as run:
        run.evaluated(test_error=0.9)
        with run.epoch():
            for step in range(4):
                run.step(1.0)
                if step == 1:
                    with run.paused():
                        run.evaluated(test_error=0.4, train_loss=1.1)
    (row,) = pd.read_csv(run.sweep_dir / "targets.csv").itertuples()
    assert row.reached
    assert (row.iterations_before, row.iterations_at, row.examples_at) == (0, 2, 60)


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ValueError("no such luck"), Status.FAILED, "ValueError: no such luck"),
        (torch.OutOfMemoryError("CUDA out of memory"), Status.FAILED, "out of memory at batch size 30"),
        (KeyboardInterrupt(), Status.INTERRUPTED, None),
    ],
)
def test_a_loop_that_raises_leaves_a_record_that_says_so(tmp_path, error, status, line):
    run = recorder(tmp_path)
    with pytest.raises(type(error)), run:
        train(run, 1.0, error=error)
    recorded = read_run(run.run_dir)
    assert (recorded.status, recorded.record.error_line, recorded.epochs) == (status, line, 1)


def test_a_run_without_an_epoch_is_none_that_ended(tmp_path):
    with recorder(tmp_path) as run:
        run.evaluated(test_error=0.9)
    assert read_record(run.run_dir).status is Status.INTERRUPTED


def test_a_loss_that_is_no_number_is_a_run_that_diverged(tmp_path):
    with recorder(tmp_path) as run:
        train(run, 1.0, math.nan)
    assert read_record(run.run_dir).status is Status.DIVERGED


def test_a_completed_run_is_not_replaced_and_any_other_one_starts_again(tmp_path):
    run = recorder(tmp_path)
    with pytest.raises(ZeroDivisionError), run:
        train(run, 3.0, error=ZeroDivisionError())
    assert not run.is_completed
    with recorder(tmp_path) as again:
        train(again, 2.0)
    assert again.is_completed
    with pytest.raises(CannotRecord, match="is completed; leave it out"), recorder(tmp_path):
        pass
    table = load_sweep(again.sweep_dir)
    assert list(table["final_loss"]) == pytest.approx([2.0])
    assert list(table["error"].isna()) == [True]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"settings": {"clip": math.inf}}, "settings.clip=inf: every number must be finite"),
        ({"settings": {"betas": [0.9, math.nan]}}, r"settings.betas=\[0.9, nan\]: every number must be finite"),
        ({"loss_threshold": math.nan}, "trainer.loss_threshold=nan: every number must be finite"),
    ],
)
def test_what_a_record_cannot_hold_is_refused_before_anything_is_written(tmp_path, settings, line):
    with pytest.raises(CannotRecord, match=line):
        recorder(tmp_path, **settings)
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_many_settings_is_read_back(tmp_path):
    with recorder(tmp_path, settings={f"a_setting_of_number_{number}": number / 7 for number in range(12)}) as run:
        train(run, 1.0)
    assert list(load_sweep(run.sweep_dir)["status"]) == ["completed"]


def test_an_epoch_with_other_steps_than_its_examples_make_is_refused_in_words(tmp_path):
    run = recorder(tmp_path)
    right = "epoch 1 has 1 steps, but train_samples and batch_size say that 100 examples in batches of 30 are 4"
    with pytest.raises(CannotRecord, match=right), run, run.epoch():
        run.step(1.0)


def test_a_sweep_of_this_programs_own_takes_no_such_run_and_resumes_none(tmp_path):
    program = Program(tmp_path)
    program("data=mnist_sample", "data.batch_size=1000", "trainer.num_epochs=1")
    with pytest.raises(CannotRecord, match="a sweep of python -m digits_sweep; choose another folder"):
        Recorder(program.sweep(), batch_size=1, train_samples=1, lr=1, loss_threshold=1).start()
    with recorder(tmp_path) as run:
        train(run, 1.0)
    refused = program("resume=latest")
    assert refused.returncode == 1
    assert refused.stderr.endswith("mine: recorded by digits_sweep.Recorder; start its own program again\n")
