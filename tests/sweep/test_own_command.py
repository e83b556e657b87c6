"""A run whose training is a command: how it ends, what is in its log, and what of it is stopped."""

import sys
from pathlib import Path

import pytest

from digits_sweep.config.plan import plan
from digits_sweep.results.record import Status, read_record
from digits_sweep.sweep import own_command
from digits_sweep.sweep.run import run
from tests.commands import Program

# Records without torch, whose import takes seconds: what a Recorder writes last.
RECORDS = """
import os, sys, time
from pathlib import Path
from digits_sweep.results.record import Status, read_record, write_record
folder = Path(os.environ["DIGITS_SWEEP_RUN"])
record = read_record(folder)
record.engine, record.status, record.ended = "own loop", Status.COMPLETED, {ended!r}
write_record(folder, record)
print("recorded", flush=True)
{then}
"""


def train(folder: Path, command: str, *more: str):
    config = plan([f"command={command}", *more]).runs[0].config
    return run(config, folder).record


def python(tmp_path: Path, ended: str | None = None, then: str = "") -> str:
    (tmp_path / "records.py").write_text(RECORDS.format(ended=ended, then=then))
    return f"{sys.executable} {tmp_path}/records.py"


def runs_still(pid: int) -> bool:
    """Whether a process has not ended; one that nobody has waited for has."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("sh -c 'echo first; echo no luck >&2; exit 3'", ["the command returned exit code 3", "first", "no luck"]),
        ("sh -c 'kill -9 $$'", ["the command was stopped by SIGKILL"]),
        ("true", [own_command.RECORDED_NOTHING]),
        ("./no/such/program", ["the command cannot be started (No such file or directory)"]),
        ("sh -c 'printf \"\\033[1mred\\n\"; false'", ["the command returned exit code 1", "\\x1b[1mred"]),
    ],
)
def test_a_command_that_does_not_train_has_failed_with_the_last_lines_of_its_log(tmp_path, command, error):
    record = train(tmp_path / "run", command)
    assert record.status is Status.FAILED
    assert record.error.splitlines() == error
    assert not Path(f"{tmp_path}/run/owner.json").exists()


@pytest.mark.parametrize("how", ["kill -TERM $$", "kill -USR2 $$", "exit 143"])
def test_a_command_that_a_scheduler_stops_is_interrupted_and_starts_again(tmp_path, how):
    record = train(tmp_path / "run", f"sh -c '{how}'")
    assert (record.status, record.error_line.partition(" by ")[0]) == (Status.INTERRUPTED, "the command was stopped")


def test_the_log_has_what_was_started_and_what_it_printed(tmp_path):
    for seed in (1, 1):
        train(tmp_path / "run", "echo {seed} 'two words'", f"seed={seed}")
    lines = ["$ echo 1 'two words'", "1 two words"]
    assert (tmp_path / "run" / "command.log").read_text().splitlines() == lines * 2


def test_no_shell_reads_a_value(tmp_path):
    value = "$(touch evil); `touch evil` && touch evil"
    train(tmp_path / "run", "echo {model.arguments.name}", f"model.arguments.name='{value}'")
    assert value in (tmp_path / "run" / "command.log").read_text()
    assert not list(Path.cwd().glob("evil"))


def test_it_knows_its_folder_its_seed_and_its_share_of_the_cores(tmp_path):
    train(tmp_path / "run", "sh -c 'echo $DIGITS_SWEEP_RUN $OMP_NUM_THREADS; pwd'", "num_threads=3")
    assert (tmp_path / "run" / "command.log").read_text().splitlines()[1:] == [f"{tmp_path}/run 3", str(Path.cwd())]


def test_a_completed_run_is_not_started_again(tmp_path):
    command = python(tmp_path)
    assert train(tmp_path / "run", command).status is Status.COMPLETED
    assert train(tmp_path / "run", command).status is Status.COMPLETED
    assert (tmp_path / "run" / "command.log").read_text().count("recorded\n") == 1


def test_a_run_that_failed_is_started_again_and_another_command_is_refused(tmp_path):
    from digits_sweep.errors import CannotResume

    assert train(tmp_path / "run", "false").status is Status.FAILED
    with pytest.raises(CannotResume, match="command was false, is now true"):
        train(tmp_path / "run", "true")
    train(tmp_path / "run", "false")
    assert (tmp_path / "run" / "command.log").read_text() == "$ false\n" * 2


def test_what_a_completed_program_does_afterwards_counts_if_it_fails(tmp_path):
    record = train(tmp_path / "run", python(tmp_path, then="sys.exit('the plot failed')"))
    assert record.status is Status.FAILED
    assert record.error_line == "the plot failed"


def test_a_run_that_is_given_up_is_stopped_with_all_that_it_has_started_and_has_not_failed(tmp_path):
    # The child ignores SIGTERM and would sleep for a day.
    child = "trap '' TERM; echo $$ > child; while true; do sleep 1; done"
    then = f"import subprocess; subprocess.run(['sh', '-c', {child!r}], cwd={str(tmp_path)!r})"
    record = train(tmp_path / "run", python(tmp_path, "trainer.max_examples reached", then))
    assert (record.status, record.error) == (Status.COMPLETED, None)
    if (tmp_path / "child").exists():
        assert not runs_still(int((tmp_path / "child").read_text()))


def test_a_sweep_that_is_stopped_stops_its_command_and_the_run_is_interrupted(tmp_path):
    then = "os.kill(os.getppid(), 2); time.sleep(86_400)"
    with pytest.raises(KeyboardInterrupt):
        train(
            tmp_path / "run",
            python(tmp_path, None, "record.status = Status.INTERRUPTED\nwrite_record(folder, record)\n" + then),
        )
    assert read_record(tmp_path / "run").status is Status.INTERRUPTED


def test_a_run_without_what_its_target_needs_has_failed(tmp_path):
    record = train(tmp_path / "run", python(tmp_path), "evaluation.targets.train_error=[0.1]")
    assert record.status is Status.FAILED
    assert "the command has recorded none; recorder.evaluated(train_error=...)" in record.error


SCRIPT = """
import sys
import torch
from digits_sweep import Recorder

recorder = Recorder(train_samples=1_000)
assert recorder.batch_size == int(sys.argv[1])
with recorder:
    for epoch in range(3):
        with recorder.epoch():
            for _ in range(1_000 // recorder.batch_size):
                recorder.step(torch.tensor(1 / (epoch + 1)))
        recorder.evaluated(test_error=0.5 / (epoch + 1))
"""


@pytest.mark.full
def test_a_sweep_of_commands_is_a_table_that_is_resumed_by_the_whole_command(program: Program):
    (program.folder / "train.py").write_text(SCRIPT)
    typed = ["-m", "command=python train.py {data.batch_size}", "data.batch_size=500,250", "trainer.loss_threshold=0.4"]
    finished = program(*typed)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert " of 2: batch_size=500  (python train.py 500)" in finished.stdout
    assert "  epoch 3  loss 0.3333" in finished.stdout
    table = program.table()
    assert list(table["first_epoch_below_threshold"]) == [3, 3]
    assert list(table["iterations"]) == [6, 12]
    assert set(table["engine"]) == {"own loop"}
    before = [path.read_text() for path in sorted(program.sweep().glob("*/command.log"))]
    short = program("resume=latest")
    assert "names code, which must be typed; type the whole command" in short.stderr
    resumed = program(*typed, "resume=latest")
    assert resumed.stdout.count("completed before, kept") == 2
    assert [path.read_text() for path in sorted(program.sweep().glob("*/command.log"))] == before
    page = program(module="digits_sweep.report")
    assert page.returncode == 0, page.stderr


def test_a_dry_run_starts_no_command(program: Program):
    finished = program("-m", "command=touch started", "seed=1,2", "dry_run=true")
    assert finished.returncode == 0, finished.stderr
    assert "own loop" in finished.stdout
    assert not (program.folder / "started").exists()


def test_a_program_that_there_is_not_is_refused(program: Program):
    refused = program("-m", "command=no_such_program {seed}", "seed=1,2")
    assert refused.stderr.strip() == "command=no_such_program {seed}: there is no program no_such_program here"
