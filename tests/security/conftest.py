"""A small recorded sweep, as somebody might send it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Program

SWEEP = ("-m", "data=mnist_sample", "data.batch_size=1000,500", "model.hidden_size=4", "trainer.num_epochs=2")


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep of two runs of two epochs."""
    program = Program(tmp_path_factory.mktemp("recorded"))
    done = program(*SWEEP)
    assert done.returncode == 0, done.stdout + done.stderr
    return program.sweep()


@pytest.fixture
def received(recorded: Path, program: Program) -> Path:
    """A copy of it, where `resume=latest` finds it."""
    folder = program.outputs / "sweeps" / "received"
    shutil.copytree(recorded, folder)
    return folder


def change_manifest(sweep: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change `sweep.json`, which has no checksum."""
    path = sweep / "sweep.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
