"""A study in its store: whose it is, and which trials must be tried."""

import os
import re
import socket
import subprocess
from importlib.util import find_spec

import pytest

pytest.importorskip("optuna")

import optuna
from optuna.trial import TrialState

from digits_sweep.errors import CannotSearch
from digits_sweep.results.lock import Owner
from digits_sweep.search.tune import opened_study, read_settings

BASE = {"data.batch_size": 5, "optimizer.betas": [0.9, 0.999]}


@pytest.fixture
def opened(tmp_path):
    def with_base(base, *arguments):
        settings, _ = read_settings(["tune.study=s", *arguments])
        return opened_study(settings, tmp_path / "s", base)

    return with_base


def waiting(study) -> list[float]:
    trials = study.get_trials(states=(TrialState.WAITING,))
    return [trial.system_attrs["fixed_params"]["lr"] for trial in trials]


def started(study, **attributes):
    """A trial that runs, as far as a search has come that set these attributes."""
    trial = study.ask()
    rates = (trial.suggest_float("lr", 1e-7, 1e-1, log=True), trial.suggest_float("weight_decay", 1e-8, 1e-2, log=True))
    for name, value in attributes.items():
        trial.set_user_attr(name, value)
    return trial, rates


def gone() -> dict[str, object]:
    """A process of this machine that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return {"pid": process.pid, "host": socket.gethostname(), "since": ""}


def test_the_lesson_is_put_in_once(opened):
    for _ in range(2):
        with opened(BASE) as study:
            assert waiting(study) == [1e-4, 1e-6]


@pytest.mark.parametrize(
    ("argument", "rates"),
    [("tune.lr=[1e-5,1e-1]", [1e-4]), ("tune.weight_decay=[1e-5,1e-1]", [1e-4]), ("tune.start_from_lesson=false", [])],
)
def test_rates_of_the_lesson_that_are_not_searched_are_left_out(opened, argument, rates):
    with opened(BASE, argument) as study:
        assert waiting(study) == rates


def test_every_key_that_differs_is_named(opened):
    with opened(BASE):
        pass
    with pytest.raises(CannotSearch) as refused, opened({"data.batch_size": 20, "optimizer.betas": [0.8, 0.999]}):
        pass
    assert str(refused.value) == (
        "tune.study=s: data.batch_size was 5, is now 20; optimizer.betas was [0.9, 0.999], is now [0.8, 0.999]; "
        "give the study another name"
    )


def test_a_study_of_a_version_without_one_of_the_keys_continues(opened):
    with opened(BASE):
        pass
    with opened(BASE | {"trainer.new_key": 1}) as study:
        assert study.user_attrs["base"] == BASE | {"trainer.new_key": 1}


# Of somebody else


@pytest.mark.parametrize(
    ("created", "tried", "differs"),
    [
        ({"direction": "maximize"}, None, "has the direction maximize, a search has minimize"),
        ({"directions": ["minimize", "minimize"]}, None, "has 2 objectives, a search has one"),
        ({}, lambda trial: trial.suggest_float("x", 0, 1), "has the parameters x, a search has lr and weight_decay; "),
        ({}, lambda trial: trial.suggest_float("lr", 0, 1), "has 1 trials that this program did not start"),
    ],
)
def test_a_study_of_another_program_is_refused_with_what_differs(opened, tmp_path, created, tried, differs):
    (tmp_path / "s").mkdir()
    store = f"sqlite:///{tmp_path}/s.db"
    study = optuna.create_study(storage=store, study_name="s", **created)
    if tried:
        study.optimize(tried, n_trials=1)
    with pytest.raises(CannotSearch, match=re.escape(f"tune.study=s: {differs}")) as refused, opened(BASE):
        pass
    assert "\n" not in str(refused.value)
    assert "base" not in optuna.load_study(storage=store, study_name="s").user_attrs


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("postgresql://nowhere/s", "its driver psycopg[0-9]? is not installed; .* install 'psycopg"),
        ("mysql://nowhere/s", "its driver MySQLdb is not installed; .* install 'mysqlclient'"),
        ("sqlite:///{x}.db", "KeyError: "),
    ],
)
def test_a_store_that_cannot_be_used_is_named_with_what_is_missing(opened, address, reason):
    if any(map(find_spec, ("psycopg", "psycopg2", "MySQLdb"))):
        pytest.skip("a driver is installed")
    with (
        pytest.raises(CannotSearch, match=re.escape(f"tune.storage={address}: ") + reason) as refused,
        opened(BASE, f"tune.storage='{address}'"),
    ):
        pass
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["what?x", "100%3f", "a#b&c", "{SCHEMA_VERSION}", "quote\"d 'n"])
def test_a_study_is_stored_in_whatever_folder_the_outputs_are(tmp_path, name):
    settings, _ = read_settings(["tune.study=s"])
    for _ in range(2):
        with opened_study(settings, tmp_path / name / "s", BASE) as study:
            assert waiting(study) == [1e-4, 1e-6]
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "s.db").stat().st_size > 0


# After a stop

asked = pytest.mark.filterwarnings("ignore:Heartbeat of storage:UserWarning")


@asked
def test_a_search_that_was_stopped_before_its_first_trial_still_tries_the_rates_of_the_lesson(opened):
    with opened(BASE) as study:
        # Stopped between taking up a trial and starting its run.
        study.ask()
        study.tell(study.ask(), state=TrialState.FAIL)
    with opened(BASE) as study:
        assert sorted(waiting(study)) == [1e-6, 1e-4]


@asked
def test_a_trial_of_a_process_that_is_gone_is_taken_up_at_once_and_once(opened):
    with opened(BASE) as study:
        _, rates = started(study, process=gone(), folder="trial_0000")
    for _ in range(2):
        with opened(BASE) as study:
            assert [trial.state for trial in study.trials][:1] == [TrialState.FAIL]
            assert waiting(study) == [1e-6, 1e-4]
            assert study.trials[-1].user_attrs["folder"] == "trial_0000"
            assert study.trials[-1].system_attrs["fixed_params"] == dict(
                zip(("lr", "weight_decay"), rates, strict=True)
            )


@asked
def test_a_trial_whose_process_dies_as_it_takes_it_up_again_is_taken_up_by_the_next(opened, monkeypatch):
    with opened(BASE) as study:
        started(study, folder="trial_0000", process=gone())
    monkeypatch.setattr("digits_sweep.search.tune.this_process", lambda: Owner(**gone()))
    with opened(BASE) as study:
        again = next(each for each in iter(study.ask, None) if "folder" in each.user_attrs)
    with opened(BASE) as study:
        (waits,) = (each for each in study.get_trials(states=(TrialState.WAITING,)) if "folder" in each.user_attrs)
        assert waits.user_attrs["folder"] == "trial_0000"
        assert study.get_trials()[again.number].state is TrialState.FAIL


@asked
def test_a_trial_of_a_process_that_lives_is_left_alone(opened):
    alive = {"pid": os.getpid(), "host": socket.gethostname(), "since": ""}
    with opened(BASE) as study:
        started(study, process=alive, folder="trial_0000")
    with opened(BASE) as study:
        assert study.trials[0].state is TrialState.RUNNING
        assert waiting(study) == [1e-6]
