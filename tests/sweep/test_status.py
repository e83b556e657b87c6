"""How a sweep stands, read from its folder and from what Slurm says, and what of it is ended."""

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import msgspec
import pandas as pd
import pytest
from hydra.core.utils import JobReturn, JobStatus

import digits_sweep
from digits_sweep import status_of
from digits_sweep.config.plan import plan
from digits_sweep.errors import CannotResume
from digits_sweep.results.lock import Owner, this_process
from digits_sweep.results.record import Record, Status, write_record
from digits_sweep.results.sweep import new_manifest, read_sweep, write_manifest
from digits_sweep.sweep import slurm, status
from tests.commands import Program
from tests.records import unstart

RUNS = ("done", "runs", "waits", "planned", "stopped")


@pytest.fixture
def sweep(tmp_path, monkeypatch) -> Path:
    """A sweep of five runs; two have jobs, and Slurm knows one more, which is not the sweep's."""
    folder = tmp_path / "outputs" / "sweeps" / "mine"
    folder.mkdir(parents=True)
    config = asdict(plan(["data=mnist_sample", "trainer.num_epochs=4"]).runs[0].config)
    states = (Status.COMPLETED, Status.INTERRUPTED, Status.PLANNED, Status.PLANNED, Status.INTERRUPTED)
    for number, (name, state) in enumerate(zip(RUNS, states, strict=True)):
        (folder / name).mkdir()
        write_record(folder / name, Record(number, state, folder=name, config=config))
    write_manifest(folder, new_manifest().with_runs(["-m"], list(RUNS), []))
    slurm.write_jobs(folder, {"runs": slurm.Job("7_0", "0" * 16), "waits": slurm.Job("7_1", "0" * 16)})
    said = "7_0|RUNNING|None|node1|3:59:00\n7_1|PENDING|Resources||4:00:00\n9|RUNNING|None|node1|1:00\n"
    monkeypatch.setattr(slurm, "_answer", lambda *command: said if command[0] == "squeue" else None)
    return folder


def test_every_run_has_its_state_its_job_and_where_it_is(sweep):
    table = status_of(sweep)
    assert list(table["run"]) == list(RUNS)
    assert list(table["state"]) == ["completed", "running", "queued", "planned", "interrupted"]
    assert list(table["job"].fillna("")) == ["", "7_0", "7_1", "", ""]
    assert list(table["where"].fillna("")) == ["", "node1", "Resources", "", ""]
    assert list(table["epochs"]) == [4] * 5


def test_of_the_runs_that_share_a_job_one_runs_and_the_ended_ones_have_ended(sweep):
    slurm.write_jobs(sweep, dict.fromkeys(RUNS, slurm.Job("7_0", "0" * 16)))
    (sweep / "runs" / "owner.json").write_bytes(msgspec.json.encode(this_process()))
    table = status_of(sweep)
    assert list(table["state"]) == ["completed", "running", "queued", "queued", "queued"]
    assert set(table["job"]) == {"7_0"}


def test_a_run_whose_process_lives_is_running(sweep):
    (sweep / "stopped" / "owner.json").write_bytes(msgspec.json.encode(this_process()))
    row = status_of(sweep).set_index("run").loc["stopped"]
    assert row["state"] == "running"
    assert row["where"].endswith(f"process {os.getpid()}")


def test_the_command_says_it_and_brings_the_table_up_to_date(sweep, tmp_path):
    finished = Program(tmp_path)(module="digits_sweep.status")
    assert finished.returncode == 0, finished.stderr
    assert "1 completed, 1 running, 1 queued, 1 planned, 1 interrupted" in finished.stdout
    assert set(pd.read_csv(tmp_path / "outputs" / "summary.csv")["status"]) == {"completed", "interrupted"}


def test_the_hours_to_come_follow_from_runs_that_differ_in_the_seed(tmp_path):
    sizes = ("data.batch_size=500,250", "seed=0,1", "data=mnist_sample", "trainer.num_epochs=2")
    folder = digits_sweep.run(*sizes, f"outputs={tmp_path}", "num_threads=1", "quiet=true").folder
    assert status.cpu_hours(read_sweep(folder)).endswith(" so far, about 0 to come")
    first, second = (each.parent for each in sorted(folder.glob("*size=250*/record.json")))
    unstart(first)
    to_come = status.cpu_hours(read_sweep(folder))
    assert "about 0 to come" not in to_come
    assert "nothing is known" not in to_come
    unstart(second)
    assert status.cpu_hours(read_sweep(folder)).endswith("without 2 runs of which nothing is known yet")


def test_cancel_ends_the_jobs_of_the_sweep_and_no_other(sweep, monkeypatch):
    cancelled: list[str] = []
    monkeypatch.setattr(slurm, "cancel", lambda ids: cancelled.extend(ids))
    said: list[str] = []
    assert status.cancel(read_sweep(sweep), said.append) == 2
    assert cancelled == ["7_0", "7_1"]
    assert said == ["cancelled 2 jobs: 7_0 7_1"]


def test_cancel_stops_a_process_once_however_many_folders_it_writes_in(sweep, monkeypatch):
    monkeypatch.setattr(slurm, "living", lambda jobs: {})
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        from digits_sweep.results import lock

        owner = Owner(process.pid, this_process().host, "now", lock._ticks_at_start(process.pid))
        for folder in (sweep, sweep / "runs"):
            (folder / "owner.json").write_bytes(msgspec.json.encode(owner))
        said: list[str] = []
        assert status.cancel(read_sweep(sweep), said.append) == 1
        assert process.wait(60) == -15
    finally:
        process.kill()


def test_a_process_that_has_another_ones_number_and_one_of_another_machine_are_left_alone(sweep, monkeypatch):
    monkeypatch.setattr(slurm, "living", lambda jobs: {})
    signals: list[object] = []
    monkeypatch.setattr(os, "kill", lambda *call: signals.append(call) if call[1] else None)
    for run, owner in (
        ("runs", Owner(os.getppid(), this_process().host, "now", 1)),
        ("stopped", Owner(os.getppid(), "elsewhere", "now", 1)),
    ):
        (sweep / run / "owner.json").write_bytes(msgspec.json.encode(owner))
    said: list[str] = []
    assert status.cancel(read_sweep(sweep), said.append) == 0
    assert signals == []
    assert "end it there" in said[0]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="gives a file to another user")
def test_latest_resumes_no_sweep_of_somebody_else(sweep, tmp_path, monkeypatch):
    from digits_sweep.sweep.resume import resumed

    monkeypatch.chdir(tmp_path)
    os.chown(sweep / "sweep.json", 12_345, -1)
    with pytest.raises(CannotResume, match=r"no sweep of yours; the newest is 12345's: resume=outputs/sweeps/mine"):
        resumed(plan(["resume=latest"]))


def test_a_resume_submits_nothing_if_slurm_does_not_say_which_jobs_are_there(sweep, tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setattr(slurm, "_answer", lambda *command: None)
    finished = Program(tmp_path)("resume=latest", "hydra/launcher=slurm")
    assert finished.returncode == 1
    assert "Slurm does not answer (squeue), and 2 jobs may be there still: try again later" in finished.stdout
    assert "submitted" not in finished.stdout


def test_what_slurm_has_forgotten_is_not_launched_again_and_what_it_lost_is(sweep, monkeypatch):
    ends = {"7_0": "NODE_FAIL", "7_1": "CANCELLED by ann", "7_2": "UNKNOWN", "7_3": "TIMEOUT", "7_4": "OUT_OF_MEMORY"}
    monkeypatch.setattr(slurm, "end_of", lambda job: ends[job.id])
    jobs = {name: slurm.Job(f"7_{number}", "0" * 16) for number, name in enumerate(RUNS)}
    said: list[str] = []
    assert slurm.lost(jobs, RUNS, sweep, said.append) == ["done", "stopped"]
    assert "cancelled by ann: runs" in said
    assert "timeout: planned" in said


@pytest.mark.parametrize(
    ("shown", "accounts", "end"),
    [
        ("JobId=7 JobState=NODE_FAIL Reason=None", None, "NODE_FAIL"),
        ("JobId=7 JobState=CANCELLED Reason=None", "CANCELLED by 0", "CANCELLED by root"),
        ("JobId=7 JobState=CANCELLED Reason=None", "RUNNING", "CANCELLED"),
        ("JobId=7 JobState=CANCELLED Reason=None", None, "CANCELLED"),
        (None, "OUT_OF_MEMORY", "OUT_OF_MEMORY"),
        (None, None, "UNKNOWN"),
    ],
)
def test_how_a_job_has_ended_is_what_the_controller_says_and_who_what_the_accounts_say(
    monkeypatch, shown, accounts, end
):
    monkeypatch.setattr(slurm, "SECONDS_BETWEEN_LOOKS", 0)
    monkeypatch.setattr(slurm, "_answer", lambda *command: shown if command[0] == "scontrol" else accounts)
    assert slurm.end_of(slurm.Job("7", "0" * 16)) == end


def test_a_job_that_is_in_no_list_once_is_not_taken_for_gone(monkeypatch):
    looks = [{"7": slurm.Queued("RUNNING", "", "a")}, {}, {"7": slurm.Queued("RUNNING", "", "a")}, None, {}, {}]
    monkeypatch.setattr(slurm, "queue", lambda: looks.pop(0))
    monkeypatch.setattr(slurm, "SECONDS_BETWEEN_LOOKS", 0)
    said: list[str] = []
    assert slurm.wait_for({"run": slurm.Job("7", "0" * 16)}, said.append)
    assert looks == []
    assert said == ["jobs: 1 running"]


def test_a_job_that_waits_says_why_and_numbers_alone_are_said_once_a_minute(monkeypatch):
    clock, said = [0.0], list[str]()
    monkeypatch.setattr(slurm.time, "monotonic", lambda: clock[0])
    shown = slurm._Shown(said.append)
    drained = str(slurm.Queued("PENDING", "Nodes required for job are DOWN, DRAINED"))
    for clock[0], states in (
        (0.0, {drained: 9}), (2.0, {drained: 8}), (4.0, {drained: 8, "running": 1}), (6.0, {drained: 7, "running": 2}),
        (70.0, {drained: 5, "running": 2}), (72.0, {}),
    ):  # fmt: skip
        shown.show(states)
    assert said == [
        f"jobs: 9 {drained}", f"jobs: 8 {drained}, 1 running", f"jobs: 5 {drained}, 2 running",
    ]  # fmt: skip
    assert drained == "pending (Nodes required for job are DOWN, DRAINED)"


def test_a_failed_job_shows_the_end_of_its_log_and_one_without_a_log_asks_for_the_folder(tmp_path):
    logs = tmp_path / "7"
    assert slurm.cause_of(logs) == [f"no log in {logs}: does its node have that folder, under the same path?"]
    logs.mkdir()
    (logs / "7_0_log.err").write_text("Traceback\n  deep\nMemoryError: 3 GB\n")
    assert slurm.cause_of(logs) == ["Traceback", "  deep", "MemoryError: 3 GB", f"its logs: {logs}"]


class Launcher:
    """Hydra's, as a job sees it: notes the runs, the second of which cannot be started."""

    def __init__(self) -> None:
        self.runs: list[str] = []

    def __call__(self, run: str) -> JobReturn:
        self.runs.append(run)
        status = JobStatus.FAILED if run == "b" else JobStatus.COMPLETED
        return JobReturn(_return_value=OSError("no record") if run == "b" else "completed", status=status)


def test_a_run_that_fails_ends_none_of_the_others_in_its_job():
    job = slurm.RunsOfAJob(launcher := Launcher())
    with pytest.raises(OSError, match="no record"):
        job("name", [("a",), ("b",), ("c",)])
    assert launcher.runs == ["a", "b", "c"]


def test_a_job_that_is_queued_again_starts_no_other_run_and_then_goes_through_all_of_them():
    pytest.importorskip("submitit")
    job = slurm.RunsOfAJob(launcher := Launcher())
    again = job.checkpoint("name", [("a",), ("c",)])
    with pytest.raises(SystemExit):
        job("name", [("a",), ("c",)])
    assert launcher.runs == ["a"]
    again.function(*again.args)
    assert launcher.runs == ["a", "a", "c"]
