"""The engine of a run that continues: the one it started with, even if `engine=auto` would take another one now."""

import shutil
from pathlib import Path

import pytest

from digits_sweep.config.plan import plan
from digits_sweep.config.schema import Config
from digits_sweep.results.record import Status
from digits_sweep.sweep.run import run
from digits_sweep.training.engines.native import NativeEngine
from tests.commands import Program
from tests.killing import losses, weights
from tests.workloads import ADAM, workload

COMPILES = NativeEngine.refusal(workload().model, ADAM, workload().device) is None
needs_compiler = pytest.mark.skipif(not COMPILES, reason="there is no C compiler")
KEYS = ("data=mnist_sample", "data.batch_size=1500", "model.hidden_size=2", "device=cpu")
NO_COMPILER = "no_such_compiler"


def config(epochs: int, *more: str) -> Config:
    return plan([*KEYS, f"trainer.num_epochs={epochs}", *more]).settings


@pytest.fixture(scope="module")
def started_without_a_compiler(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("without") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CC", NO_COMPILER)
        recorded = run(config(2), folder)
    assert recorded.row["engine"] == "closed_form"
    return folder


@needs_compiler
def test_a_run_without_a_compiler_keeps_its_engine_and_its_reason_when_there_is_one(
    started_without_a_compiler, tmp_path
):
    run_dir = shutil.copytree(started_without_a_compiler, tmp_path / "run")
    recorded = run(config(3), run_dir)
    assert (recorded.status, recorded.row["engine"]) == (Status.COMPLETED, "closed_form")
    assert f"not native: no C compiler ({NO_COMPILER}) on this machine" in recorded.record.engine_reason
    run(config(3, "engine=closed_form"), tmp_path / "undisturbed")
    assert losses(run_dir) == losses(tmp_path / "undisturbed")
    assert all(one.equal(other) for one, other in zip(weights(run_dir), weights(tmp_path / "undisturbed"), strict=True))


@needs_compiler
def test_a_run_in_c_is_not_resumed_without_a_compiler(tmp_path, monkeypatch):
    assert run(config(1), tmp_path / "run").row["engine"] == "native"
    monkeypatch.setenv("CC", NO_COMPILER)
    recorded = run(config(2), tmp_path / "run")
    assert recorded.status == Status.FAILED
    expected = f"engine was native when this run started; engine=native: no C compiler ({NO_COMPILER}) on this machine"
    assert recorded.record.error.rstrip().endswith(expected)


@needs_compiler
def test_a_dry_run_names_the_engine_that_a_resumed_run_keeps(program: Program, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("CC", NO_COMPILER)
        assert program(*KEYS, "trainer.num_epochs=1").returncode == 0
    finished = program("resume=latest", "trainer.num_epochs=2", "dry_run=true")
    assert finished.returncode == 0, finished.stderr
    assert "closed_form" in finished.stdout
    assert "native" not in finished.stdout
