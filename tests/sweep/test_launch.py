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
