"""In which order a launcher that trains several runs at once is given them."""

from types import SimpleNamespace

from digits_sweep.config.plan import plan
from digits_sweep.sweep import launch

TYPED = ["-m", "data=mnist_sample", "hydra/launcher=joblib", "trainer.num_epochs=2,30", "data.batch_size=100,5,20"]


def test_the_longest_run_is_started_first_and_equals_as_typed(monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr(launch, "launch_by_hydra", lambda planned, folder, runs: started.extend(runs))
    planned = plan([*TYPED, "seed=0,1"])
    launch._launch_together(planned, SimpleNamespace(folder=tmp_path), planned.runs, screen=None)
    assert [(run.config.trainer.num_epochs, run.config.data.batch_size, run.config.seed) for run in started] == [
        (epochs, size, seed) for epochs, size in [(30, 5), (30, 20), (2, 5), (30, 100), (2, 20), (2, 100)]
        for seed in (0, 1)
    ]  # fmt: skip
