"""A training loop of somebody else's, recorded: what it did is in the table, however it ended."""

import math
import pickle

import pandas as pd
import pytest
import torch

from digits_sweep import load_sweep
from digits_sweep.errors import CannotRecord
from digits_sweep.recorder.steps import LENGTH
from digits_sweep.report.figures import figures
from digits_sweep.report.study import loss_floor
from digits_sweep.report.tables import configuration_table
from digits_sweep.results.record import Status, read_record
from digits_sweep.results.run import read_run
from digits_sweep.results.sweep import load_history
from tests.recorder.loops import counted, epoch, losses_of, recorder, row, says


def targets_of(run) -> pd.DataFrame:
    return pd.read_csv(run.sweep_dir / "targets.csv")


# The whole of it.


def test_its_epochs_and_its_settings_are_in_the_table(tmp_path):
    for width in (4, 8):
        given = {"settings": {"width": width}, "parameters": 7, "model": "CNN", "seed": 3, "batch_size": 30}
        with recorder(tmp_path, **given) as run:
            for mean in (1.0, 0.4):
                epoch(run, [torch.tensor(mean + (step - 1.5) / 100, requires_grad=True) for step in range(4)])
            run.evaluated(test_error=0.25)
    table = load_sweep(run.sweep_dir)
    assert list(table["settings.width"]) == ["4", "8"]
    for name, value in {
        "batch_size": 30, "lr": 1e-3, "weight_decay": 0, "seed": 3, "model": "CNN", "engine": "own loop", "epochs": 2,
        "iterations_per_epoch": 4, "iterations": 8, "first_epoch_below_threshold": 2, "parameters": 7,
        "status": "completed", "test_accuracy": 0.75, "train_samples": 100,
    }.items():  # fmt: skip
        assert list(table[name]) == [value] * 2, name
    assert list(table["final_loss"]) == pytest.approx([0.4] * 2)
    assert (table["peak_memory_mb"] > 1).all()
    history = load_history(run.sweep_dir)
    assert list(history["loss_mean"][:2]) == pytest.approx([1.0, 0.4])
    assert list(history["examples"][:2]) == [100, 200]
    assert (history["seconds"] > 0).all()
    assert pd.read_csv(tmp_path / "outputs" / "summary.csv")["run_dir"][0] == (
        "sweeps/mine/model=CNN_batch_size=30_lr=0.001_seed=3_width=4"
    )


# Losses.


def test_a_loss_is_copied_when_it_is_given(tmp_path):
    buffer = torch.zeros(())
    with recorder(tmp_path) as run, run.epoch():
        for value in (5.0, 4.0, 3.0, 2.0, 1.0):
            run.step(buffer.fill_(value))
            buffer.fill_(99.0)
    assert losses_of(run) == [5, 4, 3, 2, 1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_no_step_waits_for_the_gpu_and_a_reused_buffer_does_no_harm(tmp_path):
    count, buffer = 2 * LENGTH + 5, torch.zeros((), device="cuda")
    values = torch.arange(count, device="cuda", dtype=torch.float32)
    with recorder(tmp_path, train_samples=20 * count, device="cuda") as run, run.epoch():
        torch.cuda.set_sync_debug_mode("error")
        for index in range(count):
            run.step(buffer.copy_(values[index]))
        torch.cuda.set_sync_debug_mode("default")
    assert losses_of(run) == list(range(count))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64])
def test_a_loss_may_have_any_type_and_a_shape_of_one_number(tmp_path, dtype):
    with recorder(tmp_path, train_samples=40) as run:
        epoch(run, [torch.tensor([2], dtype=dtype), torch.tensor([[1]], dtype=dtype)])
    assert losses_of(run) == [2, 1]


def test_a_loss_that_is_no_number_is_a_run_that_diverged(tmp_path):
    with recorder(tmp_path) as run:
        epoch(run, [1.0] * 5)
        epoch(run, [1.0, 1.0, math.nan, math.inf, 1.0])
    assert read_record(run.run_dir).status is Status.DIVERGED


# Evaluations.


def test_evaluations_give_targets(tmp_path):
    with recorder(tmp_path, targets={"test_error": [0.5]}) as run:
        run.evaluated(test_error=0.9)
        with run.epoch():
            for step in range(5):
                run.step(1.0)
                if step == 1:
                    with run.paused():
                        run.evaluated(test_error=0.4, train_loss=1.1)
    (target,) = targets_of(run).itertuples()
    assert target.reached
    assert (target.iterations_before, target.iterations_at, target.examples_at) == (0, 2, 40)


def test_of_two_evaluations_at_one_step_the_later_values_count(tmp_path):
    with recorder(tmp_path, targets={"test_error": [0.3], "f1": (">", 0.5)}) as run:
        for error in (0.4, 0.2):
            epoch(run, [1.0] * 5)
            run.evaluated(test_error=0.9, f1=1 - error)
            run.evaluated(test_error=error)
        run.evaluated(test_error=0.25, train_loss=1.5)
    evaluations = pd.read_csv(run.run_dir / "evaluations.csv")
    assert list(evaluations["iterations"]) == [5, 10]
    assert list(evaluations["test_error"]) == [0.4, 0.25]
    assert evaluations["train_loss"].tolist()[1] == 1.5
    assert targets_of(run)["reached"].all()
    assert (row(run)["status"], row(run)["test_accuracy"]) == ("completed", 0.75)
    assert pd.isna(row(run)["error"])


@pytest.mark.parametrize(
    ("target", "values", "iterations"),
    [
        ({"f1": (">=", 0.9)}, [{"f1": 0.5}, {"f1": 0.8}, {"f1": 0.9}], 15),
        ({"f1": (">", 0.9)}, [{"f1": 0.5}, {"f1": 0.8}, {"f1": 0.9}], None),
        ({"perplexity": ("<", 20)}, [{"perplexity": 40.0}, {"perplexity": 10.0}, {}], 7.5),
        ({"BLEU-4": (">=", [20, 30])}, [{"BLEU-4": 10}, {"BLEU-4": 35}, {}], 7),
        ({"log likelihood": (">", -2)}, [{"log likelihood": -3}, {"log likelihood": -1}, {}], 7.5),
        ({"test_loss": 0.25}, [{"test_loss": 0.4}, {"test_loss": 0.2, "f1": 0.5}, {"f1": 0.7}], 5 + 5 * 0.678),
    ],
)
def test_any_measure_may_be_a_target_that_is_to_rise_or_to_fall(tmp_path, target, values, iterations):
    with recorder(tmp_path, targets=target) as run:
        for measured in values:
            epoch(run, [1.0] * 5)
            if measured:
                run.evaluated(**measured)
    first = targets_of(run).iloc[0]
    assert first["reached"] == (iterations is not None)
    assert iterations is None or first["iterations"] == pytest.approx(iterations, rel=1e-3)
    assert counted(run).goal.measure in target


# Ends that differ from what was announced.


@pytest.mark.parametrize("size", [20, 30])
def test_a_break_within_an_epoch_leaves_a_completed_run_with_an_incomplete_epoch(tmp_path, size):
    with recorder(tmp_path, batch_size=size) as run:
        epoch(run, [1.0] * -(-100 // size))
        epoch(run, [0.4] * 3)
    recorded, last = row(run), load_history(run.sweep_dir).iloc[-1]
    assert (recorded["status"], recorded["ended"], recorded["epochs"]) == ("completed", "stopped within an epoch", 1)
    assert (recorded["iterations"], last["complete"], last["examples"]) == (-(-100 // size) + 3, False, 100 + 3 * size)


def test_a_loop_may_say_why_it_ends(tmp_path):
    with recorder(tmp_path) as run:
        epoch(run, [1.0] * 5)
        run.end(why="early stopping")
    assert (row(run)["status"], row(run)["ended"]) == ("completed", "early stopping")


def test_more_steps_than_announced_are_refused_at_the_first_one_and_the_others_kept(tmp_path):
    line = "step 6 of epoch 1: train_samples=100, batch_size=20 and accumulate=1 make 5 steps; accumulate= is for"
    run = recorder(tmp_path)
    with pytest.raises(CannotRecord, match=line), run:
        epoch(run, [1.0] * 10)
    assert (row(run)["status"], row(run)["epochs"], row(run)["iterations"]) == ("failed", 1, 5)


def test_an_epoch_after_one_that_was_shorter_than_announced_is_refused_with_the_right_number(tmp_path):
    run = recorder(tmp_path, batch_size=30)
    right = r"epoch 1 had 90 examples of train_samples=100; .*drop_last=True\), pass train_samples=90"
    with run, pytest.raises(CannotRecord, match=right):
        [epoch(run, [1.0] * 3) for _ in range(2)]
    assert (row(run)["ended"], row(run)["iterations"]) == ("stopped within an epoch", 3)


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ValueError("no such luck"), Status.FAILED, "ValueError: no such luck"),
        (RuntimeError("no kernel\n\nregistered at:\n  there"), Status.FAILED, "RuntimeError: no kernel"),
        (torch.OutOfMemoryError("CUDA out of memory"), Status.FAILED, "out of memory at batch size 20"),
        (KeyboardInterrupt(), Status.INTERRUPTED, None),
    ],
)
@pytest.mark.parametrize("within", [0, 3])
def test_a_loop_that_raises_leaves_a_record_that_says_so_and_all_that_it_did(tmp_path, error, status, line, within):
    run = recorder(tmp_path)

    def loop():
        with run:
            epoch(run, [1.0] * 5)
            run.evaluated(test_error=0.5)
            with run.epoch():
                for _ in range(within):
                    run.step(2.0)
                raise error

    with pytest.raises(type(error)):
        loop()
    recorded = read_run(run.run_dir)
    assert (recorded.status, recorded.record.error_line, recorded.epochs) == (status, line, 1)
    assert (recorded.iterations, len(recorded.evaluations)) == (5 + within, 1)


def test_a_run_without_a_step_is_none_that_ended(tmp_path):
    with recorder(tmp_path) as run:
        run.evaluated(test_error=0.9)
    assert read_record(run.run_dir).status is Status.INTERRUPTED


# Accumulation.


@pytest.mark.parametrize(
    ("samples", "expected"), [(100, [0.5, 2.5, 4.5, 6.5, 8.5]), (95, [0.5, 2.5, 4.5, 6.5, 25 / 3])]
)
def test_several_steps_make_an_iteration_whose_loss_is_their_mean_over_examples(tmp_path, samples, expected):
    with recorder(tmp_path, accumulate=2, train_samples=samples) as run:
        epoch(run, [float(loss) for loss in range(10)])
    assert losses_of(run) == pytest.approx(expected)
    assert (row(run)["iterations"], row(run)["epochs"], row(run)["iterations_per_epoch"]) == (5, 1, 5)


def test_a_loop_may_say_which_steps_changed_the_weights_and_which_were_left_out(tmp_path):
    with recorder(tmp_path, train_samples=None) as run:
        for loss, examples, update in [
            (1.0, 4, False),
            (3.0, 12, True),
            (None, 8, False),
            (2.0, 8, True),
            (7.0, 8, False),
        ]:
            run.step(loss, examples=examples, update=update)
    assert losses_of(run) == [2.5, 2.0]
    assert load_history(run.sweep_dir)["examples"].tolist() == [24]


# Loops without epochs, or without a length.


def test_a_loop_without_epochs_counts_its_iterations_and_examples_exactly(tmp_path):
    with recorder(tmp_path, train_samples=None, window=64, targets={"perplexity": ("<", 2)}) as run:
        for step in range(40):
            run.step(1.0 / (1 + step), examples=32)
            if step % 10 == 9:
                run.evaluated(perplexity=10 / step)
    recorded = row(run)
    empty = ("epochs", "seconds_per_epoch", "first_epoch_below_threshold", "iterations_per_epoch", "train_samples")
    assert [name for name in empty if not pd.isna(recorded[name])] == []
    assert (recorded["status"], recorded["iterations"]) == ("completed", 40)
    # The mean of 1/2 and 1/3 is the first one of 64 examples below 0.5.
    assert (recorded["iterations_to_threshold"], recorded["examples_to_threshold"]) == (3, 96)
    assert targets_of(run)["iterations_at"].tolist() == [10]
    assert load_history(run.sweep_dir)["examples"].tolist()[-1] == 1_280
    assert says(run).startswith("Batch size 20 passed perplexity of 2 after 320 examples")


def test_batches_of_any_sizes_weigh_as_many_examples(tmp_path):
    sizes = [1, 50, 7, 100, 3]
    with recorder(tmp_path, train_samples=None, window=100, loss_threshold=2.5) as run:
        for size, loss in zip(sizes, (9.0, 4.0, 3.0, 2.0, 1.0), strict=True):
            run.step(loss, examples=size)
    recorded = row(run)
    assert (recorded["iterations_to_threshold"], recorded["examples_to_threshold"]) == (4, 158)
    assert recorded["final_loss"] == pytest.approx((100 * 2.0 + 3 * 1.0) / 103)


def test_epochs_of_unknown_length_are_epochs_all_the_same(tmp_path):
    with recorder(tmp_path, train_samples=None) as run:
        for count in (3, 4):
            epoch(run, [0.4] * count)
            run.evaluated(test_loss=0.5)
    assert (row(run)["epochs"], row(run)["iterations"], row(run)["first_epoch_below_threshold"]) == (2, 7, 1)


def test_a_loop_without_epochs_is_on_the_disk_long_before_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr("digits_sweep.recorder.recorder.SECONDS_PER_PART", 0.0)
    run = recorder(tmp_path, train_samples=None)
    run.start()
    for step in range(3):
        run.step(float(step))
        run.evaluated(f1=0.5)
    # As a process that is killed here leaves it: the last evaluation may still change.
    recorded = read_run(run.run_dir)
    assert (recorded.iterations, len(recorded.evaluations), len(recorded.measures)) == (3, 2, 2)
    run.end()
    assert losses_of(run) == [0, 1, 2]


@pytest.mark.parametrize(("train_samples", "losses"), [(100, [4.0, -3.0]), (None, [4.0, 1.0])])
def test_a_regression_has_no_columns_of_classes_nor_a_softmaxs_floor_on_its_page(tmp_path, train_samples, losses):
    for size in (20, 50):
        given = {"train_samples": train_samples, "loss_threshold": None, "targets": {"r2": (">=", 0.5)}}
        with recorder(tmp_path, batch_size=size, **given) as run:
            for loss in losses:
                if train_samples:
                    epoch(run, [loss] * (train_samples // size))
                else:
                    run.step(loss)
                run.evaluated(test_loss=loss, r2=1 - loss / 8)
    study = counted(run)
    table = configuration_table(study)
    assert not {"test_accuracy", "first_epoch_below_threshold"} & set(table.names)
    assert ("seconds_per_epoch" in table.names) is (train_samples is not None)
    assert loss_floor(study.runs) == 0
    drawn = {figure.name: figure for figure in figures(study)}
    if train_samples:
        table = drawn["loss-epoch"].table
        bands = table[table["kind"] == "median"]
        assert (bands["low"] <= bands["loss"]).all()
    assert " passed r2 of 0.5 first" in says(run)


# Again, and on.


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    run = recorder(tmp_path)
    left = [folder / f".{name}.0123abcd" for folder in (run.sweep_dir, run.run_dir) for name in ("sweep.json", "a.csv")]
    run.run_dir.mkdir(parents=True)
    for path in left:
        path.touch()
    with run:
        epoch(run, [3.0] * 5)
    assert not [path for path in left if path.exists()]


def test_a_completed_run_is_not_replaced_unless_that_is_said_and_any_other_one_starts_again(tmp_path):
    run = recorder(tmp_path)
    run.start()
    epoch(run, [3.0] * 5)
    run.end(ZeroDivisionError())
    assert not run.is_completed
    with recorder(tmp_path) as again:
        epoch(again, [2.0] * 5)
    another = "is completed; another run has another seed= or other settings=, replace=True records this one anew"
    with pytest.raises(CannotRecord, match=another), recorder(tmp_path):
        pass
    assert row(again)["final_loss"] == 2.0
    assert pd.isna(row(again)["error"])
    with recorder(tmp_path, replace=True) as replaced:
        epoch(replaced, [1.0] * 5)
    assert load_sweep(again.sweep_dir)["final_loss"].tolist() == [1.0]


def test_asking_if_a_run_is_completed_that_this_process_has_just_recorded_warns_of_the_missing_seed(tmp_path):
    with recorder(tmp_path) as run:
        assert not run.is_completed
        epoch(run, [1.0] * 5)
    with pytest.warns(UserWarning, match="recorded before by this very process; another run has another seed="):
        assert recorder(tmp_path).is_completed
    assert not recorder(tmp_path, seed=1).is_completed


@pytest.mark.parametrize("at", range(11))
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_loop_that_continues_gives_the_table_of_one_that_never_stopped(tmp_path, at, accumulate):
    """It stops after `at` steps, with a state saved there; two more steps are lost with the process."""
    per_epoch = 5 * accumulate

    def train(run, start, stop, resumes=False):
        for step in range(start, stop):
            if step % per_epoch == 0 or (resumes and step == start):
                run.start_epoch()
            run.step(1.0 / (1 + step))
            if step % 3 == 2:
                run.evaluated(test_error=1 / (2 + step), f1=step / 20)
            if step % per_epoch == per_epoch - 1:
                run.end_epoch()

    given = {"accumulate": accumulate, "targets": {"test_error": [0.2], "f1": (">=", 0.4)}}
    whole = recorder(tmp_path / "whole", **given)
    whole.start()
    train(whole, 0, 2 * per_epoch)
    whole.end()

    stopped = recorder(tmp_path / "stopped", **given)
    stopped.start()
    train(stopped, 0, at)
    state = pickle.loads(pickle.dumps(stopped.state_dict()))
    if at < 2 * per_epoch:
        train(stopped, at, min(at + 2, 2 * per_epoch))
    stopped.end(KeyboardInterrupt())
    continued = recorder(tmp_path / "stopped", **given)
    continued.load_state_dict(state)
    continued.start()
    train(continued, at, 2 * per_epoch, resumes=True)
    continued.end()

    assert losses_of(continued) == losses_of(whole)
    columns = ["status", "epochs", "iterations", "final_loss", "iterations_to_threshold", "test_accuracy", "ended"]
    assert row(continued)[columns].fillna("-").tolist() == row(whole)[columns].fillna("-").tolist()
    for run in (continued, whole):
        counted(run)
    parts = [targets_of(run)[["target", "reached", "iterations", "examples_at"]] for run in (continued, whole)]
    pd.testing.assert_frame_equal(*parts)
    assert row(continued)["resumes"] == 1
    assert load_history(continued.sweep_dir)["seconds"].gt(0).all()


def test_a_state_of_another_run_is_refused(tmp_path):
    with recorder(tmp_path) as run:
        epoch(run, [1.0] * 5)
        state = run.state_dict()
    with recorder(tmp_path, seed=1) as other:
        epoch(other, [1.0] * 5)
    mixed = recorder(tmp_path, seed=1)
    mixed.load_state_dict(state)
    with pytest.raises(CannotRecord, match="the state that was loaded is that of another run"):
        mixed.start()
    assert row(other)["status"] == "completed"
