"""The rules that scale an optimizer's numbers with the batch size."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digits_sweep.config.plan import plan
from digits_sweep.config.scaling import FORMULAS, half_life_beta
from digits_sweep.errors import InvalidConfig


def optimizer(*overrides: str):
    return plan(overrides).settings.optimizer


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("choice", "batch_size", "lr", "betas", "eps"),
    [
        ("adam_linear", 20, 2e-5, [0.9, 0.999], 1e-8),
        ("adam_linear", 500, 5e-4, [0.9, 0.999], 1e-8),
        ("adam_sqrt", 20, 4.4721e-5, [0.98, 0.9998], 2.2361e-8),
        ("adam_sqrt", 5, 2.2361e-5, [0.995, 0.99995], 4.4721e-8),
        ("adam_fixed", 5, 1e-4, [0.9, 0.999], 1e-8),
        ("adam_sqrt_lr", 5, 2.2361e-5, [0.9, 0.999], 1e-8),
        ("adam_half_life_sqrt", 20, 4.4721e-5, [0.9, 0.99979992], 1e-8),
        ("adam_half_life", 20, 1e-4, [0.9, 0.99979992], 1e-8),
        ("adam_half_life", 1000, 1e-4, [0.9, 0.99004488], 1e-8),
        ("adamw_linear", 20, 2e-4, [0.9, 0.999], 1e-8),
        ("adamw_sqrt", 20, 4.4721e-4, [0.98, 0.9998], 2.2361e-8),
        ("adamw_half_life", 20, 1e-3, [0.9, 0.99979992], 1e-8),
    ],
)
def test_every_rule_gives_the_numbers_of_its_paper(choice, batch_size, lr, betas, eps):
    found = optimizer(f"optimizer={choice}", f"data.batch_size={batch_size}")
    assert (found.lr, found.betas, found.eps) == (
        pytest.approx(lr, rel=1e-4),
        pytest.approx(betas, abs=1e-8),
        pytest.approx(eps, rel=1e-4),
    )


@pytest.mark.parametrize(
    ("choice", "lr"), [("adam_fixed", 1e-3), ("adam_linear", 5e-5), ("adam_sqrt", 2.2361e-4), ("adamw_sqrt", 2.2361e-4)]
)
def test_a_rule_starts_from_the_reference_rate_that_is_typed(choice, lr):
    found = optimizer(f"optimizer={choice}", "data.batch_size=5", "optimizer.reference_lr=1e-3")
    assert found.lr == pytest.approx(lr, rel=1e-4)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("choice", ["adam_linear", "adam_sqrt", "adam_half_life"])
def test_adams_decay_is_the_same_at_every_batch_size(choice):
    assert {optimizer(f"optimizer={choice}", f"data.batch_size={size}").weight_decay for size in (5, 100)} == {5e-4}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("choice", ["adamw_linear", "adamw_sqrt", "adamw_half_life"])
def test_adamws_decay_is_the_same_for_every_example(choice):
    """A step takes lr x weight_decay of a weight away, and there are 1 / batch_size steps an example."""
    for size in (5, 20, 100, 700):
        found = optimizer(f"optimizer={choice}", f"data.batch_size={size}")
        assert found.lr * found.weight_decay / size == pytest.approx(1e-3 * 1e-2 / 100)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("choice", "base"),
    [
        *((f"adam_{rule}", "adam_same_rates") for rule in ("linear", "sqrt", "half_life")),
        *((f"adamw_{rule}", "adamw") for rule in ("linear", "sqrt", "half_life")),
    ],
)
def test_at_the_reference_batch_size_a_rule_changes_nothing(choice, base):
    scaled = optimizer(f"optimizer={choice}", "data.batch_size=20", "optimizer.reference_batch_size=20")
    plain = optimizer(f"optimizer={base}", "data.batch_size=20")
    assert (scaled.lr, scaled.betas, scaled.eps) == (plain.lr, pytest.approx(plain.betas), plain.eps)
    assert scaled.weight_decay == plain.weight_decay


def test_sgd_has_its_linear_rule_too():
    assert optimizer("optimizer=sgd_linear", "data.batch_size=50").lr == pytest.approx(5e-3)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("choice", ["adam", "adam_linear", "adam_sqrt", "adam_half_life"])
def test_a_typed_value_wins_over_the_rule(choice):
    assert optimizer(f"optimizer={choice}", "data.batch_size=5", "optimizer.lr=3e-3").lr == 3e-3


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["optimizer=adam_sqrt", "data.batch_size=2000"], r"optimizer\.betas=\[-"),
        (["optimizer=adam_sqrt", "optimizer.reference_batch_size=0"], r"optimizer\.reference_batch_size=0: must be"),
        (["optimizer=adam_linear", "optimizer.reference_batch_size=null"], r"optimizer\.lr=nan: must be"),
        (["optimizer=adam_linear", "optimizer.reference_lr=null"], r"optimizer\.lr=nan: must be"),
        (["optimizer=adam_sqrt", "data.batch_size=0"], r"data\.batch_size=0: must be"),
    ],
)
def test_a_rule_with_nothing_to_scale_by_or_a_result_out_of_range_is_refused_before_anything_runs(overrides, named):
    with pytest.raises(InvalidConfig, match=named):
        plan(overrides)


@given(ratio=st.floats(0.01, 100), beta=st.floats(0.5, 0.9999))
def test_the_half_life_counted_in_examples_stays_what_it_was(ratio, beta):
    half_life = math.log(0.5) / math.log(beta)
    assert math.log(0.5) / math.log(half_life_beta(beta, ratio)) * ratio == pytest.approx(half_life, rel=1e-3)


@given(value=st.floats(0.5, 0.9999))
@pytest.mark.parametrize("formula", FORMULAS.values())
def test_no_formula_changes_anything_at_the_same_batch_size(formula, value):
    assert formula(value, 1.0) == pytest.approx(value)
