"""Which runs Optuna's search makes, on a simulated response to the rates."""

import math
import random
from dataclasses import replace
from statistics import median

import pytest

pytest.importorskip("optuna")

from hypothesis import given, settings
from hypothesis import strategies as st

from digits_sweep.search.settings import SEARCHED, TuneConfig, read_tune
from digits_sweep.search.tune import AT_ONCE, LEAST_TRIALS, Outcome, Rates

LESSON = [{"lr": 1e-4, "weight_decay": 5e-4}, {"lr": 1e-6, "weight_decay": 5e-6}]
EPOCHS = 8
(BASE,) = read_tune([f"trainer.num_epochs={EPOCHS}"]).planned.runs
(DECAYS,) = read_tune([f"trainer.num_epochs={EPOCHS}", "schedule=cosine"]).planned.runs


def rules(**changed):
    usual = {"objective": "examples_to_threshold", "trials": 12, "seeds": 3, "confirm": 5, "prune": True, "seed": 0}
    return TuneConfig(**{"lr": [1e-7, 1e-1], "weight_decay": [1e-8, 1e-2], **usual, **changed})


def made(number, run, objective):
    """What a run results in: least at lr 1e-2, a factor more with every factor of ten aside, with noise by seed."""
    config = run.config
    rates = {name: getattr(config.optimizer, name) for name in SEARCHED}
    chance = random.Random(f"{number},{config.seed}").uniform(0.9, 1.1)
    far = abs(math.log10(config.optimizer.lr) + 2)
    if objective == "final_loss":
        losses = [chance * (1 + far) / epoch for epoch in range(1, config.trainer.num_epochs + 1)]
        return Outcome(rates, losses[-1], math.inf, losses, config.trainer.num_epochs == EPOCHS)
    needed = math.ceil(1000 * 3**far * chance)
    value = math.inf if needed > (config.trainer.max_examples or math.inf) else needed
    return Outcome(rates, value, value, [], True)


def search(rules, first=(), results=None, waves=10**6, base=BASE):
    """Make waves of runs; returns the search and its waves."""
    rates, results, found = Rates(rules, base, first, lambda name: None), dict(results or {}), []
    for _ in range(waves):
        wave = rates.next_runs(results)
        if not wave:
            break
        results |= {key: made(key[0], run, rules.objective) for key, run in wave.items()}
        found.append(wave)
    return replace(rates, results=results), found


def limits(*waves):
    return {run.config.trainer.max_examples for wave in waves for run in wave.values()}


def test_the_rates_of_the_lesson_come_first_and_then_those_that_optuna_asks_for():
    found, _ = search(rules(), LESSON)
    assert [dict(trial.rates) for trial in found.trials[:2]] == LESSON
    assert len({trial.rates["lr"] for trial in found.trials}) == 12
    for name in SEARCHED:
        low, high = getattr(found.rules, name)
        assert all(low <= trial.rates[name] <= high for trial in found.trials)


@settings(max_examples=10)
@given(
    waves=st.integers(0, 12), prune=st.booleans(), objective=st.sampled_from(["examples_to_threshold", "final_loss"])
)
def test_a_search_that_is_resumed_after_any_wave_makes_the_same_runs(waves, prune, objective):
    asked = rules(prune=prune, objective=objective)
    whole, expected = search(asked, LESSON)
    partly, before = search(asked, LESSON, waves=waves)
    resumed, after = search(asked, LESSON, results=partly.results)
    assert before + after == expected
    assert resumed.results == whole.results


def test_a_search_that_goes_on_has_the_trials_that_a_longer_one_would_have_had():
    short, _ = search(rules(trials=5), LESSON)
    longer, _ = search(rules(trials=12), LESSON, results=short.results)
    whole, _ = search(rules(trials=12), LESSON)
    assert [dict(trial.rates) for trial in longer.trials] == [dict(trial.rates) for trial in whole.trials]


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_a_trial_is_given_up_when_most_of_its_seeds_are_no_better_than_the_best_median(seeds):
    found, _ = search(rules(seeds=seeds))
    assert found.best.value == min(median(trial.values) for trial in found.trials if len(trial.values) == seeds)
    given_up = [trial for trial in found.trials if found.is_given_up(trial)]
    assert given_up
    for trial in found.trials[1:]:
        worse = sum(value >= found.best.value for value in trial.values)
        assert len(trial.values) == seeds or worse == len(trial.values) == seeds // 2 + 1


def test_a_run_is_given_up_at_the_examples_of_the_best_median_never_of_the_best_seed():
    found, waves = search(rules())
    # One trial until there is a best one, then several side by side.
    assert [len({trial for trial, _ in wave}) for wave in waves[:2]] == [1, AT_ONCE]
    assert limits(waves[0]) == {None}
    assert limits(waves[1]) == {median(found.trials[0].values)}


def test_without_pruning_every_trial_has_all_of_its_seeds_and_no_limit():
    found, waves = search(rules(prune=False))
    assert all(len(trial.values) == 3 for trial in found.trials)
    assert limits(*waves) == {None}
    assert not any(map(found.is_given_up, found.trials))


def test_the_first_seed_pauses_with_a_last_loss_above_the_median_and_is_not_trained_on():
    found, _ = search(rules(objective="final_loss", trials=30))
    paused = [trial for trial in found.trials if not trial.values]
    assert paused
    for trial in paused:
        epochs = len(trial.outcomes[0].losses)
        assert epochs in (2, 4)
        assert trial.number >= LEAST_TRIALS
        before = [earlier.outcomes[0].losses for earlier in found.trials[: trial.number]]
        assert trial.outcomes[0].losses[-1] > median(losses[epochs - 1] for losses in before if len(losses) >= epochs)
    assert all(found.is_given_up(trial) for trial in paused)


def test_a_rate_that_decays_falls_as_typed_in_runs_that_pause_or_are_given_up():
    for objective in ("final_loss", "examples_to_threshold"):
        _, waves = search(rules(objective=objective, trials=30), base=DECAYS)
        schedules = {run.config.schedule.decay_examples for wave in waves for run in wave.values()}
        assert schedules == {EPOCHS * 60_000}


def test_what_does_not_get_there_is_infinite_and_no_best():
    missed = Outcome(LESSON[0], math.inf, math.inf, [], True)
    found = replace(search(rules(trials=1, seeds=1), LESSON, waves=0)[0], results={(0, 0): missed})
    assert found.best is None
    assert not found.is_given_up(found.trials[0])
    assert found.next_runs(found.results) == {}


def test_a_run_that_has_started_keeps_its_rates_and_its_limit():
    recorded = {"optimizer": {"lr": 0.5, "weight_decay": 0.25}, "trainer": {"max_examples": 77}}
    started = {"trial_0000_seed=42": recorded}
    wave = Rates(rules(), BASE, LESSON, started.get).next_runs({})
    configs = [wave[0, place].config for place in range(3)]
    assert [(config.optimizer.lr, config.optimizer.weight_decay) for config in configs] == [(0.5, 0.25)] * 3
    assert [config.trainer.max_examples for config in configs] == [77, None, None]
