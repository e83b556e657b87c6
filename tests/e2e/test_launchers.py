"""The same sweep, whoever launches its runs."""

import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from digits_sweep.training.device import usable_cores
from tests.conftest import Program
from tests.killing import assert_same_results, start
from tests.servers import free_ports, running, wait_for
from tests.slurm import cluster, missing

# Another number of threads may round otherwise, and runs side by side get fewer.
SWEEP = ("-m", "data.batch_size=500,300,100", "data=mnist_sample", "trainer.num_epochs=3", "num_threads=1")
LONG = ("-m", "seed=0,1,2", "data=mnist_sample", "trainer.num_epochs=150")
TWO_AT_ONCE = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


@dataclass(frozen=True)
class Launcher:
    """What a command line says to use it, and the environment that it is found in."""

    overrides: tuple[str, ...]
    environment: dict[str, str] | None = None


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """A Slurm cluster with slurmctld, slurmd and accounts on this machine."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    if reason := missing():
        pytest.skip(reason)
    with cluster(tmp_path_factory.mktemp("slurm")) as environment:
        yield Launcher(("hydra/launcher=slurm", "hydra.launcher.mem_gb=1"), environment)


@pytest.fixture(scope="module")
def ray() -> Iterator[Launcher]:
    """A Ray cluster that was started beforehand, in another folder than any sweep's."""
    pytest.importorskip("ray")
    (port,) = free_ports(1)
    # Its sockets lie in this folder, and their paths must be short.
    with tempfile.TemporaryDirectory() as folder:
        output, environment = Path(folder, "out"), os.environ | {"RAY_TMPDIR": folder, "RAY_AUTH_MODE": "token"}
        command = [
            Path(sys.executable).with_name("ray"), "start", "--head", "--block", f"--port={port}", "--num-cpus=2",
            "--include-dashboard=false", "--disable-usage-stats",
        ]  # fmt: skip
        with running(*command, output=output, environment=environment):
            wait_for(lambda: b"Ray runtime started" in output.read_bytes())
            yield Launcher(("hydra/launcher=ray_cluster",), environment | {"RAY_ADDRESS": f"127.0.0.1:{port}"})


@pytest.fixture(scope="module")
def joblib() -> Launcher:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    return Launcher(TWO_AT_ONCE)


@pytest.fixture(scope="module")
def submitit_local() -> Launcher:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    return Launcher(("hydra/launcher=submitit_local",))


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = Program(tmp_path_factory.mktemp("serial"))
    assert program(*SWEEP).returncode == 0
    return program.sweeps()[0]


@pytest.mark.parametrize("name", ["joblib", "submitit_local", "slurm", "ray"])
def test_every_launcher_gives_the_same_bits_and_one_table(program, serial, name, request):
    launcher = request.getfixturevalue(name)
    finished = program(*SWEEP, *launcher.overrides, environment=launcher.environment)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert_same_results(program.sweeps()[0], serial)
    table = pd.read_csv(program.outputs / "summary.csv")
    assert list(table["batch_size"]) == [500, 300, 100]
    assert list(table["status"]) == ["completed"] * 3


@pytest.mark.parametrize("name", ["joblib", "slurm", "ray"])
def test_a_killed_worker_costs_no_run(tmp_path, name, request):
    launcher = request.getfixturevalue(name)
    process = start(tmp_path, *LONG, *launcher.overrides, environment=launcher.environment)
    run_dir = _a_run_under_way(tmp_path)
    os.kill(_worker(run_dir), signal.SIGKILL)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    table = pd.read_csv(tmp_path / "outputs" / "summary.csv")
    assert list(table["epochs"]) == [150] * 3
    assert table["resumes"].max() == 1


def test_a_preempted_job_is_queued_again_and_goes_on_after_its_last_epoch(tmp_path, slurm):
    process = start(tmp_path, *LONG, *slurm.overrides, environment=slurm.environment)
    run_dir = _a_run_under_way(tmp_path)
    os.kill(_worker(run_dir), signal.SIGUSR2)
    output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output
    table = pd.read_csv(tmp_path / "outputs" / "summary.csv").set_index("run_dir")
    assert list(table["epochs"]) == [150] * 3
    assert table.loc[run_dir.relative_to(tmp_path / "outputs").as_posix(), "resumes"] == 1


def test_jobs_that_outlive_their_sweep_are_waited_for_when_it_goes_on(tmp_path, slurm):
    process = start(tmp_path, *LONG, *slurm.overrides, environment=slurm.environment)
    _a_run_under_way(tmp_path)
    process.kill()
    process.communicate()
    resumed = start(tmp_path, "resume=latest", environment=slurm.environment)
    output, _ = resumed.communicate(timeout=240)
    assert resumed.returncode == 0, output
    table = pd.read_csv(tmp_path / "outputs" / "summary.csv")
    assert list(table["epochs"]) == [150] * 3
    assert list(table["resumes"]) == [0] * 3


def _a_run_under_way(folder: Path) -> Path:
    """A run that has finished some epochs and is still training."""

    def under_way() -> list[Path]:
        running = (path.parent for path in folder.glob("outputs/sweeps/*/*/owner.json"))
        return [path for path in running if (path / "checkpoint.pt.previous").exists()]

    wait_for(lambda: bool(under_way()))
    return under_way()[0]


def _worker(run_dir: Path) -> int:
    return int(json.loads((run_dir / "owner.json").read_text())["pid"])


def test_timings_taken_side_by_side_are_marked(program, joblib):
    finished = program("-m", "seed=0,1", "data=mnist_sample", "trainer.num_epochs=200", *joblib.overrides)
    assert list(pd.read_csv(program.outputs / "summary.csv")["concurrent_runs"]) == [2, 2]
    assert finished.stdout.count("(2 at once)") == 2


@pytest.mark.parametrize("variable", ["OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"])
def test_a_run_takes_no_more_cores_than_its_launcher_gives_it(monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    assert usable_cores() == 1


def test_a_launcher_that_is_not_installed_is_named_with_what_installs_it(program):
    try:
        import hydra_plugins.hydra_ray_launcher  # noqa: F401
    except ImportError:
        refused = program("-m", "seed=0,1", "hydra/launcher=ray")
        assert refused.returncode == 1
        assert "pip install 'digits-sweep[ray]'" in refused.stderr
    else:
        pytest.skip("hydra-ray-launcher is installed here")
