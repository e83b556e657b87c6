"""Goals that follow from the data: which pilot runs are made, and which goals they mean."""

import math

import pytest

from digits_sweep.config.keys import checked
from digits_sweep.errors import InvalidConfig
from digits_sweep.results.record import EvaluationRow
from digits_sweep.search.critical import spread_sizes, with_goals
from digits_sweep.search.grid import Grid, Pilots, Reached, Trial, farthest, reached_by, round_up
from digits_sweep.search.settings import Goal, goals_of, read_critical


def course(errors, losses=(), samples=1_000):
    """A run that is evaluated after 0, 10, 20 and so on iterations of 100 examples."""
    losses = losses or [2 * error for error in errors]
    pairs = enumerate(zip(errors, losses, strict=True))
    rows = [EvaluationRow(10 * n, 1_000 * n, 0.0, loss, error, None, None, None) for n, (error, loss) in pairs]
    return reached_by(rows, samples)


def test_goals_lie_at_equal_ratios_between_the_untrained_network_and_the_best():
    _, reached = farthest({0: course([0.9, 0.5, 0.09])})
    assert (reached.start, reached.best, reached.iterations, reached.examples) == (0.9, 0.09, 20, 2_000)
    assert reached.goals == [Goal("train_error", value) for value in (0.23, 0.15, 0.09)]
    assert str(reached) == (
        "goals by the pilot runs: train error < 0.23, < 0.15, < 0.09 "
        "(60 %, 80 %, 100 % of the way from 0.9 to 0.09 in logarithms)"
    )


@pytest.mark.parametrize(
    ("several", "target", "best", "exponent"),
    [
        ({0: course([0.9, 0.1]), 2: course([0.9, 0.06])}, "train_error", 0.06, 2),
        # None of them is wrong any more: a twentieth of the start, and who was there first has the rate.
        ({0: course([0.8, 0.5, 0]), 2: course([0.8, 0, 0])}, "train_error", 0.04, 2),
        ({0: course([0.9, 0.5, 0], samples=100)}, "train_error", 0.1, 0),
        # An error that hardly moves, as of next tokens, says less than the loss.
        ({0: course([0.98, 0.6], [4, 2])}, "train_loss", 2, 0),
        # A regression has no errors, and a loss that becomes 0 has no logarithm.
        ({0: course([None, None], [8, 0]), -2: course([None, None], [8, 4])}, "train_loss", 0.4, 0),
        ({0: course([0.9, 0.2, math.nan]), 2: course([0.9, math.nan])}, "train_error", 0.2, 0),
    ],
)
def test_the_best_of_all_runs_is_the_late_goal(several, target, best, exponent):
    found, reached = farthest(several)
    assert (reached.target, found, reached.has_learned) == (target, exponent, True)
    assert reached.best == pytest.approx(best)
    assert reached.goals[-1] == Goal(target, best)


def test_runs_that_learn_nothing_have_no_goal():
    _, reached = farthest({0: course([0.9, 0.9], [2.3, 2.3])})
    assert not reached.has_learned
    assert farthest({0: course([]), 2: course([0.9])}) is None


@pytest.mark.parametrize(
    ("best", "goal"), [(0.0412, 0.042), (0.03, 0.03), (0.0999, 0.1), (1.61, 1.7), (0.00025, 0.00025), (2510, 2600)]
)
def test_a_goal_is_rounded_up(best, goal):
    assert round_up(best) == goal


STUDY = ["data=optdigits", "data.batch_size=5,100", "model=cnn"]


def test_pilot_runs_climb_to_the_best_rate():
    request = read_critical(STUDY)
    pilots = Pilots(request.settings, request.planned.runs[1])
    first = pilots.next_runs({})
    assert [run.config.optimizer.lr for run in first.values()] == [2.5e-4, 1e-3, 4e-3]
    assert {run.config.trainer.max_examples for run in first.values()} == {60_000}
    assert first[0].folder == "pilot_batch_size=100_lr=0.001_seed=42"
    by_exponent = {-2: course([0.9, 0.3]), 0: course([0.9, 0.2]), 2: course([0.9, 0.1])}
    assert list(pilots.next_runs(by_exponent)) == [4]
    assert pilots.next_runs(by_exponent | {4: course([0.9, 0.2])}) == {}
    assert len(pilots.next_runs(by_exponent | {4: course([])})) == 0


def test_a_pilot_says_after_how_many_examples_a_run_is_given_up():
    request = read_critical(STUDY)
    reached = Reached("train_error", 0.9, 0.1, iterations=20, examples=2_000)
    bases = {run.config.data.batch_size: with_goals(run, reached.goals, stop=True) for run in request.planned.runs}
    grid = Grid(request.settings, reached.goals, bases, reached)
    most = [grid.run(size, Trial(0, 0)).config.trainer.max_examples for size in bases]
    assert most == [8_000, 8_000]
    assert grid.most_examples(1_000) == 80_000
    assert grid.run(5, Trial(0, 0, 10)).config.trainer.max_examples == 50
    assert all(run.config.evaluation.stop and checked(run.config) for run in bases.values())


OWN = ("data=own", "data.target=mine:data")


@pytest.mark.parametrize(
    ("typed", "goals"),
    [
        ((), 2),
        (("data=mnist_sample",), 2),
        (("model=cnn", "loss.label_smoothing=0.1"), 2),
        (("data=fashion_mnist",), 0),
        (OWN, 0),
        (("loss=mse", "model=mlp_logits"), 0),
        (("command=a",), 0),
        ((*OWN, "evaluation.stop=true"), 0),
        ((*OWN, "evaluation.targets.test_loss=[0.5]"), 1),
    ],
)
def test_mnist_has_goals_of_its_own_and_what_is_typed_stays(typed, goals):
    request = read_critical(["data.batch_size=5,100", *typed])
    assert len(goals_of(request.planned.settings)) == goals
    assert request.planned.settings.evaluation.stop == (goals > 0)


def test_without_a_pilot_run_a_goal_is_to_be_named():
    with pytest.raises(InvalidConfig, match=r"^evaluation\.targets: name a goal"):
        read_critical([*STUDY, "critical.pilot_examples=0"])


@pytest.mark.parametrize(
    ("examples", "sizes"),
    [(142, [2, 4, 8, 20, 30, 70]), (800, [2, 6, 20, 50, 100, 400]), (12, [2, 3, 4, 5, 6]), (3, [2])],
)
def test_batch_sizes_of_few_examples_are_spread_up_to_half_of_them(examples, sizes):
    assert spread_sizes(examples) == sizes
