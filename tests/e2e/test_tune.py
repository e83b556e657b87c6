"""`python -m digits_sweep.tune`: the search for learning rate and weight decay."""

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from digits_sweep.config.rules import InvalidConfig
from digits_sweep.results.summary import load_sweep
from digits_sweep.tune.settings import read_settings

QUICK = (
    "data=mnist_sample",
    "data.batch_size=100",
    "trainer.num_epochs=4",
    "trainer.loss_threshold=2.2",
    "tune.study=s",
)


def trials(folder: Path) -> list[tuple[int, str]]:
    with closing(sqlite3.connect(folder / "outputs" / "tune" / "s.db")) as store:
        return store.execute("select number, state from trials order by number").fetchall()


def of_state(folder: Path, *states: str) -> int:
    return sum(state in states for _, state in trials(folder))


@pytest.fixture
def tune(program):
    pytest.importorskip("optuna")
    return lambda *arguments: program(*QUICK, *arguments, module="digits_sweep.tune")


@pytest.mark.parametrize("objective", ["seconds_to_threshold", "epochs_to_threshold", "final_loss"])
def test_every_trial_is_a_recorded_run_and_the_best_come_first(tune, tmp_path, objective):
    finished = tune("tune.trials=6", f"tune.objective={objective}", "tune.lr=[1e-4,1e-1]")
    assert finished.returncode == 0, finished.stderr
    assert of_state(tmp_path, "COMPLETE", "PRUNED") == 6
    runs = load_sweep(tmp_path / "outputs" / "tune" / "s")
    assert len(runs) == 6
    column = {"epochs_to_threshold": "first_epoch_below_threshold"}.get(objective, objective)
    best = runs.sort_values(column).iloc[0]
    table = finished.stdout[finished.stdout.index("trial  lr") :].splitlines()
    assert table[1].split()[0] == str(int(best["run_dir"].removeprefix("trial_")))


def test_the_rates_of_the_lesson_are_tried_first(tune, tmp_path):
    tune("tune.trials=2")
    assert list(load_sweep(tmp_path / "outputs" / "tune" / "s")["lr"]) == [1e-4, 1e-6]


def test_a_trial_that_cannot_win_any_more_is_cut_short_and_says_why(tune, tmp_path):
    # 1e-1 gets there in its first epoch, so that 1e-6 is without a chance after one.
    tune("tune.trials=1", "tune.start_from_lesson=false", "tune.lr=[0.01,0.0100001]")
    tune(
        "tune.trials=2", "tune.start_from_lesson=false", "tune.lr=[1e-7,1.1e-7]", "tune.objective=seconds_to_threshold"
    )
    second = load_sweep(tmp_path / "outputs" / "tune" / "s").iloc[1]
    assert second["status"] == "interrupted"
    assert second["error"].startswith("pruned after epoch ")
    assert second["epochs"] < 4


def test_without_pruning_every_trial_is_trained_to_its_end(tune, tmp_path):
    tune("tune.trials=3", "tune.prune=false", "tune.objective=final_loss")
    assert list(load_sweep(tmp_path / "outputs" / "tune" / "s")["epochs"]) == [4, 4, 4]


def test_a_study_is_gone_on_with_and_never_has_more_trials_than_asked_for(tune, tmp_path):
    tune("tune.trials=2")
    tune("tune.trials=4")
    again = tune("tune.trials=4")
    assert of_state(tmp_path, "COMPLETE", "PRUNED") == len(trials(tmp_path)) == 4
    assert "epoch" not in again.stdout.partition("trial  lr")[0]


def test_a_study_takes_no_trials_of_another_configuration(tune):
    tune("tune.trials=1")
    refused = tune("tune.trials=2", "model.hidden_size=64")
    assert refused.returncode == 1
    assert "tune.study=s: model.hidden_size was 128, is now 64" in refused.stderr


def test_two_processes_share_a_study(tmp_path):
    pytest.importorskip("optuna")
    command = [sys.executable, "-m", "digits_sweep.tune", *QUICK, "tune.trials=8"]
    both = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=240)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    # Each process ends with the trial that it is in when the study is full.
    assert of_state(tmp_path, "COMPLETE", "PRUNED") in (8, 9)
    assert all("epoch" in output.partition("trial  lr")[0] for output in outputs)


def test_a_stopped_search_goes_on_with_the_very_trial_it_was_stopped_in(tmp_path):
    pytest.importorskip("optuna")
    long = [*QUICK, "tune.trials=3", "trainer.num_epochs=300", "tune.objective=final_loss", "tune.prune=false"]
    command = [sys.executable, "-m", "digits_sweep.tune", *long]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("  epoch  50/"):
            break
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert finished.returncode == 0, finished.stderr
    runs = load_sweep(tmp_path / "outputs" / "tune" / "s")
    assert list(runs["epochs"]) == [300] * 3
    assert sorted(runs["resumes"]) == [0, 0, 1]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["tune.objective=loss"], "tune.objective=loss: choose"),
        (["tune.trials=0"], "tune.trials=0: must be"),
        (["tune.trials=many"], "tune.trials=many: "),
        (["tune.lr=[1,0.1]"], r"tune.lr=\[1.0, 0.1\]: must be"),
        (["tune.lr=[0,0.1]"], r"tune.lr=\[0.0, 0.1\]: must be"),
        (["tune.rate=1"], "tune.rate=1: "),
        (["-m", "data.batch_size=5,20"], "-m: not for a search"),
        (["experiment=lesson"], "experiment=lesson: not for a search"),
        (["hydra/launcher=joblib"], "hydra/launcher=joblib: not for a search"),
        (["tune.lr=[1e-5,1e-3"], "tune.lr="),
        (["tracker=mlflow"], "tracker=mlflow: not for a search"),
        (["optimizer.lr=1e-3"], "optimizer.lr=1e-3: this is what is searched"),
    ],
)
def test_a_mistake_is_refused_by_name_before_anything_is_trained(arguments, named):
    with pytest.raises(InvalidConfig, match=named):
        read_settings(arguments)


def test_a_wrong_key_of_the_runs_is_refused_as_everywhere(tune, tmp_path):
    refused = tune("data.batch_size=0")
    assert refused.returncode == 1
    assert refused.stderr.startswith("data.batch_size=0: must be")
    assert not (tmp_path / "outputs").exists()


def test_help_lists_the_keys_of_a_search_and_trains_nothing(tune, tmp_path):
    printed = tune("--help")
    assert "objective: seconds_to_threshold" in printed.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_study_stays_in_the_outputs_whatever_it_is_called():
    settings, _ = read_settings(["tune.study=../../elsewhere"])
    assert Path(settings.study).name == settings.study


def test_a_store_that_cannot_be_used_is_named(tune):
    refused = tune("tune.trials=1", "tune.storage=nonsense")
    assert refused.returncode == 1
    assert refused.stderr.startswith("tune.storage=nonsense: ")
