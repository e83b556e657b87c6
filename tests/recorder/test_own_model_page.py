"""docs/own-model.md and docs/own-loop.md: what they show runs, from nothing to a page."""

import re
import sys
from collections.abc import Iterator

import pandas as pd
import pytest
import torch

from digits_sweep.data.loading import _loaded
from tests.commands import Program
from tests.documents import CODE, TEXT, arguments_of

PAGE = "docs/own-model.md"
COMMANDS = [each for each in CODE[PAGE] if each.startswith("python -m")]
LOOPS = "docs/own-loop.md"
(MINE,) = re.findall(r"^```python\n(.*?)^```", TEXT[PAGE], flags=re.MULTILINE | re.DOTALL)
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT[LOOPS], flags=re.MULTILINE | re.DOTALL)
BARE, TRAIN, LOOP, HINT, LIGHTNING, _ = BLOCKS


@pytest.fixture
def folder(program, monkeypatch) -> Iterator[Program]:
    (program.folder / "mine.py").write_text(MINE)
    monkeypatch.chdir(program.folder)
    monkeypatch.syspath_prepend(program.folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield program
    torch.set_num_threads(threads)
    sys.modules.pop("mine", None)
    _loaded.clear()


@pytest.mark.full
def test_ten_lines_and_two_commands_lead_to_a_page(folder):
    assert len(list(filter(None, MINE.splitlines()))) <= 10
    (sweep,) = (each for each in COMMANDS if "-m data=own" in each)
    folder.completes(*arguments_of(sweep), "trainer.num_epochs=1")
    assert list(folder.table()["batch_size"]) == [100, 20, 5]
    assert "python -m digits_sweep.report" in COMMANDS
    folder.completes(module="digits_sweep.report")
    assert (folder.outputs / "report" / "index.html").is_file()


@pytest.mark.full
def test_several_networks_are_a_sweep(folder):
    (command,) = (each for each in COMMANDS if "{width:16}" in each)
    folder.completes(*arguments_of(command), "trainer.num_epochs=1", "data.batch_size=200")
    assert list(folder.table()["parameters"]) == [3 * 9 * width + width + 3 * (width * 196 + 1) for width in (8, 16)]


def assert_recorded(folder: Program, sweep: str, batch_sizes: list[int]) -> None:
    table = pd.read_csv(folder.outputs / "sweeps" / sweep / "summary.csv")
    assert list(table["batch_size"]) == batch_sizes
    assert set(table["status"]) == {"completed"}
    assert (table["seconds_per_epoch"] > 0).all()
    assert len(pd.read_csv(folder.outputs / "sweeps" / sweep / "targets.csv")) == len(batch_sizes)
    printed = folder.completes(f"outputs/sweeps/{sweep}", module="digits_sweep.report")
    assert "passed a test error of 0.1" in printed.stdout
    assert "recorded by digits_sweep.Recorder" in (folder.outputs / "report" / "index.html").read_text()


def test_fifteen_lines_of_change_make_a_bare_script_one_that_is_recorded():
    before, after = BARE.splitlines(), TRAIN.splitlines()
    changed = [line for line in after if line.strip() and line.strip() not in map(str.strip, before)]
    assert len(changed) <= 15


@pytest.mark.full
def test_a_script_is_swept_by_a_command(folder):
    exec(BARE, {})
    (folder.folder / "train.py").write_text(TRAIN)
    (command,) = (each for each in CODE[LOOPS] if each.startswith("python -m digits_sweep -m command="))
    folder.completes(*(each if "seed" not in each else "seed=0" for each in arguments_of(command)))
    table = folder.table()
    assert list(table["batch_size"]) == [100, 20]
    assert list(table["iterations"]) == [40, 200]
    assert set(table["status"]) == {"completed"}
    assert set(table["engine"]) == {"own loop"}
    printed = folder.completes(module="digits_sweep.report")
    assert " passed 0.5 first" in printed.stdout


@pytest.mark.full
def test_a_loop_of_ones_own_is_recorded(folder, capsys):
    exec(LOOP, {})
    assert "examples_to_threshold" in capsys.readouterr().out
    assert_recorded(folder, "my_loop", [100, 20])


@pytest.mark.full
def test_a_loop_that_accumulates_has_a_hint(folder, capsys):
    exec(HINT, {})
    assert "batch_size_hint" in capsys.readouterr().out
    (hint,) = pd.read_csv(folder.outputs / "sweeps" / "hint" / "summary.csv")["batch_size_hint"]
    assert hint > 0


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
def test_a_trainer_of_lightnings_is_recorded(folder, capsys):
    pytest.importorskip("lightning", reason="the extra lightning is not installed")
    exec(LIGHTNING, {})
    assert "test_accuracy" in capsys.readouterr().out
    assert_recorded(folder, "lightning", [100, 20])
    evaluations = pd.read_csv(next((folder.outputs / "sweeps/lightning").glob("*batch_size=100_*/evaluations.csv")))
    assert list(evaluations["iterations"]) == [8, 16, 24]


def test_targets_by_accuracy_are_found(program):
    (command,) = (each for each in COMMANDS if "evaluation.targets.test_error" in each)
    kept = [each for each in arguments_of(command) if not each.startswith(("model=", "data.batch_size="))]
    quick = ["model=linear", "model.head=logits", "optimizer.lr=1e-2", "trainer.num_epochs=1"]
    program.completes(*kept, *quick, "evaluation.targets.test_error=[0.1,0.3]")
    targets = pd.read_csv(program.sweep() / "targets.csv").set_index(["target", "threshold"])
    assert not targets.loc[("test_error", 0.1), "reached"]
    assert targets.loc[("test_error", 0.3), "reached"]
    assert 0 < targets.loc[("test_error", 0.3), "examples"] < 1_500
