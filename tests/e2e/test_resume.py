"""Sweeps that are stopped, and resumed."""

import shlex
import shutil
import signal
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest

from digits_sweep.results.lock import only_writer
from tests.commands import FAILS_THEN_COMPLETES, Program
from tests.killing import SWEEP, assert_same_results, losses
from tests.records import change_record, unstart

PAIR = ("-m", "data.batch_size=500,300", "data=mnist_sample")
SHORT = (*PAIR, "trainer.num_epochs=3")
# Far more epochs than are ever trained: the test that starts this stops it.
ENDLESS = (*PAIR, "trainer.num_epochs=100000")
FAILING = (*FAILS_THEN_COMPLETES, "trainer.num_epochs=1")


@pytest.fixture(scope="module")
def completed(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A folder with a sweep of two runs that completed after 3 epochs each."""
    program = Program(tmp_path_factory.mktemp("completed"))
    program.completes(*SHORT)
    return program


@pytest.fixture
def copy(completed: Program, tmp_path: Path) -> Program:
    """The same sweep in a folder of this test's own."""
    return completed.copy(tmp_path)


# Sweeps that are stopped


@pytest.mark.full
def test_a_killed_sweep_ends_with_the_bits_it_would_have_had(program, tmp_path):
    sweep = ("-m", "optimizer=adam,sgd", "data.batch_size=500", "data=mnist_sample", "trainer.num_epochs=10")
    undisturbed = Program(tmp_path / "undisturbed")
    undisturbed.folder.mkdir()
    undisturbed(*sweep)
    with program.running(*sweep) as killed:
        killed.says("  epoch ", times=3)
        killed.process.kill()
    assert "Traceback" not in killed.text()
    program.completes("resume=latest")
    assert_same_results(program.sweep(), undisturbed.sweep())
    assert len(program.table()) == 2


def test_the_sweep_of_the_torture_is_one_that_a_user_could_type(program):
    program.completes(*SWEEP, "dry_run=true")


@pytest.mark.full
@pytest.mark.parametrize(
    ("is_extension", "stop", "code", "rows"),
    [
        (False, signal.SIGTERM, 143, [("interrupted", 0)]),
        (True, signal.SIGINT, 130, [("interrupted", 0), ("interrupted", 1)]),
    ],
)
def test_a_running_sweep_lets_nobody_else_in_and_if_stopped_shows_the_table_what_is_left_and_how_to_resume(
    program, completed, is_extension, stop, code, rows
):
    if is_extension:
        completed.copy(program.folder)
    arguments = ("resume=latest", *ENDLESS[-1:]) if is_extension else ENDLESS
    with program.running(*arguments) as started:
        started.says("  epoch ", times=3)
        refused = program(*ENDLESS, "resume=latest")
        started.process.send_signal(stop)
        assert started.ends() == code, started.text()
    assert refused.returncode == 1
    assert f"process {started.process.pid} on " in refused.stderr
    assert "is writing there" in refused.stderr
    table = program.table()
    assert list(zip(table["status"], table["resumes"], strict=True)) == rows
    assert table["epochs"][0] >= 3
    assert "not completed: batch_size=500 and batch_size=300" in started.text()
    assert f"resume with: python -m digits_sweep resume={program.sweep()}" in started.text()
    assert "Traceback" not in started.text()


@pytest.mark.full
def test_sweeps_that_start_at_once_have_folders_and_runs_of_their_own(program):
    with ExitStack() as stack:
        both = [stack.enter_context(program.running(*SHORT)) for _ in range(2)]
        assert [started.ends() for started in both] == [0, 0], [started.text() for started in both]
    first, second = program.sweeps()
    assert_same_results(first, second)
    assert list(program.table()["status"]) == ["completed"] * 2


def test_fail_fast_stops_at_the_first_failure_and_the_sweep_is_resumed_without_it(program):
    stopped = program(*FAILING, "fail_fast=true")
    assert stopped.returncode == 2
    assert list(program.table()["status"]) == ["failed"]
    assert "fail_fast=true ends the sweep there" in stopped.stdout
    assert program(*FAILING, "resume=latest").returncode == 1
    assert list(program.table()["status"]) == ["failed", "completed"]


# Sweeps that are resumed


def test_a_completed_sweep_is_extended_after_its_last_epoch_and_keeps_its_losses(copy):
    before = losses(copy.sweep() / "batch_size=500")
    finished = copy.completes("resume=latest", "trainer.num_epochs=5")
    assert losses(copy.sweep() / "batch_size=500")[:3] == before
    assert list(copy.table()["epochs"]) == [5, 5]
    assert list(copy.table()["resumes"]) == [1, 1]
    assert finished.stdout.count("epoch 4/5") == 2
    assert "epoch 3/5" not in finished.stdout


def test_resuming_a_sweep_that_is_complete_trains_nothing(copy):
    finished = copy.completes(*SHORT, f"resume={copy.sweep()}")
    assert finished.stdout.count("completed before, kept") == 2
    assert list(copy.table()["resumes"]) == [0, 0]
    assert len(copy.sweeps()) == 1


def test_missing_and_failed_runs_are_trained(copy):
    unstart(copy.sweep() / "batch_size=500")
    change_record(copy.sweep() / "batch_size=300", lambda content: content.update(status="failed", error="x"))
    copy.completes("resume=latest")
    assert list(copy.table()["status"]) == ["completed", "completed"]
    assert list(copy.table()["epochs"]) == [3, 3]


def test_a_run_whose_folder_was_removed_is_trained_if_the_whole_command_is_typed(copy):
    shutil.rmtree(copy.sweep() / "batch_size=300")
    refused = copy("resume=latest")
    assert refused.stderr == "resume=latest: the record of batch_size=300 cannot be read; type the whole command\n"
    copy.completes(*SHORT, "resume=latest")
    assert list(copy.table()["status"]) == ["completed"] * 2


def test_a_sweep_is_resumed_with_another_launcher(copy):
    unstart(copy.sweep() / "batch_size=300")
    copy.completes("resume=latest", "hydra/launcher=basic")
    assert list(copy.table()["status"]) == ["completed"] * 2


def test_epochs_that_were_trained_beside_another_run_are_marked(copy):
    (beside := copy.sweep() / "another_run").mkdir()
    with only_writer(beside):
        finished = copy("resume=latest", "trainer.num_epochs=4")
    assert finished.returncode == 0, finished.stderr
    assert list(copy.table()["concurrent_runs"]) == [2, 2]
    assert finished.stdout.count("(2 at once)") == 2


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    "typed",
    [
        (),
        ("outputs='my out'",),
        ("outputs=-x",),
        ("data.root='relative \"root\"'", "data.timeout_seconds=5"),
        ("data.mirrors=[file:///nowhere]", "tracker=tensorboard", "tracker.tensorboard.folder='t b'"),
    ],
)
def test_the_command_that_a_sweep_shows_resumes_it_from_any_folder(tmp_path, monkeypatch, typed):
    if any(each.startswith("tracker") for each in typed) and find_spec("tensorboard") is None:
        pytest.skip("tensorboard is not installed")
    monkeypatch.setenv("DIGITS_SWEEP_DATA", "relative")
    began, elsewhere = Program(tmp_path / 'it\'s "my" folder'), Program(tmp_path / "elsewhere")
    began.folder.mkdir()
    elsewhere.folder.mkdir()
    failed = began(*FAILING, *typed)
    words = shlex.split(failed.stdout.partition("resume with: ")[2].splitlines()[0])
    # As a shell does it: `cd FOLDER && python ...`, or `python ...` where it stands.
    stands = began if words[:1] == ["cd"] else elsewhere
    if stands is began:
        assert words[:3] == ["cd", str(began.folder), "&&"]
        del words[:3]
    assert words[:3] == ["python", "-m", "digits_sweep"]
    root = next(word for word in words if word.startswith("data.root="))
    assert str(began.folder / "relative").replace("'", "\\'") in root
    resumed = stands(*words[3:])
    assert "hidden_size=8: completed before, kept" in resumed.stdout
    assert "not repeated" not in resumed.stdout
    assert list(elsewhere.folder.iterdir()) == []


# What is refused


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (("optimizer.lr=0.5", "data.batch_size=500,300"), "optimizer.lr was 1e-4, is now 0.5"),
        (("data.batch_size=500,200",), "data.batch_size was 500 and 300, is now 200"),
        (("data.batch_size=500",), "that sweep has 2 runs (batch_size=500, batch_size=300), this one 1"),
    ],
)
def test_another_sweep_is_refused_with_what_differs(copy, typed, words):
    refused = copy("-m", "data=mnist_sample", "trainer.num_epochs=3", *typed, "resume=latest")
    assert refused.returncode == 1
    assert words in refused.stderr
    assert refused.stdout == ""


def test_a_key_that_is_typed_beside_resume_is_named_if_it_differs(copy):
    refused = copy("resume=latest", "optimizer=sgd")
    assert refused.returncode == 1
    assert "optimizer.name was adam, is now sgd" in refused.stderr
    assert "2 runs" not in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_fewer_epochs_than_are_done_are_refused(copy):
    refused = copy("resume=latest", "trainer.num_epochs=2")
    assert "batch_size=500: trainer.num_epochs=2 is less than the 3 epochs already done" in refused.stderr
    assert refused.returncode == 1


@pytest.mark.parametrize("folder", ["latest", "nowhere"])
def test_if_there_is_no_sweep_to_resume_it_says_so(program, folder):
    refused = program(f"resume={folder}")
    assert refused.stderr.startswith(f"resume={folder}: ")
    assert refused.stderr.count("\n") == 1
    assert refused.returncode == 1


# What would be trained


def test_a_dry_run_lists_every_run_with_its_rates_and_what_is_done_and_writes_nothing(copy):
    unstart(copy.sweep() / "batch_size=300")
    before = sorted(copy.folder.rglob("*"))
    listed = copy.completes("resume=latest", "trainer.num_epochs=4", "dry_run=true")
    assert "resume after epoch 3: completed" in listed.stdout
    assert "start at epoch 1" in listed.stdout
    assert listed.stdout.count("1e-4") == 2
    assert sorted(copy.folder.rglob("*")) == before


def test_a_dry_run_of_a_new_sweep_makes_no_folder(program):
    listed = program("-m", "data.batch_size=100,20,5", "dry_run=true")
    assert listed.stdout.count("start at epoch 1") == 3
    assert "1e-6" in listed.stdout
    assert not program.outputs.exists()
