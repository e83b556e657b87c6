"""Whole sweeps, as a user types them, on the embedded sample."""

import csv
import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from digits_sweep.results.columns import COLUMNS
from tests.commands import Finished, Program

QUICK = ("data=mnist_sample", "trainer.num_epochs=2")
ONE_EPOCH = ("data=mnist_sample", "trainer.num_epochs=1")
NO_MIRROR = "data.mirrors=[http://127.0.0.1:9/]"


def losses(history: Path) -> list[dict[str, str]]:
    with history.open() as file:
        return [{name: row[name] for name in ("epoch", "loss_mean", "loss_std")} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Program, Finished]:
    """The sweep of the README as a process of its own, as a user starts it."""
    program = Program(tmp_path_factory.mktemp("sweep"))
    return program, program.process("-m", "data.batch_size=100,20,5", *QUICK)


def test_a_sweep_ends_well_and_writes_one_row_a_run_in_its_order_with_every_column_of_the_contract(sweep):
    program, finished = sweep
    assert finished.returncode == 0, finished.stderr
    table = program.table()
    assert list(table.columns) == [column.name for column in COLUMNS]
    assert list(table["batch_size"]) == [100, 20, 5]
    assert list(table["status"]) == ["completed"] * 3
    assert list(table["lr"]) == [1e-4, 1e-4, 1e-6]


def test_a_threshold_that_was_not_reached_is_empty_in_the_file_and_words_on_the_terminal_and_in_the_report(sweep):
    program, finished = sweep
    assert program.table()["first_epoch_below_threshold"].isna().all()
    assert program.table()["seconds_to_threshold"].isna().all()
    assert finished.stdout.count("not reached in 2 epochs") == 3
    printed = program.completes(module="digits_sweep.report")
    assert printed.stdout.count("| not reached in 2 epochs |") == 3


def test_every_run_keeps_record_history_log_and_configuration(sweep):
    program, _ = sweep
    for run_dir in program.table()["run_dir"]:
        kept = {path.name for path in (program.outputs / run_dir).iterdir()}
        assert {"record.json", "history.csv", "digits_sweep.log", ".hydra"} <= kept
        history = pd.read_csv(program.outputs / run_dir / "history.csv")
        assert list(history["epoch"]) == [1, 2]


def test_the_record_holds_the_resolved_numbers_and_where_they_were_made(sweep):
    program, _ = sweep
    record = json.loads((program.outputs / program.table()["run_dir"][2] / "record.json").read_text())
    assert record["config"]["optimizer"]["lr"] == 1e-6
    assert record["environments"][0]["packages"]["torch"]
    assert record["environments"][0]["cpu"]
    assert record["flush_denormal"] is True
    assert sum(record["test_answers"]) == 1_000


def test_piped_output_is_plain_lines_that_say_where_the_files_are(sweep):
    _, finished = sweep
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", finished.stdout + finished.stderr)
    assert len(re.findall(r"epoch \d/2  loss \d\.\d{4} \+- \d\.\d{4}  \d+\.\d\d s", finished.stdout)) == 6
    assert "outputs/summary.csv" in finished.stdout
    assert "outputs/sweeps/" in finished.stdout


def test_the_same_command_gives_the_same_losses_twice(program, sweep):
    first, _ = sweep
    program("-m", "data.batch_size=100,20,5", *QUICK)
    for name in ("batch_size=100", "batch_size=20", "batch_size=5"):
        assert losses(program.sweep() / name / "history.csv") == losses(first.sweep() / name / "history.csv")


def test_one_run_without_m_is_a_sweep_of_one_and_trains_on_a_smaller_last_batch(program):
    program.completes("data.batch_size=7", *ONE_EPOCH)
    assert list(program.table()["iterations"]) == list(program.table()["iterations_per_epoch"]) == [572]


@pytest.mark.full
def test_the_lesson_experiment_runs_its_four_rows_once_each(program):
    program.completes("-m", "experiment=lesson", *ONE_EPOCH)
    table = program.table()
    assert list(zip(table["batch_size"], table["lr"], table["weight_decay"], strict=True)) == [
        (100, 1e-4, 5e-4),
        (20, 1e-4, 5e-4),
        (5, 1e-6, 5e-6),
        (5, 1e-4, 5e-4),
    ]


def test_a_diverged_run_says_so_the_others_are_trained_and_the_exit_code_is_not_zero(program):
    finished = program("-m", "optimizer=sgd", "model=mlp_logits", "data.scale=raw", "optimizer.lr=1e6,1e-6", *QUICK)
    assert list(program.table()["status"]) == ["diverged", "completed"]
    assert finished.returncode == 1
    assert "diverged" in finished.stdout


# A stand-in for a device with room for 500 examples.
SMALL_DEVICE = """
import torch
from torch import nn

class Network(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(784, 10))

    def forward(self, images):
        if self.training and len(images) > 500:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().forward(images)
"""


def test_a_run_without_memory_keeps_its_row_and_its_traceback_and_the_others_are_trained(program):
    (program.folder / "small_device.py").write_text(SMALL_DEVICE)
    own = ("model=own", "model.target=small_device:Network")
    finished = program("-m", "data.batch_size=1000,500", *own, *ONE_EPOCH)
    sys.modules.pop("small_device")
    assert finished.returncode == 1
    assert "  failed: out of memory at batch size 1000\n" in finished.stdout
    table = program.table()
    assert list(table["status"]) == ["failed", "completed"]
    assert table["error"][0] == "out of memory at batch size 1000"
    assert (table["peak_memory_mb"] > 10).all()
    assert table["peak_cuda_memory_mb"].isna().all() != torch.cuda.is_available()
    failed = program.outputs / table["run_dir"][0]
    assert "Traceback" in json.loads((failed / "record.json").read_text())["error"]
    assert "Traceback" in (failed / "digits_sweep.log").read_text()


def test_offline_every_run_trains_on_the_sample_and_everything_says_so(program):
    root = f"data.root={program.folder / 'data'}"
    finished = program.completes("-m", "data.batch_size=100,20", "trainer.num_epochs=1", root, NO_MIRROR)
    assert "WARNING: every run trains on mnist_sample, not on mnist." in finished.stdout
    assert finished.stdout.count("(mnist_sample, ") == 2
    assert list(program.table()["dataset"]) == ["mnist_sample"] * 2


def test_offline_without_a_fallback_nothing_is_trained(program):
    finished = program(f"data.root={program.folder / 'data'}", NO_MIRROR, "data.fallback=null")
    assert finished.returncode == 1
    assert "http://127.0.0.1:9/" in finished.stderr
    assert not program.outputs.exists()


@pytest.mark.full
def test_the_lessons_loop_and_the_fast_one_agree_on_real_mnist(program, mnist_root):
    program.completes(
        "-m", "engine=lesson,eager,closed_form", "data.batch_size=1000", "trainer.num_epochs=2", "data.num_workers=2",
        f"data.root={mnist_root}", "data.mirrors=[]",
    )  # fmt: skip
    histories = [pd.read_csv(path)["loss_mean"] for path in program.sweep().glob("*/history.csv")]
    assert len(histories) == 3
    for history in histories[1:]:
        assert (history - histories[0]).abs().max() < 1e-5
