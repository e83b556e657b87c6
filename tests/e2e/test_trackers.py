"""Trackers: what a sweep tells others, read back from where they keep it."""

import json
import socket
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from digits_sweep.results.files import previous
from tests.servers import free_ports, running, wait_for

QUICK = ("data=mnist_sample", "trainer.num_epochs=3")


def losses(run_dir: Path) -> list[float]:
    return list(pd.read_csv(run_dir / "history.csv")["loss_mean"])


def scalars(run_dir: Path, name: str) -> list[float]:
    """What TensorBoard's own reader finds in the run's event files, by epoch."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_dir / "tensorboard"))
    events.Reload()
    return [event.value for event in sorted(events.Scalars(name), key=lambda event: event.step)]


def test_without_a_tracker_nothing_of_them_is_imported_or_written(program):
    program("data.batch_size=500", *QUICK)
    assert sorted(path.name for path in program.outputs.iterdir()) == ["summary.csv", "sweeps"]
    assert list(program.sweeps()[0].glob("*/trackers.json")) == []


def test_tensorboard_has_every_epoch_of_every_run(program):
    pytest.importorskip("tensorboard")
    finished = program("-m", "data.batch_size=500,300", "tracker=tensorboard", *QUICK)
    assert finished.returncode == 0, finished.stderr
    for run_dir in (path.parent for path in program.sweeps()[0].glob("*/record.json")):
        assert scalars(run_dir, "loss_mean") == pytest.approx(losses(run_dir), rel=1e-6)
        assert scalars(run_dir, "final_loss") == pytest.approx(losses(run_dir)[-1:], rel=1e-6)


def test_an_old_sweep_is_told_by_going_on_with_it_and_more_epochs_are_added(program):
    pytest.importorskip("tensorboard")
    program("-m", "data.batch_size=500,300", *QUICK)
    sweep = program.sweeps()[0]
    program(f"resume={sweep}", "tracker=tensorboard")
    (run_dir,) = sweep.glob("*=500")
    assert len(scalars(run_dir, "loss_mean")) == 3
    program(f"resume={sweep}", "tracker=tensorboard", "trainer.num_epochs=5")
    assert scalars(run_dir, "loss_mean") == pytest.approx(losses(run_dir), rel=1e-6)


def test_what_a_tracker_was_told_is_not_a_result_and_may_be_lost(program):
    pytest.importorskip("tensorboard")
    program("data.batch_size=500", "tracker=tensorboard", *QUICK)
    (told,) = program.sweeps()[0].glob("*/trackers.json")
    told.write_text("no JSON")
    resumed = program(f"resume={program.sweeps()[0]}", "trainer.num_epochs=4")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(told.read_text())["tensorboard"]["epochs"] == 4
    assert not previous(told).exists()


def test_a_tracker_that_fails_is_told_once_and_changes_nothing(program):
    pytest.importorskip("tensorboard")
    overrides = (
        "-m",
        "data.batch_size=500,300",
        "tracker=tensorboard",
        "tracker.tensorboard.folder=record.json",
        *QUICK,
    )
    finished = program(*overrides)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("WARNING: tracker tensorboard is off from here") == 1
    assert list(pd.read_csv(program.outputs / "summary.csv")["status"]) == ["completed"] * 2


def test_a_tracker_that_is_not_installed_is_refused_with_what_installs_it(program):
    try:
        import wandb  # noqa: F401
    except ImportError:
        refused = program("data.batch_size=500", "tracker=[tensorboard,wandb]", *QUICK)
        assert refused.returncode == 1
        assert refused.stderr == "tracker=wandb: wandb is not installed; pip install 'digits-sweep[wandb]'\n"
        assert not program.outputs.exists()
    else:
        pytest.skip("wandb is installed here")


# MLflow's own use of SQLAlchemy.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_mlflow_has_every_run_with_its_configuration_and_its_folder(program):
    mlflow = pytest.importorskip("mlflow")
    finished = program("-m", "data.batch_size=500,300", "tracker=mlflow", *QUICK)
    assert finished.returncode == 0, finished.stderr
    client = mlflow.MlflowClient(f"sqlite:///{program.outputs / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("digits_sweep")
    runs = {run.data.params["data.batch_size"]: run for run in client.search_runs([experiment.experiment_id])}
    assert sorted(runs) == ["300", "500"]
    for size, run in runs.items():
        (run_dir,) = program.sweeps()[0].glob(f"*={size}")
        history = client.get_metric_history(run.info.run_id, "loss_mean")
        assert [metric.value for metric in history] == losses(run_dir)
        assert run.info.status == "FINISHED"
        assert "record.json" in {file.path for file in client.list_artifacts(run.info.run_id)}


def test_the_page_of_mlflow_shows_the_runs(program, tmp_path, browser):
    pytest.importorskip("mlflow")
    program("-m", "data.batch_size=500,300", "tracker=mlflow", *QUICK)
    (port,) = free_ports(1)
    server = [Path(sys.executable).with_name("mlflow"), "server", "--host", "127.0.0.1", "--port", port]
    store = f"sqlite:///{program.outputs / 'mlflow.db'}"
    with running(*server, "--workers", 1, "--backend-store-uri", store, output=tmp_path / "mlflow.out"):
        wait_for(lambda: _answers(port))
        browser.get(f"http://127.0.0.1:{port}/#/experiments/1/runs")
        name = program.sweeps()[0].name
        shown = "return document.body.innerText"
        wait_for(lambda: all(f"{name}/batch_size={size}" in browser.execute_script(shown) for size in (500, 300)))


def _answers(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def test_a_server_that_is_not_there_costs_no_result(program):
    pytest.importorskip("mlflow")
    finished = program("data.batch_size=500", "tracker=mlflow", "tracker.mlflow.uri=http://127.0.0.1:9", *QUICK)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("WARNING: tracker mlflow is off from here") == 1


def test_weights_and_biases_keeps_an_offline_run_that_can_be_sent_later(program):
    pytest.importorskip("wandb")
    finished = program("data.batch_size=500", "tracker=wandb", *QUICK)
    assert finished.returncode == 0, finished.stderr
    assert len(list((program.outputs / "wandb").glob("offline-run-*/run-*.wandb"))) == 1


def test_several_trackers_are_told_at_once(program):
    pytest.importorskip("mlflow")
    program("data.batch_size=500", "tracker=[tensorboard,mlflow]", *QUICK)
    (told,) = program.sweeps()[0].glob("*/trackers.json")
    assert {name: state["ended"] for name, state in json.loads(told.read_text()).items()} == {
        "tensorboard": "completed",
        "mlflow": "completed",
    }
    with closing(sqlite3.connect(program.outputs / "mlflow.db")) as store:
        assert store.execute("select count(*) from runs").fetchone() == (1,)
