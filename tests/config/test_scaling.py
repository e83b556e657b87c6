"""The group `scaling`: how an optimizer's numbers follow from the batch size."""

import math
from dataclasses import asdict
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digits_sweep.config.compose import composing, to_config
from digits_sweep.config.keys import as_recorded, differing
from digits_sweep.config.plan import plan
from digits_sweep.config.scaling import RULES, half_life_beta, scaled
from tests.documents import CHOICES

approx = partial(pytest.approx, rel=1e-12)
OPTIMIZERS = [name for group, name in CHOICES if group == "optimizer"]
ROOT_5, ROOT_20 = math.sqrt(5 / 100), math.sqrt(20 / 100)


@pytest.fixture(scope="module")
def settings():
    """Resolves overrides; what Hydra composes for one set of choices serves all cases."""
    with composing() as composer:
        yield lambda *overrides: to_config(composer.composed([composer.parse(each) for each in overrides]).config)


@pytest.fixture(scope="module")
def numbers(settings):
    """Resolves overrides to what the optimizer has, but for its name."""
    return lambda *overrides: {
        key: value for key, value in asdict(settings(*overrides).optimizer).items() if key != "name"
    }


def rates(*overrides: str) -> list[tuple[int, float, float]]:
    configs = [run.config for run in plan(["-m", *overrides]).runs]
    return [(each.data.batch_size, each.optimizer.lr, each.optimizer.weight_decay) for each in configs]


# The default.


@pytest.mark.parametrize("arguments", [(), ("+experiment/lesson_row=batch_5_lower_rates",)])
def test_batch_size_5_gets_the_lower_rates_however_it_comes_about(arguments):
    assert rates("data.batch_size=5", *arguments) == [(5, 1e-6, 5e-6)]


def test_every_other_batch_size_has_the_first_rates():
    assert rates("data.batch_size=100,20,1") == [(100, 1e-4, 5e-4), (20, 1e-4, 5e-4), (1, 1e-4, 5e-4)]


def test_a_typed_rate_wins_over_the_lower_one_and_leaves_the_other():
    assert rates("data.batch_size=5", "optimizer.lr=3e-4") == [(5, 3e-4, 5e-6)]


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name not in ("adam", "own")])
def test_the_lower_rates_are_those_of_adam_alone(numbers, optimizer):
    assert numbers(f"optimizer={optimizer}", "data.batch_size=5") == numbers(f"optimizer={optimizer}")


def test_scaling_none_is_the_lessons_first_try():
    assert rates("data.batch_size=100,5", "scaling=none") == [(100, 1e-4, 5e-4), (5, 1e-4, 5e-4)]


@pytest.mark.parametrize("group", ["data", "model"])
def test_own_data_and_networks_get_the_lower_rates_if_they_are_typed(settings, group):
    own = (f"{group}=own", f"{group}.target=mine:made", "data.batch_size=5")
    assert rates(*own) == [(5, 1e-4, 5e-4)]
    assert rates(*own, "scaling=lesson") == [(5, 1e-6, 5e-6)]
    assert settings(*own, "scaling=sqrt").scaling.rule == "sqrt"


# Rules.

# Optimizer, rule, batch size, and what it must come to: learning rate, weight decay, and the numbers that differ from
# the optimizer's own.
SCALED = [
    ("adam", "none", 5, 1e-4, 5e-4, {}),
    ("adam", "linear", 20, 1e-4 * 0.2, 5e-4, {}),
    ("adam", "sqrt", 5, 1e-4 * ROOT_5, 5e-4, {"betas": [0.995, 0.99995], "eps": 1e-8 / ROOT_5}),
    ("adam", "sqrt_lr", 5, 1e-4 * ROOT_5, 5e-4, {}),
    ("adam", "half_life", 20, 1e-4, 5e-4, {"betas": [0.9, 0.999**0.2]}),
    ("adam", "half_life", 1000, 1e-4, 5e-4, {"betas": [0.9, 0.999**10.0]}),
    ("adam", "half_life_sqrt", 20, 1e-4 * ROOT_20, 5e-4, {"betas": [0.9, 0.999**0.2]}),
    ("adamw", "linear", 20, 1e-3 * 0.2, 1e-2, {}),
    ("adamw", "sqrt", 20, 1e-3 * ROOT_20, 1e-2 * ROOT_20, {"betas": [0.98, 0.9998], "eps": 1e-8 / ROOT_20}),
    ("adamw", "sqrt_lr", 20, 1e-3 * ROOT_20, 1e-2 * ROOT_20, {}),
    ("adamw", "half_life", 20, 1e-3, 1e-2 * 0.2, {"betas": [0.9, 0.999**0.2]}),
    ("muon", "half_life_sqrt", 20, 1e-3 * ROOT_20, 1e-2 * ROOT_20, {"betas": [0.9, 0.999**0.2]}),
    ("sgd", "sqrt", 20, 1e-2 * ROOT_20, 5e-4, {}),
    ("sgd", "half_life", 20, 1e-2, 5e-4, {}),
    ("rmsprop", "sqrt", 20, 1e-3 * ROOT_20, 0.0, {"alpha": 0.998, "eps": 1e-8 / ROOT_20}),
    ("rmsprop", "half_life", 20, 1e-3, 0.0, {"alpha": 0.99**0.2}),
    ("own", "linear", 20, 1e-3 * 0.2, 0.0, {}),
]


@pytest.mark.parametrize(("optimizer", "scaling", "batch_size", "lr", "weight_decay", "others"), SCALED)
def test_a_rule_scales_what_an_optimizer_has_of_it(numbers, optimizer, scaling, batch_size, lr, weight_decay, others):
    chosen = [f"optimizer={optimizer}", *(["optimizer.target=torch.optim:NAdam"] if optimizer == "own" else [])]
    found = numbers(*chosen, f"scaling={scaling}", f"data.batch_size={batch_size}")
    plain = numbers(*chosen, "scaling=none")
    expected = plain | {"lr": lr, "weight_decay": weight_decay} | others
    assert found == {key: value if isinstance(value, str | dict) else approx(value) for key, value in expected.items()}


@pytest.mark.parametrize(("scaling", "lr"), [("none", 1e-3), ("linear", 5e-5), ("sqrt", 1e-3 * ROOT_5)])
def test_a_rule_starts_from_the_reference_rate_that_is_typed(settings, scaling, lr):
    scaled = settings(f"scaling={scaling}", "data.batch_size=5", "scaling.reference_lr=1e-3")
    assert scaled.optimizer.lr == approx(lr)


def test_the_record_says_which_rule_it_was_and_what_it_started_from(settings):
    found = settings("optimizer=adamw", "scaling=sqrt", "data.batch_size=5").scaling
    assert (found.rule, found.reference_batch_size, found.reference_lr) == ("sqrt", 100, 1e-3)
    assert {settings(f"scaling={each}").scaling.rule for each in ("lesson", "none")} == {None}


@pytest.mark.parametrize("scaling", ["lesson", "none", "linear", "sqrt", "half_life"])
def test_a_typed_value_wins_over_every_rule(numbers, scaling):
    found = numbers(f"scaling={scaling}", "data.batch_size=5", "optimizer.lr=3e-3", "optimizer.betas=[0.8,0.9]")
    assert (found["lr"], found["betas"]) == (3e-3, [0.8, 0.9])


def test_what_a_file_of_the_users_gives_plainly_is_not_scaled(own_file):
    slow = own_file("optimizer", "slow", "defaults: [adam, _self_]\nlr: 1e-5\n")
    (run,) = plan([*slow, "scaling=sqrt", "data.batch_size=5"]).runs
    assert (run.config.optimizer.lr, run.config.optimizer.eps) == (1e-5, approx(1e-8 / ROOT_5))


def test_rates_of_ones_own_are_a_file(own_file):
    mine = own_file("scaling", "mine", 'defaults: [none, _self_]\nrates: {sgd: {"7": {lr: 2, weight_decay: 0}}}\n')
    assert rates(*mine, "optimizer=sgd", "data.batch_size=7,8") == [(7, 2.0, 0.0), (8, 1e-2, 5e-4)]


def test_a_batch_size_that_is_no_text_is_refused_in_a_line_that_says_so(own_file, refused):
    mine = own_file("scaling", "mine", "defaults: [none, _self_]\nrates: {sgd: {7: {lr: 2}}}\n")
    assert refused(*mine).startswith("scaling.rates: must be numbers by optimizer, by batch size in quotes")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["scaling=sqrt", "data.batch_size=2000"], "optimizer.betas=[-"),
        (["scaling=sqrt", "scaling.reference_batch_size=0"], "scaling.reference_batch_size=0: must be"),
        (["scaling=linear", "scaling.reference_batch_size=null"], "optimizer.lr=nan: must be"),
        (["scaling=sqrt", "data.batch_size=0"], "data.batch_size=0: must be"),
        (["scaling.rule=cubic"], "scaling.rule=cubic: choose fixed or linear or sqrt or sqrt_lr or half_life or"),
        (["scaling.rates={adam:{5:{lr:1}}}"], "scaling.rates={adam:{5:{lr:1}}}: must be numbers by optimizer, by "),
    ],
)
def test_a_rule_with_nothing_to_scale_by_or_a_result_out_of_range_is_refused(refused, overrides, line):
    assert f"\n{line}" in f"\n{refused(*overrides)}"


# The spellings of before.


@pytest.mark.parametrize(
    ("choice", "now"),
    [
        ("adam_sqrt", "optimizer=adam scaling=sqrt"),
        ("adam_half_life_sqrt", "optimizer=adam scaling=half_life_sqrt"),
        ("adam_same_rates", "optimizer=adam scaling=none"),
        ("adam_fixed", "optimizer=adam scaling=none"),
        ("adamw_linear", "optimizer=adamw scaling=linear"),
    ],
)
def test_an_optimizer_times_a_rule_is_refused_with_the_new_spelling(refused, choice, now):
    assert refused("-m", f"optimizer=adam,{choice}") == f"optimizer={choice}: is now {now}"


@pytest.mark.parametrize("scaling", ["lesson", "none", "sqrt"])
def test_a_run_that_was_recorded_with_its_rule_beside_the_rates_is_the_same_run(settings, scaling):
    config = settings("optimizer=adamw", f"scaling={scaling}", "data.batch_size=20")
    recorded = asdict(config)
    origin = recorded.pop("scaling")
    recorded["optimizer"] |= {key: origin[key] for key in ("rule", "reference_batch_size", "reference_lr")}
    assert differing(recorded, config) == []
    restored = as_recorded(settings(), recorded)
    assert restored.optimizer == config.optimizer
    assert restored.scaling.rule == config.scaling.rule


# Formulas.


@given(value=st.floats(0.5, 0.9999))
@pytest.mark.parametrize("rule", RULES)
def test_at_the_reference_batch_size_a_rule_changes_nothing(rule, value):
    for name in RULES[rule]:
        own = [value, value] if name == "betas" else value
        assert RULES[rule][name](own, 1.0) == pytest.approx(own)


@given(ratio=st.floats(0.01, 100))
@pytest.mark.parametrize("rule", [name for name in RULES if name != "fixed"])
def test_a_decoupled_decay_is_the_same_for_every_example(rule, ratio):
    """A step takes lr x weight_decay of a weight away, and there are 1 / batch_size steps an example."""
    lr, decay = (scaled(rule, name, 1.0, ratio, 1) for name in ("lr", "decoupled_weight_decay"))
    assert lr * decay / ratio == pytest.approx(1.0)


@given(ratio=st.floats(0.01, 100), beta=st.floats(0.5, 0.9999))
def test_the_half_life_counted_in_examples_stays_what_it_was(ratio, beta):
    half_life = math.log(0.5) / math.log(beta)
    assert math.log(0.5) / math.log(half_life_beta(beta, ratio)) * ratio == pytest.approx(half_life, rel=1e-3)
