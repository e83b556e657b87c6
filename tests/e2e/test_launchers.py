"""The same sweep, whichever launcher starts its runs."""

import json
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from digits_sweep.config.launchers import LAUNCHERS
from tests.commands import Program
from tests.killing import assert_same_results
from tests.servers import Started, free_ports, running, wait_for
from tests.slurm import cluster, missing

# Another number of threads may round otherwise, and runs side by side get fewer.
SWEEP = ("-m", "data.batch_size=500,300,100", "data=mnist_sample", "trainer.num_epochs=3", "num_threads=1")
EPOCHS = 100
LONG = ("-m", "seed=0,1,2", "data=mnist_sample", f"trainer.num_epochs={EPOCHS}", "num_threads=1")

# What a launcher wants typed beside its name, the fixture of the cluster that it works with, and its plugin.
TYPED = {"joblib": ["hydra.launcher.n_jobs=2"], "slurm": ["hydra.launcher.mem_gb=1"]}
TYPED["submitit_slurm"] = [*TYPED["slurm"], "hydra.launcher.cpus_per_task=1"]
CLUSTERS = {"slurm": "slurm", "submitit_slurm": "slurm", "ray_cluster": "ray"}
PLUGINS = {"joblib": "hydra_joblib_launcher", "slurm": "hydra_submitit_launcher", "ray": "hydra_ray_launcher"}
QUICK = ("joblib",)


@dataclass(frozen=True)
class Launcher:
    """What a command line says to use it, and the environment that it is found in."""

    overrides: tuple[str, ...]
    environment: dict[str, str] | None


def each_of(names: Sequence[str]) -> pytest.MarkDecorator:
    """Parametrize a test over launchers; those that want a cluster or are slow are for `make test-all`."""
    cases = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.full) for name in names]
    return pytest.mark.parametrize("launcher", cases, indirect=True)


@pytest.fixture
def launcher(request: pytest.FixtureRequest) -> Launcher:
    name = request.param
    pytest.importorskip(f"hydra_plugins.{PLUGINS[LAUNCHERS[name].extra]}")
    environment = request.getfixturevalue(CLUSTERS[name]) if name in CLUSTERS else None
    return Launcher((f"hydra/launcher={name}", *TYPED.get(name, [])), environment)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Slurm cluster with slurmctld, slurmd and accounts on this machine."""
    if reason := missing():
        pytest.skip(reason)
    with cluster(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


@pytest.fixture(scope="module")
def ray() -> Iterator[dict[str, str]]:
    """A Ray cluster that was started beforehand, in another folder than any sweep's, with a token of its own."""
    (port,) = free_ports(1)
    # Its sockets lie in this folder, and their paths must be short.
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "RAY_TMPDIR": folder,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            # Other programs on this machine may take its memory: Ray would kill the workers for it.
            "RAY_memory_monitor_refresh_ms": "0",
        }
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
    assert program(*SWEEP).returncode == 0
    return program.sweep()


@each_of([name for name, row in LAUNCHERS.items() if not row.in_process])
def test_every_launcher_gives_the_same_bits_and_one_table(program, serial, launcher):
    finished = program.process(*SWEEP, *launcher.overrides, env=launcher.environment)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert_same_results(program.sweep(), serial)
    assert list(program.table()["batch_size"]) == [500, 300, 100]
    assert list(program.table()["status"]) == ["completed"] * 3


@each_of(["joblib", "slurm", "ray_cluster"])
def test_a_killed_worker_costs_no_run(program, launcher):
    with program.running(*LONG, *launcher.overrides, environment=launcher.environment) as started:
        os.kill(_worker(_a_run_under_way(program, started)), signal.SIGKILL)
        assert started.ends() == 0, started.text()
    assert list(program.table()["epochs"]) == [EPOCHS] * 3
    assert program.table()["resumes"].max() == 1


@each_of(["slurm"])
def test_a_preempted_job_is_queued_again_and_resumes_after_its_last_epoch(program, launcher):
    with program.running(*LONG, *launcher.overrides, environment=launcher.environment) as started:
        run_dir = _a_run_under_way(program, started)
        os.kill(_worker(run_dir), signal.SIGUSR2)
        assert started.ends() == 0, started.text()
    table = program.table().set_index("run_dir")
    assert list(table["epochs"]) == [EPOCHS] * 3
    assert table.loc[run_dir.relative_to(program.outputs).as_posix(), "resumes"] == 1


@each_of(["slurm"])
def test_jobs_that_outlive_their_sweep_are_waited_for_when_it_is_resumed(program, launcher):
    with program.running(*LONG, *launcher.overrides, environment=launcher.environment) as started:
        _a_run_under_way(program, started)
        started.process.kill()
    resumed = program.process("resume=latest", env=launcher.environment)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert list(program.table()["epochs"]) == [EPOCHS] * 3
    assert list(program.table()["resumes"]) == [0] * 3


def _a_run_under_way(program: Program, sweep: Started) -> Path:
    """Return the folder of a run that has finished some epochs and is still training."""
    found: list[Path] = []

    def is_there() -> bool:
        running = (path.parent for path in program.outputs.glob("sweeps/*/*/owner.json"))
        found[:] = [path for path in running if (path / "checkpoint.pt.previous").exists()]
        return bool(found)

    wait_for(is_there, sweep)
    return found[0]


def _worker(run_dir: Path) -> int:
    return int(json.loads((run_dir / "owner.json").read_text())["pid"])


@pytest.mark.skipif(find_spec("hydra_plugins.hydra_ray_launcher") is not None, reason="its extra is installed here")
def test_a_launcher_that_is_not_installed_is_refused_with_what_installs_it(program):
    refused = program("-m", "seed=0,1", "hydra/launcher=ray")
    assert refused.returncode == 1
    assert "pip install -e '.[ray]'" in refused.stderr
