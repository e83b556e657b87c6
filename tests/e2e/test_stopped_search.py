"""A search or a study that is stopped: it ends with the runs and the tables of one that nothing happened to."""

import os
import random
import shlex
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

pytest.importorskip("optuna")

from digits_sweep.results.lock import only_writer
from digits_sweep.results.sweep import load_sweep
from digits_sweep.sweep import launch
from tests.commands import Program
from tests.killing import assert_same_results
from tests.searches import CRITICAL, QUICK, STUDY, TUNE

SEARCHES = {
    "rates": (TUNE, (*QUICK, "tune.trials=4", "tune.seeds=3", "tune.confirm=1", "tune.lr=[1e-4,1e-1]")),
    "losses": (TUNE, (*QUICK, "tune.trials=5", "tune.objective=final_loss", "tune.confirm=1")),
    "study": (CRITICAL, STUDY),
}


def folder_of(program: Program) -> Path:
    found = [path.parent for path in program.outputs.glob("*/*/sweep.json")]
    (folder,) = (folder for folder in found if not folder.name.endswith("_confirmed"))
    return folder


def resumed(program: Program, module: str) -> tuple[str, ...]:
    return ("resume=latest",) if module == CRITICAL and any(program.outputs.glob("*/*/study.json")) else ()


@pytest.fixture(scope="module", params=SEARCHES)
def undisturbed(request, tmp_path_factory) -> tuple[Program, str, tuple[str, ...]]:
    program, (module, command) = Program(tmp_path_factory.mktemp("undisturbed")), SEARCHES[request.param]
    program.completes(*command, module=module)
    return program, module, command


def assert_same(program: Program, expected: Program) -> None:
    """Assert that two studies have the same runs, bit for bit, and the same tables but for figures of time."""
    one, other = folder_of(program), folder_of(expected)
    assert_same_results(one, other)
    rates = [load_sweep(folder).set_index("run_dir")[["lr", "weight_decay", "seed"]] for folder in (one, other)]
    pd.testing.assert_frame_equal(*(each.sort_index() for each in rates))
    for name in ("tuning.csv", "steps_to_target.csv"):
        if (other / name).exists():
            assert (one / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.full
def test_it_ends_the_same_if_it_is_stopped_after_every_run(undisturbed, program, monkeypatch):
    expected, module, command = undisturbed
    train, stops = launch.train, 0

    def trained_and_stopped(*arguments, **options):
        train(*arguments, **options)
        raise KeyboardInterrupt

    while stops < 100:
        with monkeypatch.context() as stopping:
            stopping.setattr(launch, "train", trained_and_stopped)
            stopped = program(*command, *resumed(program, module), module=module)
        if stopped.returncode == 0:
            break
        assert stopped.returncode == 130, stopped.stdout + stopped.stderr
        # What is recorded so far is in the table.
        recorded = load_sweep(folder_of(program))
        assert list(pd.read_csv(folder_of(program) / "summary.csv")["run_dir"]) == list(recorded["run_dir"])
        stops += 1
    # A run that pauses is stopped more than once.
    assert stops >= len(list(expected.outputs.glob("*/*/*/record.json")))
    assert_same(program, expected)


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "sent", "code"),
    [("rates", signal.SIGTERM, 143), ("losses", signal.SIGINT, 130), ("study", signal.SIGINT, 130)],
)
def test_a_stopped_one_goes_on_in_the_very_run_by_the_line_that_it_prints(program, monkeypatch, name, sent, code):
    module, command = SEARCHES[name]
    with monkeypatch.context() as stopping:
        lines = []
        stopping.setattr(
            "digits_sweep.shell.RunOnScreen.epoch",
            lambda screen, *row: lines.append(row) or (len(lines) == 3 and signal.raise_signal(sent)),
        )
        stopped = program(*command, module=module)
    assert stopped.returncode == code
    line = stopped.stdout.splitlines()[-1]
    here, _, again = line.removeprefix("resume with: cd ").partition(" && ")
    assert here == str(program.folder)
    assert again.startswith(f"python -m {module} ")
    finished = program.completes(*shlex.split(again)[3:], module=module)
    assert "resuming" in finished.stdout
    table = load_sweep(folder_of(program))
    assert set(table["status"]) == {"completed"}
    assert table["resumes"].iloc[0] <= 1


@pytest.mark.full
def test_a_second_process_is_refused_as_in_the_folder_of_a_sweep(program):
    (program.outputs / "tune" / "s").mkdir(parents=True)
    with only_writer(program.outputs / "tune" / "s"):
        refused = program.process(*QUICK, "tune.trials=2", "hydra/launcher=basic", module=TUNE)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"outputs/tune/s: process {os.getpid()} on ")


@pytest.mark.full
@pytest.mark.parametrize("undisturbed", ["rates", "study"], indirect=True)
def test_killed_again_it_ends_the_same(undisturbed, program):
    expected, module, command = undisturbed
    chance = random.Random(0)
    for _ in range(2):
        typed = (*command, *resumed(program, module), "hydra/launcher=basic")
        with program.running(*typed, module=module) as started:
            runs = chance.randint(1, 4)
            while started.process.poll() is None and started.text().count("  epoch ") < runs:
                time.sleep(0.02)
            time.sleep(chance.uniform(0, 0.5))
            started.process.kill()
            started.ends()
    finished = program.process(*command, *resumed(program, module), "hydra/launcher=basic", module=module)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert_same(program, expected)


@pytest.mark.full
@pytest.mark.parametrize("undisturbed", ["losses", "study"], indirect=True)
def test_workers_are_the_default_and_give_the_same_runs_and_tables(undisturbed, program):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    alone, module, command = undisturbed
    finished = program.process(*command, module=module)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert " runs at a time; hydra/launcher=basic: one after the other" in finished.stdout
    runs = load_sweep(folder_of(program))
    table = pd.read_csv(folder_of(program) / "summary.csv")
    assert list(table["run_dir"]) == list(runs["run_dir"])
    if module == CRITICAL:
        assert (folder_of(program) / "steps_to_target.csv").read_bytes() == (
            folder_of(alone) / "steps_to_target.csv"
        ).read_bytes()
        # Seconds of runs side by side say nothing of this machine.
        cost = table[table["run_dir"].str.startswith("cost_")]
        assert list(cost["batch_size"]) == [100, 400] * 3
        assert set(cost["concurrent_runs"]) == {1}
        assert not pd.read_csv(folder_of(program) / "targets.csv")["run_dir"].str.startswith("cost_").any()
        runs = runs[~runs["run_dir"].str.startswith("cost_")]
    assert len(runs) == len(load_sweep(folder_of(alone)))
    assert sorted(runs["final_loss"]) == sorted(load_sweep(folder_of(alone))["final_loss"])
