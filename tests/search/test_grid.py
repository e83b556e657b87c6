"""Which runs are made at one batch size, on a simulated response of the steps to the learning rate."""

import math
import random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digits_sweep.search.grid import BatchSize, Grid, Outcome, Trial
from digits_sweep.search.settings import CriticalConfig, read_critical


def rules(seeds=3, confirm=7, give_up=4, most_steps=8):
    grid = {"lr": 1e-3, "reference_batch_size": 100, "factor": 2}
    return CriticalConfig(**grid, seeds=seeds, confirm=confirm, give_up=give_up, most_steps=most_steps)


RULES = rules()


class Surface:
    """Steps to a goal: least at a rate's exponent `best`, a factor more with every step aside, with noise by seed."""

    def __init__(self, best=0, steps=100.0, slope=1.5, noise=0.1, highest=20):
        self.best, self.steps, self.slope, self.noise, self.highest = best, steps, slope, noise, highest

    def __call__(self, trial):
        chance = random.Random(f"{trial.exponent},{trial.replicate}")
        needed = self.steps * self.slope ** abs(trial.exponent - self.best) * math.exp(chance.gauss(0, self.noise))
        misses = needed > trial.most_iterations or trial.exponent > self.highest
        return Outcome(math.inf if misses else needed, best=abs(trial.exponent - self.best) / 100, trained=1000)


def search(surfaces, rules=RULES, results=None, waves=10**6):
    """Make all waves of runs; returns the results, and every trial in the order in which they were made."""
    results, trials = dict(results or {}), []
    for _ in range(waves):
        wave = BatchSize(rules, 100, len(surfaces), results).next_trials()
        if not wave:
            break
        for trial in wave:
            assert (trial.exponent, trial.replicate) not in results, "made twice"
            results[trial.exponent, trial.replicate] = [surface(trial) for surface in surfaces]
        trials += wave
    return BatchSize(rules, 100, len(surfaces), results), trials


def test_the_grid_is_centred_on_the_square_root_rule():
    assert [RULES.learning_rate(size, 0) for size in (100, 400, 4)] == [1e-3, 2e-3, 2e-4]
    assert [RULES.learning_rate(100, exponent) for exponent in (-1, 1, 3)] == [5e-4, 2e-3, 8e-3]


@given(best=st.integers(-6, 6), noise=st.sampled_from([0, 0.02]), steps=st.floats(10, 1e4))
def test_the_best_rate_is_found_wherever_it_lies(best, noise, steps):
    found, _ = search([Surface(best, steps, noise=noise)])
    assert found.winner(0) == best
    assert len(found.fresh(0)) == 7


class Diverges(Surface):
    def __call__(self, trial):
        return Outcome(math.inf, best=2.3)


@pytest.mark.parametrize(
    ("surface", "asked", "exponents", "winner"),
    [
        (Surface(best=3), RULES, [-1, 0, 1, 2, 3, 4], 3),  # until there is a worse one on each side
        (Surface(best=30), rules(most_steps=5), [-1, 0, 1, 2, 3, 4, 5], 5),  # not without end
        (Surface(best=-3, highest=-2, noise=0), RULES, [-4, -3, -2, -1, 0, 1], -3),  # only lower ones reach the goal
        (Surface(best=2, highest=-100), RULES, [-1, 0, 1, 2, 3], None),  # none does: on to the nearest
        (Diverges(), rules(most_steps=4), [-4, -3, -2, -1, 0, 1], None),  # all diverge: downwards
        (Surface(best=0, noise=0), rules(seeds=1, confirm=1, most_steps=1), [-1, 0, 1], 0),
    ],
)
def test_the_grid_is_extended_as_far_as_the_best_rate_asks_for(surface, asked, exponents, winner):
    found, trials = search([surface], asked)
    assert (found.exponents, found.winner(0)) == (exponents, winner)
    fresh = [trial for trial in trials if trial.replicate >= asked.seeds]
    assert len(found.fresh(0)) == len(fresh) == (0 if winner is None else asked.confirm)


def test_a_quick_study_climbs_with_one_seed_given_up_at_twice_the_best_which_counts_without_fresh_ones():
    found, trials = search([Surface(best=2, noise=0)], rules(seeds=1, confirm=0, give_up=2))
    assert found.winner(0) == 2
    assert {trial.replicate for trial in trials} == {0}
    assert trials[-1].most_iterations == 200
    assert [outcome.iterations for outcome in found.fresh(0)] == [100]


def test_a_third_seed_is_not_run_if_two_have_decided_a_rate():
    _, trials = search([Surface(best=0, slope=3, noise=0)])
    tuning = [(0, 0), (0, 1), (0, 2), (-1, 0), (-1, 1), (1, 0), (1, 1)]
    assert [(each.exponent, each.replicate) for each in trials[:7]] == tuning
    assert {each.exponent for each in trials[7:]} == {0}


@pytest.mark.parametrize("seeds", [1, 5])
def test_of_other_numbers_of_seeds_the_majority_decides(seeds):
    found, trials = search([Surface(best=1, slope=3, noise=0)], rules(seeds))
    assert found.winner(0) == 1
    assert sum(each.exponent == -1 for each in trials) == seeds // 2 + 1


def test_a_run_is_given_up_at_a_multiple_of_the_best_median_never_of_the_best_seed():
    found, trials = search([Surface(best=0, noise=0.5)])
    tuning = [found.results[0, replicate][0].iterations for replicate in range(3)]
    assert [each.most_iterations for each in trials[:3]] == [math.inf] * 3
    assert {each.most_iterations for each in trials[3:7]} == {4 * median(tuning)}


def test_no_run_is_given_up_while_a_goal_has_not_been_reached():
    _, trials = search([Surface(best=0), Surface(highest=-100)])
    tuning = [each for each in trials if each.replicate < 3]
    assert {each.most_iterations for each in tuning} == {math.inf}
    assert all(math.isfinite(each.most_iterations) for each in trials if each.replicate >= 3)


def test_a_rate_that_decays_falls_as_typed_in_a_run_that_is_given_up():
    planned = read_critical(["schedule=cosine", "trainer.num_epochs=2", "data.batch_size=100,1000"]).planned
    grid = Grid(RULES, [], {run.config.data.batch_size: run for run in planned.runs})
    config = grid.run(100, Trial(0, 0, most_iterations=50)).config
    assert (config.trainer.max_examples, config.schedule.decay_examples) == (5_000, 120_000)


def test_every_goal_has_its_own_rate_and_shares_runs_with_the_others():
    found, trials = search([Surface(best=0, noise=0.01), Surface(best=2, steps=300, noise=0.01)])
    assert [found.winner(0), found.winner(1)] == [0, 2]
    fresh = [each for each in trials if each.replicate >= 3]
    assert len(fresh) == 14
    assert [(each.exponent, each.replicate) for each in fresh if each.measures_noise] == [(0, 3), (2, 3)]
    together, trials = search([Surface(best=1, noise=0.01), Surface(best=1, steps=300, noise=0.01)])
    assert len([each for each in trials if each.replicate >= 3]) == 7
    assert [len(together.fresh(goal)) for goal in (0, 1)] == [7, 7]


@given(waves=st.integers(0, 12), best=st.integers(-3, 3))
def test_a_search_that_is_resumed_after_any_wave_makes_the_same_runs(waves, best):
    surfaces = [Surface(best, noise=0.3), Surface(best + 1, 250, noise=0.3)]
    whole, trials = search(surfaces)
    partly, before = search(surfaces, waves=waves)
    resumed, after = search(surfaces, results=partly.results)
    assert before + after == trials
    assert resumed.results == whole.results
