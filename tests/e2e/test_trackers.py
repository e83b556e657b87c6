"""Trackers: what a sweep reports to them, read back from where they keep it."""

from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

QUICK = ("data=mnist_sample", "trainer.num_epochs=3")
# MLflow's own use of SQLAlchemy, and the connections that it leaves open.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def needs(*libraries: str) -> pytest.MarkDecorator:
    missing = [name for name in libraries if find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed")


def losses(run_dir: Path) -> list[float]:
    return list(pd.read_csv(run_dir / "history.csv")["loss_mean"])


def scalars(run_dir: Path, name: str) -> list[float]:
    """What TensorBoard's own reader finds in the run's event files, by epoch."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_dir / "tensorboard"))
    events.Reload()
    return [event.value for event in sorted(events.Scalars(name), key=lambda event: event.step)]


def test_without_a_tracker_there_is_nothing_of_them(program):
    program("data.batch_size=500", *QUICK)
    assert sorted(path.name for path in program.outputs.iterdir()) == ["summary.csv", "sweeps"]
    assert list(program.sweep().glob("*/trackers.json")) == []


@pytest.mark.full
@needs("tensorboard")
def test_tensorboard_has_every_epoch_of_every_run_also_of_a_sweep_that_is_resumed(program):
    program("-m", "data.batch_size=500,300", *QUICK)
    sweep = program.sweep()
    run_dirs = [sweep / "batch_size=500", sweep / "batch_size=300"]
    for epochs in (3, 5):
        program.completes(f"resume={sweep}", "tracker=tensorboard", f"trainer.num_epochs={epochs}")
        for run_dir in run_dirs:
            assert len(losses(run_dir)) == epochs
            assert scalars(run_dir, "loss_mean") == pytest.approx(losses(run_dir), rel=1e-6)
            assert scalars(run_dir, "final_loss")[-1] == pytest.approx(losses(run_dir)[-1], rel=1e-6)


@pytest.mark.full
@needs("tensorboard")
def test_a_tracker_that_fails_is_reported_once_and_changes_nothing(program):
    fails = ("tracker=tensorboard", "tracker.tensorboard.folder=record.json")
    finished = program.completes("-m", "data.batch_size=500,300", *fails, *QUICK)
    assert finished.stdout.count("WARNING: tracker tensorboard is tried again later: ") == 1
    assert list(pd.read_csv(program.outputs / "summary.csv")["status"]) == ["completed"] * 2


def test_a_tracker_that_is_not_installed_is_refused_with_what_installs_it(program, monkeypatch):
    available = {"tensorboard": True}
    monkeypatch.setattr("digits_sweep.trackers.registry.find_spec", available.get)
    refused = program("data.batch_size=500", "tracker=[tensorboard,wandb]", *QUICK)
    line = "tracker=wandb: wandb is not installed; in the checkout, .venv/bin/pip install -e '.[wandb]'\n"
    assert (refused.returncode, refused.stderr) == (1, line)
    assert not program.outputs.exists()


@pytest.mark.full
@needs("mlflow", "tensorboard")
def test_several_trackers_have_every_run_at_once_mlflow_with_its_configuration_and_its_folder(program):
    import mlflow

    program.completes("-m", "data.batch_size=500,300", "tracker=[tensorboard,mlflow]", *QUICK)
    client = mlflow.MlflowClient(f"sqlite:///{program.outputs / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("digits_sweep")
    runs = {run.data.params["data.batch_size"]: run for run in client.search_runs([experiment.experiment_id])}
    assert sorted(runs) == ["300", "500"]
    for size, run in runs.items():
        run_dir = program.sweep() / f"batch_size={size}"
        history = client.get_metric_history(run.info.run_id, "loss_mean")
        assert [metric.value for metric in history] == losses(run_dir)
        assert (run.info.run_name, run.info.status) == (f"{program.sweep().name}/batch_size={size}", "FINISHED")
        assert "record.json" in {file.path for file in client.list_artifacts(run.info.run_id)}
        assert list(pd.read_json(run_dir / "trackers.json").loc["ended"]) == ["completed", "completed"]
        assert scalars(run_dir, "loss_mean") == pytest.approx(losses(run_dir), rel=1e-6)


@pytest.mark.full
@needs("mlflow")
def test_a_server_that_is_not_there_costs_no_result(program):
    finished = program.completes(
        "data.batch_size=500", "tracker=mlflow", "tracker.mlflow.uri=http://127.0.0.1:9", *QUICK
    )
    assert finished.stdout.count("WARNING: tracker mlflow is tried again later: ") == 1


@pytest.mark.full
@needs("wandb")
def test_weights_and_biases_keeps_an_offline_run_that_can_be_sent_later(program):
    program.completes("data.batch_size=500", "tracker=wandb", *QUICK)
    assert len(list((program.outputs / "wandb").glob("offline-run-*/run-*.wandb"))) == 1
