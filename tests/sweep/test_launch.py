"""In which order runs are started, whatever starts them, and what a cluster that does not take them does to a sweep."""

import re
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pytest

from digits_sweep.config.plan import plan
from digits_sweep.config.schema import config_from
from digits_sweep.results.record import read_record
from digits_sweep.results.sweep import read_manifest
from digits_sweep.sweep import launch, slurm

TYPED = ["-m", "data=mnist_sample", "trainer.num_epochs=2,30", "data.batch_size=100,5,20", "seed=7,3"]


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_runs_are_started_seed_by_seed_and_the_longest_of_a_seed_first(monkeypatch, tmp_path, launcher):
    started = []

    def train(planned, folder, runs, progress=None):
        started.extend(runs)
        return [launch.Status.COMPLETED] * len(runs)

    monkeypatch.setattr(launch, "launch_by_hydra", train)
    monkeypatch.setattr(launch, "publish_summary", lambda *of_the_sweep: False)
    planned = plan([*TYPED, f"hydra/launcher={launcher}"])
    sweep = SimpleNamespace(folder=tmp_path, refresh=lambda: True, runs={})
    assert launch.launch(planned, sweep, screen=SimpleNamespace(say=print)) == 0
    assert [(run.config.seed, run.config.trainer.num_epochs, run.config.data.batch_size) for run in started] == [
        (seed, epochs, size) for seed in (7, 3)
        for epochs, size in [(30, 5), (30, 20), (2, 5), (30, 100), (2, 20), (2, 100)]
    ]  # fmt: skip


@pytest.mark.parametrize("by_environment", [True, False])
def test_a_ray_cluster_that_does_not_answer_is_one_line_after_the_wait_that_it_states(monkeypatch, by_environment):
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    monkeypatch.setattr(launch, "SECONDS_FOR_A_HEAD", 0.01)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    typed = [] if by_environment else ["hydra.launcher.ray.init.address=127.0.0.1:1"]
    planned = plan([*TYPED, "hydra/launcher=ray_cluster", *typed])
    said: list[str] = []
    assert launch.launch(planned, SimpleNamespace(), SimpleNamespace(say=said.append)) == 1
    (line,) = said
    assert line.startswith("the Ray cluster at 127.0.0.1:1 does not answer for 0.01 s: ")


class Cluster:
    """A Slurm that takes no more than so many jobs of a user, and is done with them whenever it is asked."""

    def __init__(self, most: int) -> None:
        self.most, self.accepted = most, 0
        self.alive: dict[str, list[Path]] = {}

    def submit(self, launcher, packs, token):
        for pack in packs:
            if len(self.alive) >= self.most:
                raise RuntimeError("sbatch: error: QOSMaxSubmitJobPerUserLimit")
            self.accepted += 1
            self.alive[str(self.accepted)] = [Path(launcher.config.hydra.sweep.dir, run) for run in pack]
            yield [slurm.Job(str(self.accepted), token)]

    def queue(self):
        seen, self.alive = self.alive, {}
        for run_dir in chain.from_iterable(seen.values()):
            record = read_record(run_dir)
            launch.train(config_from(record.config), run_dir, record.number, read_manifest(run_dir.parent))
        return dict.fromkeys(seen, slurm.Queued("RUNNING"))


@pytest.fixture
def cluster(monkeypatch):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    made = Cluster(most=2)
    monkeypatch.setattr(slurm, "submit", made.submit)
    monkeypatch.setattr(slurm, "queue", made.queue)
    monkeypatch.setattr(slurm, "SECONDS_BETWEEN_LOOKS", 0.0)
    return made


SMALL = ("-m", "data=mnist_sample", "trainer.num_epochs=1", "hydra/launcher=slurm", "hydra.launcher.runs_per_job=1")


def test_what_a_cluster_takes_no_more_of_is_submitted_when_its_other_jobs_have_ended(program, cluster):
    finished = program(*SMALL, "data.batch_size=500,300,100")
    assert finished.returncode == 0, finished.stdout
    assert "hydra/launcher=slurm: RuntimeError: sbatch: error: QOSMaxSubmitJobPerUserLimit" in finished.stdout
    assert re.findall(r"job submitted \((\d)\)", finished.stdout) == ["1", "2", "3"]
    assert list(program.table()["status"]) == ["completed"] * 3


def test_a_cluster_that_takes_no_job_ends_the_sweep_which_is_resumed_once_it_does(program, cluster):
    cluster.most = 0
    refused = program(*SMALL, "data.batch_size=500,300")
    assert refused.returncode == 1
    assert cluster.accepted == 0
    cluster.most = 2
    assert program("resume=latest").returncode == 0
    assert list(program.table()["status"]) == ["completed"] * 2
