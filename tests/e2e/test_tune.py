"""`python -m digits_sweep.tune`: the search for learning rate and weight decay."""

import sys
from functools import partial
from itertools import count

import pytest

from digits_sweep.results.sweep import load_sweep
from digits_sweep.training.stopwatch import Stopwatch
from tests.commands import Program
from tests.searches import QUICK, of_state, trials

pytest.importorskip("optuna")

from digits_sweep.search.tune import OBJECTIVES


@pytest.mark.sampled(6)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_trial_is_a_recorded_run_and_the_best_come_first(tune, found, tmp_path, objective):
    finished = tune("tune.trials=4", f"tune.objective={objective}", "tune.lr=[1e-4,1e-1]")
    assert finished.returncode == 0, finished.stderr
    assert of_state(tmp_path, "COMPLETE", "PRUNED") == 4
    runs = found()
    assert len(runs) == 4
    best = runs.sort_values(OBJECTIVES[objective], kind="stable").iloc[0]
    words = [line.split() for line in finished.stdout.splitlines()]
    header = next(place for place, each in enumerate(words) if each[:2] == ["trial", "lr"])
    assert f"trial_{int(words[header + 1][0]):04d}_seed=42" == best["run_dir"]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("objective", ["seconds_to_threshold", "epochs_to_threshold"])
def test_a_trial_that_cannot_win_any_more_is_cut_short_and_says_why(tune, found, monkeypatch, objective):
    # Every epoch takes one second.
    monkeypatch.setattr("digits_sweep.sweep.run.Stopwatch", partial(Stopwatch, clock=count().__next__))
    fixed = ("tune.start_from_lesson=false", f"tune.objective={objective}")
    tune("tune.trials=1", "tune.lr=[0.01,0.0100001]", *fixed)
    tune("tune.trials=2", "tune.lr=[1e-7,1.1e-7]", *fixed)
    first, second = found().to_dict("records")
    assert first["first_epoch_below_threshold"] < 4
    assert second["status"] == "interrupted"
    assert second["epochs"] <= first["first_epoch_below_threshold"]
    assert second["error"].startswith(f"given up after epoch {second['epochs']}: the best median was below")


def test_a_run_that_needs_more_examples_than_the_best_median_is_given_up_there(tune, found, tmp_path):
    fixed = ("tune.start_from_lesson=false",)
    tune("tune.trials=1", "tune.lr=[0.01,0.0100001]", *fixed)
    tune("tune.trials=2", "tune.lr=[1e-7,1.1e-7]", *fixed)
    first, second = found().to_dict("records")
    assert second["ended"] == "trainer.max_examples reached"
    assert second["iterations"] == first["iterations_to_threshold"]
    assert [state for _, state in trials(tmp_path)] == ["COMPLETE", "PRUNED"]


@pytest.mark.full
def test_a_trial_counts_by_the_median_of_its_seeds_and_the_best_is_confirmed_on_fresh_ones(tune, found, tmp_path):
    command = (
        "tune.trials=2",
        "tune.seeds=3",
        "tune.confirm=2",
        "tune.lr=[0.001,0.01]",
        "tune.start_from_lesson=false",
    )
    finished = tune(*command)
    assert finished.returncode == 0, finished.stderr
    runs = found()
    assert list(runs["seed"][:3]) == [42, 43, 44]
    medians = runs.groupby("lr", sort=False)["examples_to_threshold"].agg(["size", "median"])
    assert set(medians["size"]) <= {2, 3}
    best = medians["median"].min()
    fresh = load_sweep(tmp_path / "outputs" / "tune" / "s_confirmed")
    assert (list(fresh["seed"]), set(fresh["lr"])) == ([45, 46], {medians["median"].idxmin()})
    last = finished.stdout.splitlines()[-2]
    assert "on 2 fresh seeds: examples to threshold " in last
    assert f"in the search {best:,.0f}, " in last
    # Nothing is trained twice.
    again = tune(*command)
    assert again.stdout.splitlines()[-2] == last
    assert "  epoch " not in again.stdout


def test_without_pruning_every_trial_is_trained_to_its_end(tune, found):
    tune("tune.trials=3", "tune.prune=false", "tune.objective=final_loss")
    assert list(found()["epochs"]) == [4, 4, 4]


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Program:
    """A study of two trials."""
    program = Program(tmp_path_factory.mktemp("study"))
    finished = program(*QUICK, "tune.trials=2", module="digits_sweep.tune")
    assert finished.returncode == 0, finished.stderr
    return program


def test_the_rates_of_the_lesson_are_tried_first(study):
    first = load_sweep(study.outputs / "tune" / "s").head(2)
    assert list(first["lr"]) == [1e-4, 1e-6]
    assert list(first["weight_decay"]) == [5e-4, 5e-6]


def test_a_study_takes_no_trials_of_another_configuration(study):
    before = trials(study.folder)
    refused = study(*QUICK, "tune.trials=9", "model.hidden_size=64", module="digits_sweep.tune")
    assert refused.returncode == 1
    assert "tune.study=s: model.hidden_size was 128, is now 64" in refused.stderr
    assert trials(study.folder) == before


def test_a_study_continues_and_never_has_more_trials_than_asked_for(study):
    for _ in range(2):
        finished = study(*QUICK, "tune.trials=4", module="digits_sweep.tune")
        assert finished.returncode == 0, finished.stderr
        assert of_state(study.folder, "COMPLETE", "PRUNED") == len(trials(study.folder)) == 4
    assert "epoch" not in finished.stdout.partition("trial  lr")[0]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["tune.seeds=2"], "tune.seeds=2: must be an odd whole number"),
        (["tune.confirm=-1"], "tune.confirm=-1: must be a whole number from 0"),
        (["data.batch_size=0"], "data.batch_size=0: must be"),
        (["data.batch_size=5000"], "data.batch_size=5000: must be at most 4000"),
        (["engine=closed_form", "model.activation=tanh"], "engine=closed_form: "),
        (["device=cuda:99"], "device=cuda:99: "),
        (["data.batch_size=5,20"], "data.batch_size=100 data.batch_size=5,20: is a sweep of 2 runs"),
        (["-m"], "-m: not for a search"),
    ],
)
def test_a_mistake_is_refused_as_in_a_sweep_before_anything_is_trained(tune, tmp_path, arguments, line):
    refused = tune(*arguments)
    assert refused.returncode == 1
    assert refused.stderr.startswith(line)
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


def test_without_optuna_a_search_is_refused_with_what_installs_it(tune, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    refused = tune()
    assert refused.returncode == 1
    assert refused.stderr == "optuna is not installed; in the checkout, .venv/bin/pip install -e '.[optuna]'\n"
    assert not (tmp_path / "outputs").exists()


def test_help_lists_the_keys_of_a_search_and_trains_nothing(tune, tmp_path):
    printed = tune("--help")
    assert printed.returncode == 0
    assert "objective: examples_to_threshold" in printed.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["nonsense", "sqlite:////no/such/folder/s.db", "postgresql://nowhere/s"])
def test_a_store_that_cannot_be_used_is_named(tune, address):
    refused = tune("tune.trials=1", f"tune.storage={address}")
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"tune.storage={address}: ")
