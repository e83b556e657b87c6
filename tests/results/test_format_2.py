"""A sweep that was recorded by the program of November 24, 2026, in record format 2: read, reported, resumed."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from digits_sweep.results.sweep import load_sweep
from tests.commands import Program
from tests.killing import losses, weights

RECORDED = Path(__file__).parent / "recorded_with_format_2"
EXPECTED = json.loads((RECORDED / "after_4_epochs.json").read_text())


@pytest.fixture
def sweep(program: Program) -> Path:
    """Its two runs, of two epochs each."""
    folder = program.outputs / "sweeps" / "2026-11-26_13-18-12"
    shutil.copytree(RECORDED, folder, ignore=shutil.ignore_patterns("after_4_epochs.json"))
    return folder


def test_its_table_is_read_as_it_was(sweep):
    table = load_sweep(sweep)
    assert list(table["lr"]) == [1e-2, 1e-4]
    assert list(table["epochs"]) == [2, 2]
    assert list(table["status"]) == ["completed"] * 2
    assert table["final_loss"].tolist() == pytest.approx([2.1580, 2.3021], abs=5e-5)


def test_it_is_reported(program, sweep):
    finished = program(module="digits_sweep.report")
    assert finished.returncode == 0, finished.stderr
    assert "not reached in 2 epochs" in finished.stdout
    assert (program.outputs / "report" / "index.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    "command",
    [
        ["resume=latest", "trainer.num_epochs=4"],
        ["resume=latest", "-m", "data=mnist_sample", "data.batch_size=50", "model.hidden_size=2",
         "optimizer.lr=1e-2,1e-4", "trainer.num_epochs=4"],
    ],
    ids=["repeated from its files", "typed again"],
)  # fmt: skip
def test_it_is_resumed_as_the_program_that_recorded_it_would(program, sweep, command):
    finished = program(*command)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert list(pd.read_csv(program.outputs / "summary.csv")["epochs"]) == [4, 4]
    for name, expected in EXPECTED["runs"].items():
        found = losses(sweep / name)
        assert found[:2] == [tuple(row) for row in expected["losses"][:2]]
        if (torch.__version__, torch.backends.cpu.get_cpu_capability()) == (EXPECTED["torch"], EXPECTED["cpu"]):
            assert found == [tuple(row) for row in expected["losses"]]
            assert digest(sweep / name) == expected["state_sha256"]
        else:
            # Another build of torch, or another processor, rounds otherwise.
            theirs = [float(loss) for _, loss, _ in expected["losses"]]
            assert [float(loss) for _, loss, _ in found] == pytest.approx(theirs, abs=1e-4)


def digest(run_dir: Path) -> str:
    import hashlib

    state = hashlib.sha256()
    for tensor in weights(run_dir):
        state.update(tensor.contiguous().numpy().tobytes())
    return state.hexdigest()
