"""`python -m digits_sweep.tune`: the search for learning rate and weight decay."""

import sys
from functools import partial
from itertools import count

import pandas as pd
import pytest

from digits_sweep.results.sweep import load_sweep
from digits_sweep.search.settings import OBJECTIVES
from digits_sweep.training.epochs import Stopwatch
from tests.commands import Program
from tests.searches import QUICK, TUNE

optuna = pytest.importorskip("optuna")

OWN_RATES = ("tune.start_from_lesson=false", "tune.lr=[0.01,0.0100001]")
HOPELESS = ("tune.start_from_lesson=false", "tune.lr=[1e-7,1.1e-7]")


@pytest.mark.sampled(6)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_trial_is_a_recorded_run_and_the_best_come_first(tune, found, objective):
    finished = tune("tune.trials=4", f"tune.objective={objective}", "tune.lr=[1e-4,1e-1]")
    assert finished.returncode == 0, finished.stderr
    runs = found()
    assert list(runs["run_dir"]) == [f"trial_{number:04d}_seed=42" for number in range(4)]
    best = runs.sort_values(OBJECTIVES[objective], kind="stable").iloc[0]
    words = [line.split() for line in finished.stdout.splitlines()]
    header = next(index for index, each in enumerate(words) if each[:2] == ["trial", "lr"])
    assert f"trial_{int(words[header + 1][0]):04d}_seed=42" == best["run_dir"]


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "objective", ["examples_to_threshold", "iterations_to_threshold", "seconds_to_threshold", "epochs_to_threshold"]
)
def test_a_run_that_needs_more_than_the_best_median_is_given_up_there(tune, found, monkeypatch, objective):
    # Every epoch takes one second.
    monkeypatch.setattr("digits_sweep.sweep.run.Stopwatch", partial(Stopwatch, clock=count().__next__))
    tune("tune.trials=1", f"tune.objective={objective}", *OWN_RATES)
    tune("tune.trials=2", f"tune.objective={objective}", *HOPELESS)
    first, second = found().to_dict("records")
    assert second["ended"] == "trainer.max_examples reached"
    if objective == "epochs_to_threshold":
        assert second["epochs"] == first["first_epoch_below_threshold"] < 4
    else:
        assert second["iterations"] == first["iterations_to_threshold"]


@pytest.mark.full
def test_a_trial_counts_by_the_median_of_its_seeds_and_the_best_is_confirmed_on_fresh_ones(tune, found, program):
    rates = ("tune.lr=[0.001,0.01]", "tune.start_from_lesson=false")
    command = ("tune.trials=2", "tune.seeds=3", "tune.confirm=2", *rates)
    finished = tune(*command)
    assert finished.returncode == 0, finished.stderr
    runs = found()
    assert list(runs["seed"][:3]) == [42, 43, 44]
    medians = runs.groupby("lr", sort=False)["examples_to_threshold"].agg(["size", "median"])
    assert set(medians["size"]) <= {2, 3}
    best = medians["median"].min()
    fresh = load_sweep(program.outputs / "tune" / "s_confirmed")
    assert (list(fresh["seed"]), set(fresh["lr"])) == ([45, 46], {medians["median"].idxmin()})
    (line,) = (line for line in finished.stdout.splitlines() if "fresh seeds: " in line)
    assert "on 2 fresh seeds: examples to threshold " in line
    assert f"in the search {best:,.0f}, " in line
    # Nothing is trained twice.
    again = tune(*command)
    assert line in again.stdout
    assert "  epoch " not in again.stdout


@pytest.mark.full
def test_a_run_that_fails_ends_the_search_and_is_trained_again_by_the_same_command(tune, found, program, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr("digits_sweep.sweep.run.train", lambda *arguments, **options: 1 / 0)
        failed = tune("tune.trials=2")
    assert failed.returncode == 1
    assert failed.stderr == "trial_0000_seed=42 failed: ZeroDivisionError: division by zero\n"
    assert list(pd.read_csv(program.outputs / "tune" / "s" / "summary.csv")["status"]) == ["failed"]
    assert tune("tune.trials=2").returncode == 0
    assert list(found()["status"]) == ["completed"] * 2


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Program:
    """A study of two trials."""
    program = Program(tmp_path_factory.mktemp("study"))
    program.completes(*QUICK, "tune.trials=2", module=TUNE)
    return program


def trials(study: Program) -> pd.DataFrame:
    return load_sweep(study.outputs / "tune" / "s")


def test_a_study_takes_no_trials_of_another_configuration(study):
    before = len(trials(study))
    refused = study(*QUICK, "tune.trials=9", "model.hidden_size=64", module=TUNE)
    assert refused.returncode == 1
    assert refused.stderr == "outputs/tune/s/trial_0000_seed=42: model.hidden_size was 128, is now 64\n"
    assert len(trials(study)) == before


def test_a_study_continues_and_never_has_more_trials_than_asked_for(study):
    for _ in range(2):
        # Trials keep the rates that they were tried with, whatever is searched now.
        finished = study.completes(*QUICK, "tune.trials=4", "tune.lr=[1e-3,1e-1]", "tune.seed=9", module=TUNE)
        assert len(trials(study)) == 4
        assert list(trials(study)["lr"] < 1e-3) == [True, True, False, False]
    assert "epoch" not in finished.stdout.partition("trial  lr")[0]


def test_what_a_search_has_recorded_is_a_sweep_with_its_tables_and_a_page(study):
    folder = study.outputs / "tune" / "s"
    assert len(pd.read_csv(folder / "summary.csv")) == len(trials(study)) == len(list(folder.glob("*/record.json")))
    reported = study.completes(str(folder), module="digits_sweep.report")
    assert "| completed" in reported.stdout


def test_without_optuna_a_search_is_refused_with_what_installs_it(tune, program, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    refused = tune()
    assert refused.returncode == 1
    assert refused.stderr == "optuna is not installed; in the checkout, .venv/bin/pip install -e '.[optuna]'\n"
    assert not program.outputs.exists()


# The export for optuna-dashboard


@pytest.mark.full
def test_all_trials_are_exported_at_the_end_and_anew_when_the_study_has_gone_on(tune, found, tmp_path):
    address = f"sqlite:///{tmp_path}/trials.db"
    for number in (2, 3):
        finished = tune(f"tune.trials={number}", f"tune.storage={address}")
        assert finished.returncode == 0, finished.stderr
        exported = optuna.load_study(study_name="s", storage=address).trials
        assert [trial.params["lr"] for trial in exported] == list(found()["lr"])
        assert [trial.state.name for trial in exported[:2]] == ["COMPLETE", "PRUNED"]
        assert exported[0].value == found()["examples_to_threshold"][0]
        assert exported[0].user_attrs["values"] == [str(exported[0].value)]


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("nonsense", ""),
        ("sqlite:////no/such/folder/s.db", ""),
        ("sqlite:///{x}.db", "KeyError: "),
        ("postgresql://nowhere/s", "its driver psycopg"),
        (
            "mysql://nowhere/s",
            "its driver MySQLdb is not installed; in the checkout, .venv/bin/pip install 'mysqlclient'",
        ),
    ],
)
def test_a_storage_that_cannot_be_used_is_refused_before_anything_is_trained(tune, program, address, reason):
    refused = tune("tune.trials=1", f"tune.storage='{address}'")
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"tune.storage={address}: {reason}")
    assert refused.stderr.count("\n") == 1
    assert not program.outputs.exists()


def test_a_study_of_another_program_is_not_replaced(tune, tmp_path):
    address = f"sqlite:///{tmp_path}/trials.db"
    optuna.create_study(study_name="s", storage=address)
    refused = tune("tune.trials=1", f"tune.storage={address}")
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"tune.storage={address}: has a study s of another program")
    assert optuna.load_study(study_name="s", storage=address).trials == []
