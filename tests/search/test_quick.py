"""A quick study: its batch sizes, its goal, and what a full study takes over from it."""

from dataclasses import replace

import pytest

from digits_sweep.errors import CannotResume, InvalidConfig
from digits_sweep.results.critical import Pilot, write_study
from digits_sweep.search.critical import (
    QUICK_SIZES,
    Critical,
    refuse_another,
    study_file,
    takes_quick_goals,
    with_few_sizes,
)
from digits_sweep.search.fit import Steps, fit_steps
from digits_sweep.search.grid import BatchSize
from digits_sweep.search.settings import read_critical

TYPED = "evaluation.targets.train_error=[0.3]"


def quick(*typed):
    return with_few_sizes(read_critical(["critical.quick=true", *typed]))


def sizes(request):
    return [run.config.data.batch_size for run in request.planned.runs]


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("typed", "chosen"),
    [
        ([], [5, 20, 1_000]),
        (["data=optdigits"], [5, 20, 300]),  # no more than half of 1,437
        (["data.batch_size=10,40,200,2000"], [10, 40, 200, 2_000]),
        (["command=python train.py"], [5, 20, 1_000]),  # whose data nobody knows
    ],
)
def test_three_batch_sizes_suit_the_data(typed, chosen):
    assert sizes(quick(*typed)) == chosen


def test_few_examples_get_a_half_an_eighth_and_a_32nd_of_them(monkeypatch):
    monkeypatch.setattr("digits_sweep.search.critical.train_examples", lambda config: 150)
    assert sizes(quick()) == [4, 18, 75]
    monkeypatch.setattr("digits_sweep.search.critical.train_examples", lambda config: 20)
    with pytest.raises(InvalidConfig, match="a quick study needs 3 or more"):
        quick()


@pytest.mark.parametrize(
    "typed", ["critical.seeds=3", "critical.confirm=5", "critical.give_up=4", "critical.branch=true"]
)
def test_what_makes_a_study_quick_is_not_typed_otherwise(typed):
    with pytest.raises(InvalidConfig, match=f"^{typed}: .*quick"):
        quick(typed)


def test_its_rates_and_seeds_are_those_of_the_full_study():
    full, rules = (read_critical([f"critical.quick={each}", TYPED]).settings for each in ("false", "true"))
    for size in (5, 20, 1_000):
        rates = [[each.learning_rate(size, k) for k in range(-4, 5)] for each in (full, rules)]
        assert rates[0] == rates[1]
    (first,) = BatchSize(rules, 5, 1, {}).next_trials()
    assert (first.exponent, first.replicate) == (0, 0)


@pytest.mark.parametrize("exponent", [1, 1.45, 2])
def test_three_batch_sizes_with_one_seed_give_a_critical_batch_size_and_no_interval(exponent):
    steps = [17 * (1 + (300 / size) ** exponent) ** (1 / exponent) for size in (5, 20, 1_000)]
    known = [Steps(size, (each,), 0, size) for size, each in zip((5, 20, 1_000), steps, strict=True)]
    fit, _ = fit_steps(known, QUICK_SIZES)
    assert 250 < fit.law.b_crit < 360
    assert (fit.draws, fit.leave_one_out, fit.residuals, fit.p_value) == (None,) * 4
    assert fit_steps(known)[1] == "3 batch sizes reached the goal, and a fit needs 4"


def test_the_goal_is_the_late_one_of_pilot_runs_at_the_second_batch_size():
    study = Critical(quick())
    assert study.study.pilot == Pilot(20, 15_000)
    assert study.grid.goals == []
    assert Critical(quick(TYPED)).study.pilot is None


@pytest.mark.full
def test_a_full_study_goes_on_with_the_pilot_runs_of_the_quick_one(tmp_path):
    before = study_file(quick())
    write_study(tmp_path, before)
    resumed = replace(read_critical([]), resume=str(tmp_path))
    assert takes_quick_goals(resumed)
    with pytest.raises(CannotResume, match="train_error was"):
        Critical(resumed)
    study = Critical(replace(read_critical([], goals_follow=True), resume=str(tmp_path)))
    assert study.study.pilot == before.pilot
    assert (study.study.is_quick, study.grid.goals) == (False, [])
    write_study(tmp_path, study.study)
    assert takes_quick_goals(resumed)
    assert not takes_quick_goals(read_critical([]))


def test_a_full_study_becomes_no_quick_one(tmp_path):
    full, few = study_file(read_critical([TYPED])), study_file(quick(TYPED))
    with pytest.raises(CannotResume, match="quick was false, is now true"):
        refuse_another(tmp_path, full, few)


def test_a_run_that_the_quick_study_gave_up_is_taken_as_it_is():
    grid = Critical(read_critical([TYPED])).grid
    (size, *_), *_ = grid.next_runs({})
    planned = grid.next_runs({})[size, 0, 0]
    assert planned.config.trainer.max_examples is None
    recorded = replace(
        grid, recorded=lambda folder: {"trainer": {"max_examples": 77}} if folder == planned.folder else None
    )
    limits = {key: run.config.trainer.max_examples for key, run in recorded.next_runs({}).items() if key[0] == size}
    assert limits == {(size, 0, replicate): 77 if replicate == 0 else None for replicate in range(5)}
