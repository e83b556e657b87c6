"""A study in its store, and what a trial is worth."""

import math

import pytest

pytest.importorskip("optuna")

from digits_sweep.errors import CannotSearch
from digits_sweep.results.record import Record
from digits_sweep.tune.search import objective, opened_study
from digits_sweep.tune.settings import OBJECTIVES, read_settings

BASE = {"data.batch_size": 5, "optimizer.betas": [0.9, 0.999]}


@pytest.fixture
def opened(tmp_path):
    def with_base(base, *arguments):
        settings, _ = read_settings(["tune.study=s", *arguments])
        return opened_study(settings, tmp_path / "s", base)

    return with_base


def waiting(study) -> list[float]:
    return [trial.system_attrs["fixed_params"]["lr"] for trial in study.trials]


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


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_run_that_did_not_get_there_is_infinitely_far(name):
    column = OBJECTIVES[name]
    assert objective(name, Record(0, summary={column: 2})) == 2
    assert objective(name, Record(0, summary={column: None})) == math.inf
    assert objective(name, Record(0, summary={column: "nan"})) == math.inf
    assert objective(name, Record(0)) == math.inf
