"""Modules of the user's: which files belong to one, and that no old code trains under the digest of a new file."""

import sys

import pytest

from digits_sweep import InvalidConfig, OwnCodeFailed, run
from digits_sweep.config import own_code
from digits_sweep.config.own_code import expect_changes, files_of, read_module
from digits_sweep.results.record import read_record

NETWORK = """
from torch import nn
from widths import WIDTH

def net(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, num_classes))
"""
KEYS = {"data": "optdigits", "optimizer": "adamw", "num_epochs": 1, "batch_size": 500, "quiet": True}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working folder of a notebook, whose modules are forgotten after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(own_code, "_read", {})
    (tmp_path / "networks.py").write_text(NETWORK)
    (tmp_path / "widths.py").write_text("WIDTH = 8\n")
    yield tmp_path
    for name in ("networks", "widths"):
        sys.modules.pop(name, None)


def parameters(**keys) -> tuple[int, dict[str, str]]:
    """Train, and return the size of the network that trained, and the digests that its record has."""
    sweep = run(**KEYS | keys)
    record = read_record(sweep.folder / sweep.table["run_dir"][0])
    return record.parameters, record.own_code


def of_width(width: int) -> int:
    return 65 * width + 10 * (width + 1)


def test_a_module_that_is_edited_between_two_cells_is_read_again_and_so_is_what_it_imports(folder):
    named = {"model": "own", "model__target": "networks:net"}
    size, before = parameters(**named)
    assert size == of_width(8)
    assert before.keys() == {"model.target", "widths"}
    # Of the same size, and written in the same second.
    (folder / "widths.py").write_text("WIDTH = 9\n")
    size, after = parameters(**named)
    assert size == of_width(9)
    assert (after["model.target"], after["widths"]) == (before["model.target"], after["widths"])
    assert after["widths"] != before["widths"]
    (folder / "networks.py").write_text(NETWORK.replace("nn.ReLU()", "nn.ReLU(), nn.Linear(WIDTH, WIDTH)"))
    assert parameters(**named)[0] == of_width(9) + 90


def test_a_class_from_before_the_edit_is_refused_by_name_until_it_is_imported_again(folder):
    from networks import net

    assert parameters(model=net)[0] == of_width(8)
    (folder / "widths.py").write_text("WIDTH = 16\n")
    for _again in range(2):
        with pytest.raises(InvalidConfig, match="model=net: networks has changed since it was imp"):
            parameters(model=net)
    from networks import net as again

    assert parameters(model=again)[0] == of_width(16)


def test_a_module_that_was_imported_and_edited_before_the_first_run_is_read_again(folder):
    import networks

    (folder / "networks.py").write_text(NETWORK.replace("nn.ReLU()", "nn.ReLU(), nn.Linear(WIDTH, WIDTH)"))
    assert parameters(model="own", model__target="networks:net")[0] == of_width(8) + 72
    assert networks.net is read_module("networks").net


def test_an_edit_that_cannot_be_read_is_refused_by_name_and_mended(folder):
    named = {"model": "own", "model__target": "networks:net"}
    parameters(**named)
    (folder / "networks.py").write_text("def net(:\n")
    with pytest.raises(OwnCodeFailed, match=r"model\.target=networks:net: cannot be imported"):
        parameters(**named)
    (folder / "networks.py").write_text(NETWORK)
    assert parameters(**named)[0] == of_width(8)


def test_what_is_edited_while_a_sweep_runs_changes_none_of_its_runs(folder):
    expect_changes()
    module = read_module("networks")
    (folder / "widths.py").write_text("WIDTH = 16\n")
    assert read_module("networks") is module
    assert module.WIDTH == 8


def test_the_files_of_a_module_are_those_of_the_working_folder_that_it_imports_wherever(folder):
    (folder / "package" / "inner").mkdir(parents=True)
    for name, text in {
        "package/__init__.py": "from . import layers",
        "package/layers.py": "import torch, json\nfrom .inner import parts\nfrom digits_sweep import run",
        "package/inner/__init__.py": "",
        "package/inner/parts.py": "def late():\n    import helpers\n    from ..layers import no_module",
        "helpers.py": "import numpy, helpers",
        "stranger.py": "",
    }.items():
        (folder / name).write_text(text)
    names = {"package", "package.layers", "package.inner", "package.inner.parts", "helpers"}
    assert files_of("package.layers").keys() == names
    assert files_of("torch") == files_of("json") == files_of("nowhere") == files_of("digits_sweep.run") == {}
