"""What may be typed, and which runs that means."""

import pytest

from digits_sweep.errors import CannotResume, InvalidConfig
from digits_sweep.search.critical import refuse_another, study_file
from digits_sweep.search.grid import Trial
from digits_sweep.search.settings import Cost, read_settings
from digits_sweep.search.study import Goal, goals_of, learning_rate, plan_batch_size, plan_batch_sizes, planned_run


def planned(*arguments):
    return plan_batch_sizes(read_settings(arguments).arguments)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["critical.seeds=2"], "critical.seeds=2: must be an odd whole number from 1 to 999"),
        (["critical.confirm=0"], "critical.confirm=0: must be a whole number from 1"),
        (["critical.factor=1"], "critical.factor=1: must be a number above 1"),
        (["critical.lr=-1"], "critical.lr=-1: must be a number above 0"),
        (["critical.most_steps=0"], "critical.most_steps=0: must be"),
        (["critical.give_up=1"], "critical.give_up=1: must be a number above 1"),
        (["critical.reference_batch_size=0"], "critical.reference_batch_size=0: must be"),
        (["critical.rate=1"], "critical.rate=1: "),
        (["optimizer.lr=1e-3"], "optimizer.lr=1e-3: this is what is searched"),
        (["dry_run=true"], "dry_run=true: which runs there are depends"),
        (["fail_fast=true"], "fail_fast=true: a run that fails or diverges is a miss"),
        (["--cost", "iteration=1us"], "--cost iteration=1us: give both"),
        (["--cost", "iteration=1us", "example=x"], "--cost iteration=1us example=x: give both"),
        (["--cost", "iteration=0", "example=0"], "--cost iteration=0 example=0: must be numbers from 0"),
        (["--fast"], "unrecognized arguments: --fast"),
    ],
)
def test_a_mistake_is_refused_by_name(arguments, line):
    with pytest.raises(InvalidConfig) as refused:
        read_settings(arguments)
    assert str(refused.value).startswith(line)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["seed=0,1"], "seed=0,1: give one value; the batch size alone has several"),
        (["model=mlp,mlp_logits"], "model=mlp,mlp_logits: give one value"),
        (["evaluation.targets.train_error=[]"], "evaluation.stop=true: needs a target to stop at"),
        (["evaluation.targets.train_error=[]", "evaluation.stop=false"], "evaluation.targets: name a goal"),
        (["evaluation.per_doubling=null"], "evaluation.targets.train_error=[0.1, 0.07]: a run is never evaluated"),
        (["data.batch_size=5,5"], "batch_size=5: 2 runs of this sweep are the same"),
    ],
)
def test_a_command_without_an_answer_is_refused(arguments, line):
    with pytest.raises(InvalidConfig) as refused:
        goals_of(planned(*arguments).settings)
    assert str(refused.value).splitlines()[0].startswith(line)


def test_the_default_command_has_six_batch_sizes_and_two_goals():
    runs = planned().runs
    assert [run.config.data.batch_size for run in runs] == [5, 20, 100, 300, 1000, 4000]
    assert goals_of(runs[0].config) == [Goal("train_error", 0.1), Goal("train_error", 0.07)]
    assert {(run.config.model.head, run.config.evaluation.stop) for run in runs} == {("logits", True)}


def test_whatever_is_typed_wins():
    (run,) = planned(
        "data=mnist_sample", "data.batch_size=50", "model=mlp", "optimizer=sgd", "trainer.num_epochs=3"
    ).runs
    config = run.config
    assert (config.model.head, config.optimizer.name, config.trainer.num_epochs) == ("softmax", "sgd", 3)


def test_a_target_that_is_typed_is_the_only_one():
    assert goals_of(planned("evaluation.targets.train_loss=[0.5]").settings) == [Goal("train_loss", 0.5)]


def test_numbers_that_follow_from_the_batch_size_may_differ():
    runs = planned("data.batch_size=5,100", "scaling=sqrt").runs
    assert len({tuple(run.config.optimizer.betas) for run in runs}) == 2


def test_the_grid_is_centred_on_the_square_root_rule():
    settings = read_settings(["critical.lr=1e-3", "critical.factor=2"]).settings
    assert [learning_rate(settings, size, 0) for size in (100, 400, 4)] == [1e-3, 2e-3, 2e-4]
    assert [learning_rate(settings, 100, exponent) for exponent in (-1, 1, 3)] == [5e-4, 2e-3, 8e-3]


def test_a_trial_is_a_run_with_its_rate_seed_and_limit():
    typed = read_settings(["data.batch_size=100", "seed=5"])
    (base,) = plan_batch_sizes(typed.arguments).runs
    run = planned_run(base, typed.settings, Trial(3, 2, most_iterations=80.5, measures_noise=True))
    assert run.folder == "batch_size=100_lr=0.008_seed=7"
    assert (run.config.optimizer.lr, run.config.seed, run.config.trainer.max_examples) == (8e-3, 7, 8050)
    assert run.config.evaluation.noise_scale
    assert planned_run(base, typed.settings, Trial(0, 0)).config.trainer.max_examples is None


def test_a_seed_beyond_the_largest_is_refused():
    typed = read_settings(["data.batch_size=100", f"seed={2**63 - 1}"])
    (base,) = plan_batch_sizes(typed.arguments).runs
    with pytest.raises(InvalidConfig, match=f"seed={2**63}: must be"):
        planned_run(base, typed.settings, Trial(0, 1))


def test_a_limit_that_is_typed_holds():
    typed = read_settings(["data.batch_size=100", "trainer.max_examples=1000"])
    (base,) = plan_batch_sizes(typed.arguments).runs
    assert planned_run(base, typed.settings, Trial(0, 0, 80)).config.trainer.max_examples == 1000


def test_a_batch_size_that_was_not_typed_is_planned_like_the_others():
    typed = read_settings(["data.batch_size=5,100", "optimizer=adam"])
    assert plan_batch_size(typed.arguments, 50).config.data.batch_size == 50


@pytest.mark.parametrize(
    ("given", "cost"),
    [
        (["iteration=119us", "example=8.4us"], Cost(119e-6, 8.4e-6)),
        (["example=1e-5", "iteration=0.5ms"], Cost(5e-4, 1e-5)),
        (["iteration=2S", "example=0"], Cost(2, 0)),
    ],
)
def test_the_cost_of_a_machine_is_read_with_its_unit(given, cost):
    typed = read_settings(["data.batch_size=5", "--cost", *given, "seed=1"])
    assert (typed.cost.iteration, typed.cost.example) == pytest.approx((cost.iteration, cost.example))
    assert typed.command == ["data.batch_size=5", "seed=1"]


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("typed", "difference"),
    [
        (["data.batch_size=5,20"], "data.batch_size was 5,100, is now 5,20"),
        (["data.batch_size=5,100", "critical.confirm=9"], "critical.confirm was 7, is now 9"),
        (["data.batch_size=5,100", "model.hidden_size=64"], "model.hidden_size was 128, is now 64"),
        (["data.batch_size=5,100", "seed=1"], "seed was 42, is now 1"),
    ],
)
def test_a_study_takes_no_runs_of_another_configuration(tmp_path, typed, difference):
    before, now = (
        study_file(each.settings, plan_batch_sizes(each.arguments).runs)
        for each in map(read_settings, (["data.batch_size=5,100"], typed))
    )
    with pytest.raises(CannotResume, match=difference):
        refuse_another(tmp_path, before, now)


def test_another_place_or_engine_process_is_the_same_study(tmp_path):
    typed = (["data.batch_size=5,100"], ["data.batch_size=5,100", "outputs=elsewhere", "data.num_workers=0"])
    before, now = (study_file(e.settings, plan_batch_sizes(e.arguments).runs) for e in map(read_settings, typed))
    refuse_another(tmp_path, before, now)
