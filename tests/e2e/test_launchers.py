"""The same sweep, whichever launcher starts its runs."""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from digits_sweep.config.launchers import LAUNCHERS
from tests.commands import Finished, Program
from tests.e2e.test_critical_batch_size import steps
from tests.killing import assert_same_results
from tests.searches import CRITICAL, STUDY
from tests.servers import free_ports, running, wait_for
from tests.slurm import cluster, missing

pytestmark = pytest.mark.full
# Another number of threads may round otherwise, and runs side by side get fewer.
SWEEP = ("-m", "data.batch_size=500,300,100", "data=mnist_sample", "trainer.num_epochs=3", "num_threads=1")

# What a launcher wants typed beside its name, the fixture of the cluster that it works with, and its plugin.
TYPED = {"joblib": ["hydra.launcher.n_jobs=2"], "slurm": ["hydra.launcher.mem_gb=1"]}
TYPED["submitit_slurm"] = [*TYPED["slurm"], "hydra.launcher.cpus_per_task=1"]
CLUSTERS = {"slurm": "slurm", "submitit_slurm": "slurm", "ray_cluster": "ray"}
PLUGINS = {"joblib": "hydra_joblib_launcher", "slurm": "hydra_submitit_launcher", "ray": "hydra_ray_launcher"}


@dataclass(frozen=True)
class Launcher:
    """What a command line says to use it, and the environment that it is found in."""

    overrides: tuple[str, ...]
    environment: dict[str, str]


@dataclass(frozen=True)
class Trap:
    """`set` sends a signal to the first worker that has trained two epochs; see `tests/trap/sitecustomize.py`."""

    file: Path

    @property
    def environment(self) -> dict[str, str]:
        paths = [str(Path(__file__).parents[1] / "trap"), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {"PYTHONPATH": os.pathsep.join(paths), "TRAP": str(self.file)}

    def set(self, number: signal.Signals) -> None:
        self.file.write_text(str(int(number)))


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory) -> Trap:
    return Trap(tmp_path_factory.mktemp("trap") / "signal")


@pytest.fixture
def launcher(request: pytest.FixtureRequest, trap: Trap) -> Launcher:
    name = request.param
    pytest.importorskip(f"hydra_plugins.{PLUGINS[LAUNCHERS[name].extra]}")
    environment = request.getfixturevalue(CLUSTERS[name]) if name in CLUSTERS else os.environ | trap.environment
    return Launcher((f"hydra/launcher={name}", *TYPED.get(name, [])), environment)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory, trap: Trap) -> Iterator[dict[str, str]]:
    """A Slurm cluster with slurmctld, slurmd and accounts on this machine."""
    if reason := missing():
        pytest.skip(reason)
    with cluster(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment | trap.environment


@pytest.fixture(scope="module")
def ray(trap: Trap) -> Iterator[dict[str, str]]:
    """A Ray cluster that was started beforehand, in another folder than any sweep's, with a token of its own."""
    (port,) = free_ports(1)
    # Its sockets lie in this folder, and their paths must be short.
    with tempfile.TemporaryDirectory() as folder:
        environment = (
            os.environ
            | trap.environment
            | {
                "RAY_TMPDIR": folder,
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": secrets.token_hex(32),
                # Other programs on this machine may take its memory: Ray would kill the workers for it.
                "RAY_memory_monitor_refresh_ms": "0",
            }
        )
        command = [
            Path(sys.executable).with_name("ray"), "start", "--head", "--block", f"--port={port}", "--num-cpus=2",
            "--include-dashboard=false", "--disable-usage-stats",
        ]  # fmt: skip
        with running(*command, output=Path(folder, "out"), environment=environment) as head:
            head.says("Ray runtime started")
            yield environment | {"RAY_ADDRESS": f"127.0.0.1:{port}"}


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = Program(tmp_path_factory.mktemp("serial"))
    program.completes(*SWEEP)
    return program.sweep()


def jobs_submitted(text: str) -> list[int]:
    return [int(count) for count in re.findall(r"^(\d+) jobs? submitted", text, re.MULTILINE)]


def slurm_says(environment: dict[str, str], *command: str) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def assert_as_serial(program: Program, finished: Finished, serial: Path) -> None:
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert_same_results(program.sweep(), serial)
    assert list(program.table()["batch_size"]) == [500, 300, 100]
    assert list(program.table()["status"]) == ["completed"] * 3


LONG = ("-m", "seed=0,1", "data=mnist_sample", "trainer.num_epochs=3000", "quiet=true")
# Long enough to be killed after its first epoch.
TWO_LONG = tuple(each.replace("3000", "120") for each in LONG)
on_slurm = pytest.mark.parametrize("launcher", ["slurm"], indirect=True)
# The others show the same while a worker of theirs is killed.
WITH_A_KILLED_WORKER = ("joblib", "submitit_slurm", "ray_cluster")


@pytest.mark.parametrize(
    "launcher",
    [name for name, row in LAUNCHERS.items() if not row.in_process and name not in WITH_A_KILLED_WORKER],
    indirect=True,
)
def test_every_launcher_gives_the_same_bits_and_one_table(program, serial, launcher):
    finished = program.process(*SWEEP, *launcher.overrides, env=launcher.environment)
    assert_as_serial(program, finished, serial)
    assert list(program.table()["resumes"]) == [0] * 3
    if "hydra/launcher=slurm" in launcher.overrides:
        # An array of the cluster has two jobs at most.
        assert jobs_submitted(finished.stdout) == [2, 1]


@on_slurm
def test_a_study_of_the_critical_batch_size_comes_to_the_same_on_a_cluster(program, tmp_path, launcher):
    (tmp_path / "alone").mkdir()
    alone = Program(tmp_path / "alone")
    typed = (*STUDY, "data.batch_size=400", "critical.confirm=1")
    alone.completes(*typed, module=CRITICAL)
    finished = program.process(*typed, *launcher.overrides, module=CRITICAL, env=launcher.environment)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert steps(program) == steps(alone)


@pytest.mark.parametrize("launcher", WITH_A_KILLED_WORKER, indirect=True)
def test_a_killed_worker_costs_no_run_and_no_bit(program, serial, launcher, trap):
    trap.set(signal.SIGKILL)
    finished = program.process(*SWEEP, *launcher.overrides, env=launcher.environment)
    assert_as_serial(program, finished, serial)
    assert program.table()["resumes"].max() == 1
    if LAUNCHERS[launcher.overrides[0].partition("=")[2]].is_slurm:
        # Only the run that was lost.
        assert sum(jobs_submitted(finished.stdout)) == 4


@on_slurm
def test_a_preempted_job_is_queued_again_and_goes_on_with_what_is_left_of_its_runs(program, serial, launcher, trap):
    trap.set(signal.SIGUSR2)
    in_one = "hydra.launcher.runs_per_job=3"
    finished = program.process(*SWEEP, *launcher.overrides, in_one, env=launcher.environment)
    assert_as_serial(program, finished, serial)
    assert sorted(program.table()["resumes"]) == [0, 0, 1]
    assert sum(jobs_submitted(finished.stdout)) == 1


@on_slurm
def test_a_drained_node_a_killed_launcher_and_the_loss_of_all_jobs_submit_what_needs_a_job(program, launcher):
    node = f"nodename={socket.gethostname()}"
    slurm_says(launcher.environment, "scontrol", "update", node, "state=drain", "reason=disk")
    with program.running(*TWO_LONG, *launcher.overrides, environment=launcher.environment) as started:
        wait_for(lambda: re.search("pending .*(NodeNotAvail|DRAINED)", started.text()) is not None, started)
        started.process.kill()
    assert sum(jobs_submitted(started.text())) == 2
    with program.running("resume=latest", environment=launcher.environment) as resumed:
        wait_for(lambda: "still there" in resumed.text(), resumed)
        slurm_says(launcher.environment, "scontrol", "update", node, "state=resume")
        wait_for(lambda: len(list(program.outputs.glob("sweeps/*/*/checkpoint.safetensors"))) == 2, resumed)
        for owner in program.outputs.glob("sweeps/*/*/owner.json"):
            os.kill(json.loads(owner.read_text())["pid"], signal.SIGKILL)
        assert resumed.ends() == 0, resumed.text()
    said = resumed.text()
    assert "2 jobs still there, not submitted again: seed=0 and seed=1" in said
    assert "lost, submitted again: seed=0 and seed=1" in said
    assert sum(jobs_submitted(said)) == 2
    assert list(program.table()["status"]) == ["completed"] * 2
    assert list(program.table()["resumes"]) == [1] * 2


COMMAND = """
import sys
from digits_sweep import Recorder

with Recorder(train_samples=100) as recorder:
    for epoch in range(2):
        with recorder.epoch():
            for _ in range(100 // recorder.batch_size):
                recorder.step(int(sys.argv[1]) / (epoch + 1))
"""


@pytest.mark.parametrize("launcher", ["joblib", "slurm"], indirect=True)
def test_a_command_is_started_by_workers_and_by_jobs(program, launcher):
    (program.folder / "train.py").write_text(COMMAND)
    typed = ("-m", "command=python train.py {seed}", "seed=1,2", "data.batch_size=25")
    in_one = ["hydra.launcher.runs_per_job=2"] if "hydra/launcher=slurm" in launcher.overrides else []
    finished = program.process(*typed, *launcher.overrides, *in_one, env=launcher.environment)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    table = program.table()
    assert list(table["status"]) == ["completed"] * 2
    assert sorted(table["final_loss"]) == [0.5, 1.0]
    assert set(table["num_threads"]) == {1}


@on_slurm
def test_a_command_whose_job_is_cancelled_is_interrupted_and_not_launched_again(program, launcher):
    (program.folder / "train.py").write_text(COMMAND.replace("range(2)", "range(10**9)"))
    typed = ("-m", "command=python train.py {seed}", "seed=1", "data.batch_size=25", "quiet=true")
    with program.running(*typed, *launcher.overrides, environment=launcher.environment) as started:
        wait_for(lambda: any(program.outputs.glob("sweeps/*/*/history.csv")), started)
        slurm_says(launcher.environment, "scancel", "--me")
        assert started.ends() == 1
    assert sum(jobs_submitted(started.text())) == 1
    assert "cancelled by root: batch_size=25" in started.text()
    assert list(program.table()["status"]) == ["interrupted"]


@on_slurm
def test_after_ctrl_c_the_jobs_go_on_and_a_resume_attaches_to_them_until_they_are_cancelled(program, launcher):
    with program.running(*LONG, *launcher.overrides, environment=launcher.environment) as started:
        wait_for(lambda: any(program.outputs.glob("sweeps/*/*/owner.json")), started)
        started.process.send_signal(signal.SIGINT)
        assert started.ends() == 130
    said = started.text()
    assert "2 jobs still in Slurm's queue; a resume attaches to them, scancel " in said
    with program.running("resume=latest", environment=launcher.environment) as resumed:
        wait_for(lambda: "not submitted again" in resumed.text(), resumed)
        # The one that runs is cancelled, the one that waits then too.
        slurm_says(launcher.environment, "scancel", "--me")
        assert resumed.ends() == 1
    said = resumed.text()
    assert sum(jobs_submitted(said)) == 0
    assert "2 jobs still there, not submitted again: seed=0 and seed=1" in said
    assert "cancelled by root: seed=0 and seed=1" in said
    assert "resume with:" in said
