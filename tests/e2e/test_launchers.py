"""The same sweep, whoever launches its runs."""

import json
import os
import signal
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Program
from tests.killing import assert_same_results, start, wait_for_epoch

# Another number of threads may round otherwise, and runs side by side get fewer.
SWEEP = ("-m", "data.batch_size=500,300,100", "data=mnist_sample", "trainer.num_epochs=3", "num_threads=1")
TWO_AT_ONCE = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = Program(tmp_path_factory.mktemp("serial"))
    assert program(*SWEEP).returncode == 0
    return program.sweeps()[0]


@pytest.mark.parametrize(
    ("plugin", "launcher"),
    [
        ("hydra_plugins.hydra_joblib_launcher", TWO_AT_ONCE),
        ("hydra_plugins.hydra_submitit_launcher", ("hydra/launcher=submitit_local",)),
    ],
)
def test_every_launcher_gives_the_same_bits_and_one_table(program, serial, plugin, launcher):
    pytest.importorskip(plugin)
    finished = program(*SWEEP, *launcher)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert_same_results(program.sweeps()[0], serial)
    table = pd.read_csv(program.outputs / "summary.csv")
    assert list(table["batch_size"]) == [500, 300, 100]
    assert list(table["status"]) == ["completed"] * 3


def test_timings_taken_side_by_side_are_marked(program):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    finished = program("-m", "seed=0,1", "data=mnist_sample", "trainer.num_epochs=200", *TWO_AT_ONCE)
    assert list(pd.read_csv(program.outputs / "summary.csv")["concurrent_runs"]) == [2, 2]
    assert finished.stdout.count("(2 at once)") == 2


def test_a_killed_worker_costs_no_run(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    process = start(tmp_path, "-m", "seed=0,1,2", "data=mnist_sample", "trainer.num_epochs=150", *TWO_AT_ONCE)
    wait_for_epoch(process, 3)
    owner = next((tmp_path / "outputs" / "sweeps").glob("*/seed=*/owner.json"))
    os.kill(json.loads(owner.read_text())["pid"], signal.SIGKILL)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    table = pd.read_csv(tmp_path / "outputs" / "summary.csv")
    assert list(table["epochs"]) == [150] * 3
    assert table["resumes"].max() == 1


def test_a_launcher_that_is_not_installed_is_named_with_what_installs_it(program):
    try:
        import hydra_plugins.hydra_ray_launcher  # noqa: F401
    except ImportError:
        refused = program("-m", "seed=0,1", "hydra/launcher=ray")
        assert refused.returncode == 1
        assert "pip install 'digits-sweep[ray]'" in refused.stderr
    else:
        pytest.skip("hydra-ray-launcher is installed here")
