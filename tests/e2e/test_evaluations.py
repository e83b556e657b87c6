"""Sweeps that are evaluated at frozen weights between their iterations."""

import numpy as np
import pandas as pd
import pytest

from digits_sweep import load_sweep
from tests.commands import Program
from tests.killing import assert_same_results, losses
from tests.records import undo_the_last_epoch

SWEEP = (
    "-m", "data=mnist_sample", "data.batch_size=100,40", "optimizer.lr=1e-2", "trainer.num_epochs=2", "evaluation=fine",
    "evaluation.every_examples=1500", "evaluation.train_samples=200", "evaluation.test_samples=100",
    "evaluation.targets.train_loss=[2.0,1.4613]",
)  # fmt: skip
DETERMINISTIC = ["iterations", "examples", "train_loss", "train_error", "test_loss", "test_error", "running_loss"]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> Program:
    program = Program(tmp_path_factory.mktemp("evaluated"))
    program.completes(*SWEEP)
    return program


def evaluations(run_dir) -> pd.DataFrame:
    return pd.read_csv(run_dir / "evaluations.csv")


def test_evaluations_come_before_the_first_step_and_at_or_after_every_multiple(evaluated):
    sweep = evaluated.sweep()
    assert list(evaluations(sweep / "batch_size=100")["examples"]) == [0, 1500, 3000, 4500, 6000, 7500]
    assert list(evaluations(sweep / "batch_size=40")["examples"]) == [0, 1520, 3000, 4520, 6000, 7520]


def test_losses_and_weights_are_those_of_a_sweep_that_is_not_evaluated(evaluated, tmp_path):
    program = Program(tmp_path)
    program(*SWEEP, "evaluation.every_examples=null", "evaluation.targets.train_loss=[]")
    assert_same_results(evaluated.sweep(), program.sweep())


def test_a_target_is_a_row_whether_it_is_reached_or_not(evaluated):
    table = pd.read_csv(evaluated.sweep() / "targets.csv")
    assert list(table["run_dir"]) == ["batch_size=100"] * 2 + ["batch_size=40"] * 2
    assert list(table["threshold"]) == [2.0, 1.4613] * 2
    assert list(table["reached"]) == [True, False] * 2
    reached = table[table["reached"]]
    assert (reached["examples_before"] < reached["examples"]).all()
    assert (reached["examples"] <= reached["examples_at"]).all()
    assert table[~table["reached"]]["examples"].isna().all()


def test_a_run_that_was_stopped_within_an_epoch_has_the_same_evaluations_when_it_is_resumed(evaluated, tmp_path):
    program = evaluated.copy(tmp_path)
    run_dir = program.sweep() / "batch_size=100"
    undo_the_last_epoch(run_dir)
    program.completes("resume=latest")
    assert losses(run_dir) == losses(evaluated.sweep() / "batch_size=100")
    found, expected = evaluations(run_dir), evaluations(evaluated.sweep() / "batch_size=100")
    pd.testing.assert_frame_equal(found[DETERMINISTIC], expected[DETERMINISTIC])


@pytest.mark.full
def test_a_run_ends_when_all_its_targets_are_reached_and_is_not_trained_further(program):
    program.completes(*SWEEP, "evaluation.stop=true", "evaluation.targets.train_loss=[2.0]")
    table = program.table().set_index("batch_size")
    assert list(table["status"]) == ["completed"] * 2
    for size, row in table.iterrows():
        last = evaluations(program.sweep() / f"batch_size={size}").iloc[-1]
        assert row["iterations"] == last["iterations"]
        assert last["train_loss"] < 2.0
        assert len(np.load(program.sweep() / f"batch_size={size}" / "losses.npy")) == row["iterations"]
    before = program.table()
    resumed = program("resume=latest", "trainer.num_epochs=5")
    assert resumed.stdout.count("completed before, kept") == 2
    pd.testing.assert_frame_equal(program.table(), before)


def test_a_run_ends_with_the_first_iteration_that_reaches_max_examples(program):
    program.completes("data=mnist_sample", "data.batch_size=300", "trainer.num_epochs=5", "trainer.max_examples=5000")
    (row,) = (row for _, row in program.table().iterrows())
    # An epoch of 4,000 has 14 iterations, the last one of 100.
    assert (row["iterations"], row["epochs"], row["status"]) == (14 + 4, 1, "completed")
    assert "completed before, kept" in program("resume=latest").stdout


def test_evaluations_that_were_edited_are_left_out_and_said_in_the_row(evaluated, tmp_path):
    program = evaluated.copy(tmp_path)
    path = program.sweep() / "batch_size=40" / "evaluations.csv"
    path.write_text(path.read_text().replace(",0.", ",0.0", 1))
    assert list(load_sweep(program.sweep())["error"].dropna()) == ["evaluations.csv: does not fit record.json"]
