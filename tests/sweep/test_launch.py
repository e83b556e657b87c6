"""In which order runs are started, whatever starts them."""

from types import SimpleNamespace

import pytest

from digits_sweep.config.plan import plan
from digits_sweep.sweep import launch

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
