"""`from digits_sweep import run, load_sweep`, as in a notebook."""

import logging
import signal
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from digits_sweep import load_sweep, run
from digits_sweep.errors import DigitsSweepError, InvalidConfig
from tests.commands import FAILS_THEN_COMPLETES

QUICK = ("data=mnist_sample", "trainer.num_epochs=2")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_sweep_without_the_command_line_is_the_sweep_of_the_command_line(program):
    table = load_sweep(run("data.batch_size=500,300", *QUICK))
    program("-m", "data.batch_size=500,300", *QUICK)
    same = ["batch_size", "lr", "final_loss", "test_accuracy", "status", "run_dir"]
    assert table[same].equals(load_sweep(program.sweeps()[-1])[same])


def test_one_run_is_a_sweep_of_one_and_a_stopped_one_is_resumed(capsys):
    sweep = run("data.batch_size=500", *QUICK)
    assert sweep.folder.is_absolute()
    assert list(load_sweep(sweep)["batch_size"]) == [500]
    assert "completed" in capsys.readouterr().out
    assert run(f"resume={sweep}", "trainer.num_epochs=3") == sweep
    assert list(load_sweep(sweep)["epochs"]) == [3]


def test_with_fail_fast_the_first_failure_is_the_last_run():
    sweep = run(*FAILS_THEN_COMPLETES[1:], "trainer.num_epochs=1", "fail_fast=true")
    assert list(load_sweep(sweep)["status"]) == ["failed"]


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


@pytest.mark.parametrize("wrong", ["--help", "-m", ["data.batch_size=5"], {"data.batch_size": 5}, 5, None])
def test_what_is_no_override_is_a_type_error_with_an_example(wrong, tmp_path):
    with pytest.raises(
        TypeError, match=r"must be key=value.*run\('data\.batch_size=100,20', 'trainer\.num_epochs=3'\)"
    ):
        run(wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_is_one_short_error_that_names_it_before_anything_is_written(tmp_path):
    with pytest.raises(InvalidConfig, match=r"data\.batch_size=0: must be") as refusal:
        run("data.batch_size=100,0", *QUICK)
    error = refusal.value
    assert isinstance(error, DigitsSweepError)
    assert error.__suppress_context__
    assert len(traceback.format_exception(error)) <= 4
    # What IPython asks for in the place of a traceback.
    assert error._render_traceback_() == [f"InvalidConfig: {error}"]
    assert list(tmp_path.iterdir()) == []


def state() -> list[object]:
    """What a larger program has set, and a sweep must not leave otherwise."""
    flushes = (torch.tensor(2e-38) / 10).item() == 0
    hydra, handlers = GlobalHydra.instance().hydra, logging.root.handlers[:]
    return [torch.get_num_threads(), flushes, *map(signal.getsignal, SIGNALS), hydra, handlers, Path.cwd()]


@pytest.fixture(params=[False, True], ids=["denormals", "flushed"])
def before(request, tmp_path_factory):
    """The state of a program that calls `run`: threads, denormals, handlers and a Hydra of its own."""
    folder = tmp_path_factory.mktemp("theirs")
    (folder / "config.yaml").write_text("theirs: 1\n")
    threads, handler = torch.get_num_threads(), signal.signal(signal.SIGTERM, lambda *_: None)
    torch.set_num_threads(3)
    torch.set_flush_denormal(request.param)
    with initialize_config_dir(str(folder), version_base="1.3"):
        yield state()
    torch.set_num_threads(threads)
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.full
@pytest.mark.parametrize("overrides", [("data.batch_size=500",), ("data.batch_size=0",), ("data.batch_size=4001",)])
def test_everything_is_as_before_when_it_returns_or_raises(before, overrides):
    with suppress(InvalidConfig):
        run(*overrides, "data=mnist_sample", "trainer.num_epochs=1")
    assert state() == before


def test_everything_is_as_before_when_it_is_stopped(before, monkeypatch):
    def stopped(screen, *row) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("digits_sweep.shell.RunOnScreen.epoch", stopped)
    with pytest.raises(KeyboardInterrupt):
        run("data.batch_size=500", *QUICK)
    assert state() == before


def test_it_runs_in_a_thread(before):
    with ThreadPoolExecutor(1) as threads:
        sweep = threads.submit(run, "data.batch_size=500", *QUICK).result()
    assert list(load_sweep(sweep)["status"]) == ["completed"]
    assert state() == before
