"""`from digits_sweep import run, load_sweep`, as in a notebook."""

import subprocess
import sys

import pytest

from digits_sweep import load_sweep, run
from digits_sweep.errors import DigitsSweepError, InvalidConfig
from tests.commands import FAILS_THEN_COMPLETES

QUICK = ("data=mnist_sample", "trainer.num_epochs=2")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_sweep_without_the_command_line_is_the_sweep_of_the_command_line(program):
    table = load_sweep(run("data.batch_size=500,300", *QUICK))
    program("-m", "data.batch_size=500,300", *QUICK)
    same = ["batch_size", "lr", "final_loss", "test_accuracy", "status", "run_dir"]
    assert table[same].equals(load_sweep(program.sweeps()[-1])[same])


def test_one_run_is_a_sweep_of_one(capsys):
    folder = run("data.batch_size=500", *QUICK)
    assert list(load_sweep(folder)["batch_size"]) == [500]
    assert "completed" in capsys.readouterr().out


def test_a_mistake_is_an_exception_that_names_it_before_anything_is_written(tmp_path):
    with pytest.raises(InvalidConfig, match=r"data\.batch_size=0: must be") as refusal:
        run("data.batch_size=100,0", *QUICK)
    assert isinstance(refusal.value, DigitsSweepError)
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_sweep_is_resumed():
    folder = run("data.batch_size=500", *QUICK)
    assert run(f"resume={folder}", "trainer.num_epochs=3") == folder
    assert list(load_sweep(folder)["epochs"]) == [3]


def test_with_fail_fast_the_first_failure_is_the_last_run():
    folder = run(*FAILS_THEN_COMPLETES[1:], "trainer.num_epochs=1", "fail_fast=true")
    assert list(load_sweep(folder)["status"]) == ["failed"]


def test_the_package_itself_is_imported_without_torch():
    program = (
        "import sys, digits_sweep; print('torch' in sys.modules, {'load_sweep', 'run'} <= set(digits_sweep.__all__))"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
    assert printed.strip() == "False True"


@pytest.mark.parametrize("override", ["dry_run=true", "hydra/launcher=joblib"])
def test_what_only_the_command_line_can_do_is_refused(override):
    with pytest.raises(InvalidConfig, match="for the command line"):
        run("data=mnist_sample", override)
