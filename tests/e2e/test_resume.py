"""Sweeps that are stopped, and go on."""

import json
import random
import shlex
import shutil
import signal
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Program
from tests.killing import SWEEP, assert_same_results, losses, start, sweep_through_kills, wait_for_epoch

LONG = ("-m", "data.batch_size=500,300", "data=mnist_sample", "trainer.num_epochs=2000")
SHORT = ("-m", "data.batch_size=500,300", "data=mnist_sample", "trainer.num_epochs=3")


@pytest.fixture(scope="module")
def completed(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A folder with a sweep of two runs that ended well after 3 epochs each."""
    program = Program(tmp_path_factory.mktemp("completed"))
    finished = program(*SHORT)
    assert finished.returncode == 0, finished.stderr
    return program


@pytest.fixture
def copy(completed: Program, tmp_path: Path) -> Program:
    """The same sweep in a folder of this test's own."""
    shutil.copytree(completed.outputs, tmp_path / "outputs")
    return Program(tmp_path)


def table(program: Program) -> pd.DataFrame:
    return pd.read_csv(program.outputs / "summary.csv")


def the_sweep(program: Program) -> Path:
    (sweep,) = program.sweeps()
    return sweep


def test_killed_three_times_at_random_a_sweep_ends_with_the_bits_it_would_have_had(tmp_path):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    (tmp_path / "undisturbed").mkdir()
    (tmp_path / "killed").mkdir()
    expected, _ = sweep_through_kills(tmp_path / "undisturbed", 0, random.Random(seed))
    sweep, _ = sweep_through_kills(tmp_path / "killed", 3, random.Random(seed))
    assert_same_results(sweep, expected)
    assert len(pd.read_csv(sweep / "summary.csv")) == 4


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_by_hand_or_by_a_scheduler_it_shows_the_table_and_how_to_go_on(tmp_path, number, code):
    process = start(tmp_path, *LONG)
    wait_for_epoch(process, 3)
    process.send_signal(number)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == code, output
    (row,) = pd.read_csv(tmp_path / "outputs" / "summary.csv").itertuples()
    assert (row.status, row.resumes) == ("interrupted", 0)
    assert row.epochs >= 3
    assert "not completed: batch_size=500, batch_size=300" in output
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    assert f"go on with python -m digits_sweep resume=outputs/sweeps/{sweep.name}" in output
    assert "Traceback" not in output


def test_what_completed_is_kept_and_what_was_stopped_goes_on_after_its_last_epoch(copy):
    sweep = the_sweep(copy)
    before = losses(sweep / "batch_size=500")
    finished = copy("resume=latest", "trainer.num_epochs=5")
    assert finished.returncode == 0, finished.stderr
    assert losses(sweep / "batch_size=500")[:3] == before
    assert list(table(copy)["epochs"]) == [5, 5]
    assert list(table(copy)["resumes"]) == [1, 1]
    assert finished.stdout.count("epoch 4/5") == 2
    assert "epoch 3/5" not in finished.stdout


def test_going_on_with_a_sweep_that_is_complete_trains_nothing(copy):
    finished = copy(*SHORT, f"resume={the_sweep(copy)}")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("completed before, kept") == 2
    assert list(table(copy)["resumes"]) == [0, 0]
    assert len(copy.sweeps()) == 1


def test_missing_and_failed_runs_are_run(copy):
    sweep = the_sweep(copy)
    shutil.rmtree(sweep / "batch_size=500")
    record = json.loads((sweep / "batch_size=300" / "record.json").read_text())
    (sweep / "batch_size=300" / "record.json").write_text(json.dumps(record | {"status": "failed", "error": "x"}))
    assert copy("resume=latest").returncode == 0
    assert list(table(copy)["status"]) == ["completed", "completed"]
    assert list(table(copy)["epochs"]) == [3, 3]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (("optimizer.lr=0.5", "data.batch_size=500,300"), "batch_size=500: optimizer.lr was 0.0001, is now 0.5"),
        (("data.batch_size=500,200",), "batch_size=200: data.batch_size was 300, is now 200"),
        (("data.batch_size=500",), "that sweep has 2 runs (batch_size=500, batch_size=300), this one 1"),
    ],
)
def test_another_sweep_is_refused_with_what_differs(copy, typed, words):
    refused = copy("-m", "data=mnist_sample", "trainer.num_epochs=3", *typed, "resume=latest")
    assert refused.returncode == 1
    assert words in refused.stderr
    assert refused.stdout == ""


def test_fewer_epochs_than_are_done_are_refused(copy):
    refused = copy("resume=latest", "trainer.num_epochs=2")
    assert "batch_size=500: trainer.num_epochs=2 is less than the 3 epochs already done" in refused.stderr
    assert refused.returncode == 1


@pytest.mark.parametrize("folder", ["latest", "nowhere"])
def test_where_there_is_no_sweep_to_go_on_with_it_says_so(program, folder):
    refused = program(f"resume={folder}")
    assert refused.stderr.startswith(f"resume={folder}: ")
    assert refused.stderr.count("\n") == 1
    assert refused.returncode == 1


def test_a_dry_run_lists_every_run_with_its_rates_and_what_is_done_and_writes_nothing(copy):
    shutil.rmtree(the_sweep(copy) / "batch_size=300")
    before = sorted(copy.folder.rglob("*"))
    listed = copy("resume=latest", "trainer.num_epochs=4", "dry_run=true")
    assert listed.returncode == 0, listed.stderr
    assert "go on after epoch 3: completed" in listed.stdout
    assert "start at epoch 1" in listed.stdout
    assert listed.stdout.count("0.0001") == 2
    assert sorted(copy.folder.rglob("*")) == before


def test_a_dry_run_of_a_new_sweep_makes_no_folder(program):
    listed = program("-m", "data.batch_size=100,20,5", "dry_run=true")
    assert listed.stdout.count("start at epoch 1") == 3
    assert "1e-06" in listed.stdout
    assert not program.outputs.exists()


def test_fail_fast_stops_at_the_first_failure_and_the_sweep_can_go_on_without_it(program):
    arguments = ("-m", "engine=closed_form,eager", "model.activation=tanh", "data=mnist_sample", "trainer.num_epochs=1")
    stopped = program(*arguments, "fail_fast=true")
    assert stopped.returncode == 2
    assert list(table(program)["status"]) == ["failed"]
    assert "fail_fast=true ends the sweep there" in stopped.stdout
    assert program(*arguments, "resume=latest").returncode == 1
    assert list(table(program)["status"]) == ["failed", "completed"]


def test_two_processes_on_one_sweep_are_told_apart_by_the_first_ones_pid(tmp_path):
    process = start(tmp_path, *LONG)
    try:
        wait_for_epoch(process, 1)
        refused = Program(tmp_path)(*LONG, "resume=latest")
    finally:
        process.kill()
        process.communicate()
    assert refused.returncode == 1
    assert f"process {process.pid} on " in refused.stderr
    assert "is writing there" in refused.stderr


def test_sweeps_that_start_at_once_have_folders_and_runs_of_their_own(tmp_path):
    processes = [start(tmp_path, *SHORT) for _ in range(2)]
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    first, second = (tmp_path / "outputs" / "sweeps").iterdir()
    assert_same_results(first, second)
    assert list(pd.read_csv(tmp_path / "outputs" / "summary.csv")["status"]) == ["completed"] * 2


def test_the_sweep_in_the_killing_is_one_that_a_user_could_type(program):
    assert program(*SWEEP, "dry_run=true").returncode == 0


@pytest.mark.parametrize(
    "planted",
    [
        "hydra.job_logging.handlers.file.class=evil.Handler",
        "+hydra.job_logging.handlers.x={class:evil.Handler}",
        "hydra.searchpath=[file:///evil]",
        "hydra.launcher.setup=[evil]",
        "+hydra.callbacks.x._target_=evil.f",
    ],
)
def test_nothing_that_could_start_another_program_is_repeated_from_a_file(copy, planted):
    path = the_sweep(copy) / "sweep.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"command": [*manifest["command"], planted]}))
    refused = copy("resume=latest")
    assert refused.returncode == 1
    assert f"{planted} is not repeated from a file" in refused.stderr


def test_a_sweep_goes_on_with_another_launcher(copy):
    shutil.rmtree(the_sweep(copy) / "batch_size=300")
    assert copy("resume=latest", "hydra/launcher=basic").returncode == 0
    assert list(table(copy)["status"]) == ["completed"] * 2


def test_a_sweep_in_a_folder_with_spaces_goes_on_by_the_command_that_it_shows(tmp_path):
    program = Program(tmp_path)
    arguments = ("-m", "engine=closed_form,eager", "model.activation=tanh", "data=mnist_sample", "trainer.num_epochs=1")
    failed = program(*arguments, "outputs='my out'")
    shown = failed.stdout.partition("go on with python -m digits_sweep ")[2].splitlines()[0]
    resumed = program(*shlex.split(shown))
    assert "eager: completed before, kept" in resumed.stdout
    assert not program.outputs.exists()


def test_what_is_left_of_an_extension_is_told_of_every_run(copy):
    process = start(copy.folder, "resume=latest", "trainer.num_epochs=2000")
    wait_for_epoch(process, 3)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert "not completed: batch_size=500, batch_size=300" in output
