"""What may be typed for a search."""

from pathlib import Path

import pytest

from digits_sweep.errors import InvalidConfig
from digits_sweep.search.tune import lesson_rates, plan_trials, read_settings


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["tune.objective=loss"], "tune.objective=loss: choose"),
        (["tune.trials=0"], "tune.trials=0: must be"),
        (["tune.trials=1000000000"], "tune.trials=1000000000: must be a whole number from 1 to 100,000"),
        (["tune.trials=many"], "tune.trials=many: "),
        (["tune.lr=[1,0.1]"], r"tune.lr=\[1, 0.1\]: must be"),
        (["tune.lr=[0,0.1]"], r"tune.lr=\[0, 0.1\]: must be"),
        (["tune.lr=[0.1]"], r"tune.lr=\[0.1\]: must be"),
        (["tune.weight_decay=[1e-5,.inf]"], r"tune.weight_decay=\[1e-5, inf\]: must be"),
        (["tune.rate=1"], "tune.rate=1: "),
        (["tune.lr=[1e-5,1e-3"], "tune.lr="),
        (["-m", "data.batch_size=5,20"], "-m: not for a search"),
        (["hydra/launcher=joblib"], "hydra/launcher=joblib: not for a search"),
        (["hydra.launcher.n_jobs=2"], "hydra.launcher.n_jobs=2: not for a search"),
        (["tracker=mlflow"], "tracker=mlflow: not for a search"),
        (["tracker.mlflow.uri=x"], "tracker.mlflow.uri=x: not for a search"),
        (["resume=latest"], "resume=latest: not for a search"),
        (["dry_run=true"], "dry_run=true: not for a search"),
        (["fail_fast=true"], "fail_fast=true: not for a search"),
        (["optimizer.lr=1e-3"], "optimizer.lr=1e-3: this is what is searched"),
        (["+optimizer.weight_decay=0"], r"\+optimizer.weight_decay=0: this is what is searched"),
    ],
)
def test_a_mistake_is_refused_by_name(arguments, named):
    with pytest.raises(InvalidConfig, match=named):
        read_settings(arguments)


@pytest.mark.parametrize(
    ("overrides", "typed"),
    [
        (["data=mnist_sample", "data.batch_size=5,20"], "data.batch_size=5,20: is a sweep of 2 runs"),
        (["seed=range(3)", "data.batch_size=5,20"], r"seed=range\(3\) data.batch_size=5,20: is a sweep of 6 runs"),
        (["experiment=lesson"], "experiment=lesson: is a sweep of 4 runs"),
    ],
)
def test_a_sweep_is_refused(overrides, typed):
    with pytest.raises(InvalidConfig, match=f"{typed}; a search needs one value of every key"):
        plan_trials(overrides)


def test_everything_else_is_of_the_runs():
    _, overrides = read_settings(["data.batch_size=5", "tune.trials=3", "optimizer=sgd", "optimizer.momentum=0.5"])
    assert overrides == ["data.batch_size=5", "optimizer=sgd", "optimizer.momentum=0.5"]
    (run,) = plan_trials(overrides).runs
    assert (run.config.data.batch_size, run.config.optimizer.name, run.config.optimizer.momentum) == (5, "sgd", 0.5)


def test_a_study_is_named_after_what_it_searches_and_in_what():
    settings, _ = read_settings(["trainer.num_epochs=3", "data.batch_size=5"])
    assert settings.study == "examples_to_threshold_data.batch_size=5_trainer.num_epochs=3"


def test_a_study_stays_in_the_outputs_whatever_it_is_called():
    settings, _ = read_settings(["tune.study=../../elsewhere"])
    assert Path(settings.study).name == settings.study


def test_a_search_starts_from_the_rates_of_the_lesson():
    assert list(lesson_rates()) == [{"lr": 1e-4, "weight_decay": 5e-4}, {"lr": 1e-6, "weight_decay": 5e-6}]
