"""What may be typed for a search, and which runs that means."""

from pathlib import Path

import pytest

from digits_sweep.errors import InvalidConfig
from digits_sweep.search.settings import Cost, Goal, goals_of, plan_batch_sizes, read_critical, read_tune

RIGHT = "type 'critical.cost={iteration:20us,example:0.5us}'"


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("critical.seeds=2", "critical.seeds=2: must be an odd whole number from 1 to 999"),
        ("critical.confirm=0", "critical.confirm=0: must be a whole number from 1"),
        ("critical.factor=1", "critical.factor=1: must be a number above 1"),
        ("critical.give_up=1", "critical.give_up=1: must be a number above 1"),
        ("critical.rate=1", "critical.rate=1: "),
        ("optimizer.lr=1e-3", "optimizer.lr=1e-3: this is what is searched"),
        ("dry_run=true", "dry_run=true: which runs there are depends"),
        ("fail_fast=true", "fail_fast=true: a search says itself what a run that fails means"),
        ("seeds=until_decided", "seeds=until_decided: a search says itself which seeds it needs"),
        ("critical.cost={iteration:1us}", "critical.cost={iteration:1us"),
        ("critical.cost={iteration:1us,example:x}", "critical.cost={iteration:1us"),
        ("critical.cost={iteration:0,example:0}", "critical.cost={iteration:0"),
        ("critical.cost=[1,2]", "critical.cost=[1, 2]: type "),
        ("critical.cost=nowhere/cost.json", "critical.cost=nowhere/cost.json: cost.json: No such file or directory; "),
        ("critical.price=0", "critical.price=0: must be a number above 0, or null"),
        ("critical.cost=iteration:1us", f"critical.cost=iteration:1us: {RIGHT}"),
        ("--cost iteration=1us example=1us", f"--cost: {RIGHT}"),
        ("--fast", "unrecognized arguments: --fast"),
        ("seed=0,1", "seed=0,1: give one value; the batch size alone has several"),
        ("model=mlp,mlp_logits", "model=mlp,mlp_logits: give one value"),
        ("evaluation.targets.train_error=[]", "evaluation.stop=true: needs a target to stop at"),
        ("evaluation.targets.train_error=[] evaluation.stop=false", "evaluation.targets: name a goal"),
        ("evaluation.per_doubling=null", "evaluation.targets.train_error=[0.1, 0.07]: a run is never evaluated"),
        ("data.batch_size=5,5", "batch_size=5: 2 runs of this sweep are the same"),
    ],
)
def test_a_mistake_in_a_study_of_the_critical_batch_size_is_refused_by_name(typed, line):
    with pytest.raises(InvalidConfig) as refused:
        read_critical(typed.split())
    assert str(refused.value).startswith(line)


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("tune.objective=loss", "tune.objective=loss: choose"),
        ("tune.trials=1000000000", "tune.trials=1000000000: must be a whole number from 1 to 100,000"),
        ("tune.trials=many", "tune.trials=many: "),
        ("tune.lr=[1,0.1]", "tune.lr=[1, 0.1]: must be"),
        ("tune.lr=[0.1]", "tune.lr=[0.1]: must be"),
        ("tune.weight_decay=[1e-5,.inf]", "tune.weight_decay=[1e-5, inf]: must be"),
        ("tune.rate=1", "tune.rate=1: "),
        ("tune.lr=[1e-5,1e-3", "tune.lr="),
        ("-m data.batch_size=5,20", "-m: not for a search"),
        ("resume=latest", "resume=latest: not for a search"),
        ("dry_run=true", "dry_run=true: which runs there are depends"),
        ("optimizer.lr=1e-3", "optimizer.lr=1e-3: this is what is searched"),
        ("+optimizer.weight_decay=0", "+optimizer.weight_decay=0: this is what is searched"),
        ("data=mnist_sample data.batch_size=5,20", "data.batch_size=5,20: is a sweep of 2 runs"),
        ("seed=range(3) data.batch_size=5,20", "seed=range(3) data.batch_size=5,20: is a sweep of 6 runs"),
        ("experiment=lesson", "experiment=lesson: is a sweep of 4 runs; a search needs one value of every key"),
    ],
)
def test_a_mistake_in_a_search_is_refused_by_name(typed, line):
    with pytest.raises(InvalidConfig) as refused:
        read_tune(typed.split())
    assert str(refused.value).startswith(line)


def test_the_default_study_has_six_batch_sizes_and_two_goals():
    planned = read_critical([]).planned
    assert [run.config.data.batch_size for run in planned.runs] == [5, 20, 100, 300, 1000, 4000]
    assert goals_of(planned.settings) == [Goal("train_error", 0.1), Goal("train_error", 0.07)]


def test_a_default_gives_way_to_what_is_typed_and_a_target_to_those_typed():
    planned = read_critical(
        [
            "data.batch_size=20,5",
            "model=mlp",
            "optimizer=sgd",
            "trainer.num_epochs=3",
            "evaluation.targets.train_loss=[1.6]",
        ]
    ).planned
    assert [run.config.data.batch_size for run in planned.runs] == [5, 20]
    config = planned.settings
    assert (config.model.head, config.optimizer.name, config.trainer.num_epochs) == ("softmax", "sgd", 3)
    assert goals_of(config) == [Goal("train_loss", 1.6)]


def test_a_batch_size_that_was_not_typed_is_planned_like_the_others():
    typed = read_critical(["data.batch_size=5,100", "optimizer=adam"])
    (run,) = plan_batch_sizes(typed.planned, 50).runs
    assert (run.config.data.batch_size, run.config.optimizer.name) == (50, "adam")


def test_what_follows_from_the_batch_size_may_differ():
    runs = read_critical(["data.batch_size=5,100", "scaling=sqrt"]).planned.runs
    assert len({tuple(run.config.optimizer.betas) for run in runs}) == 2


@pytest.mark.parametrize(
    ("typed", "cost"),
    [
        ("{iteration:119us,example:8.4us}", Cost(119e-6, 8.4e-6)),
        ("{example: 1e-5, iteration: 0.5ms}", Cost(5e-4, 1e-5)),
        ("{iteration:2S,example:0}", Cost(2, 0)),
        ("null", None),
    ],
)
def test_the_cost_of_a_machine_is_read_with_its_unit(typed, cost):
    found = read_critical(["data.batch_size=5", f"critical.cost={typed}"]).cost
    assert found == cost or (found.iteration, found.example) == pytest.approx((cost.iteration, cost.example))


def test_everything_but_its_own_keys_is_of_the_runs_of_a_search():
    typed = read_tune(["data.batch_size=5", "tune.trials=3", "optimizer=sgd", "optimizer.momentum=0.5"])
    config = typed.planned.settings
    assert (config.data.batch_size, config.optimizer.name, config.optimizer.momentum) == (5, "sgd", 0.5)
    assert typed.settings.trials == 3


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("trainer.num_epochs=3 data.batch_size=5", "examples_to_threshold_data.batch_size=5_trainer.num_epochs=3"),
        ("data.batch_size=5 hydra/launcher=basic quiet=true", "examples_to_threshold_data.batch_size=5"),
    ],
)
def test_a_search_is_named_after_what_it_searches_and_in_what(typed, name):
    assert read_tune(typed.split()).settings.study == name


def test_a_search_stays_in_the_outputs_whatever_it_is_called():
    name = read_tune(["tune.study=../../elsewhere"]).settings.study
    assert Path(name).name == name


def test_a_study_of_a_command_has_no_network_of_this_program():
    config = read_critical(["command=a", "evaluation.targets.train_error=[0.2]"]).planned.settings
    assert (config.data.name, config.model.name, config.evaluation.per_doubling) == ("own", "own", 6)


def test_a_command_leaves_no_checkpoint_for_branches():
    with pytest.raises(InvalidConfig, match="branches need checkpoints"):
        read_critical(["command=a", "critical.branch=true"])


@pytest.mark.parametrize(
    ("typed", "examples"),
    [
        ([], 60_000),
        (["evaluation.targets.train_error=[0.2]"], 0),
        (["evaluation.targets.train_error=[0.2]", "critical.pilot_examples=500"], 500),
        (["critical.pilot_examples=0"], 0),
        (["critical.quick=true"], 15_000),
        (["critical.quick=true", "evaluation.targets.train_error=[0.2]"], 0),
    ],
)
def test_the_best_of_a_pilot_run_is_a_goal_unless_goals_are_typed(typed, examples):
    assert read_critical(["data.batch_size=5,100", *typed]).settings.pilot_examples == examples
