"""The contract of all engines: whatever an engine does not refuse, it computes like `eager`, to float32 rounding."""

from functools import cache, partial
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from digits_sweep.data.digits import scale
from digits_sweep.training.engines import ENGINES
from digits_sweep.training.engines.protocol import Engine
from digits_sweep.training.epochs import epoch_order
from digits_sweep.training.optimizers import build_optimizer
from tests.training.engines.contract import (
    CASES,
    HEADS,
    OPTIONS,
    TOLERANCE,
    assert_same_bits,
    case,
    skip_if_refused,
    tensors_in,
    trained,
)
from tests.workloads import KNOWN_OPTIMIZERS, device_of, small_convolution, workload


@cache
def trained_eagerly(*described: object) -> tuple[Tensor, Engine]:
    return trained("eager", case(*described))


def assert_same_weights(engine: Engine, eager: Engine, tolerance: float) -> None:
    weights, expected = engine.model.state_dict(), eager.model.state_dict()
    assert weights.keys() == expected.keys()
    assert all((weights[name].cpu() - expected[name]).abs().max() < tolerance for name in expected)


def assert_same_state(engine: Engine, eager: Engine) -> None:
    """Every tensor that the optimizer keeps agrees to a ten-thousandth of its largest value."""
    state, expected = tensors_in(engine), tensors_in(eager)
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        assert state[name].shape == tensor.shape, name
        assert (state[name] - tensor).abs().max() <= 1e-4 * tensor.abs().max(), name


@pytest.mark.sampled(7)
@pytest.mark.parametrize(("model", "optimizer", "head", "batch_size"), CASES)
def test_whatever_an_engine_does_not_refuse_it_computes_like_eager(engine_name, model, optimizer, head, batch_size):
    given = case(model, optimizer, head, batch_size, device_of(engine_name))
    skip_if_refused(engine_name, given)
    expected, eager = trained_eagerly(model, optimizer, head, batch_size)
    losses, engine = trained(engine_name, given)
    assert losses.shape == expected.shape
    assert (losses - expected).abs().max() < TOLERANCE
    assert_same_weights(engine, eager, tolerance=min(1e-4, given.optimizer.lr / 10))
    assert_same_state(engine, eager)


@pytest.mark.parametrize(("optimizer", "head", "batch_size"), list(product([*KNOWN_OPTIMIZERS, *OPTIONS], HEADS, [30])))
def test_eager_has_the_losses_of_the_textbook_loop(optimizer, head, batch_size):
    given = case("mlp", optimizer, head, batch_size)
    steps = build_optimizer(given.optimizer, given.model.parameters(), fused=False)
    images, expected = scale(given.images, given.scale), []
    for epoch in (1, 2):
        for batch in epoch_order(0, epoch, len(images)).split(batch_size):
            loss = cross_entropy(given.model(images[batch]), given.labels[batch])
            steps.zero_grad()
            loss.backward()
            steps.step()
            expected.append(loss.item())
    losses, _ = trained_eagerly("mlp", optimizer, head, batch_size)
    assert (losses - torch.tensor(expected)).abs().max() < TOLERANCE


def assert_like_eager(name: str, tolerance: float = TOLERANCE, **described: object) -> None:
    skip_if_refused(name, workload(**described, device=device_of(name)))
    expected, _ = trained("eager", workload(**described))
    losses, _ = trained(name, workload(**described, device=device_of(name)))
    assert losses.shape == expected.shape
    assert (losses - expected).abs().max() < tolerance


@pytest.mark.parametrize(("num_samples", "batch_size"), [(53, 1), (203, 7), (1_300, 300)])
def test_any_batch_size_gives_these_losses(engine_name, num_samples, batch_size):
    assert_like_eager(engine_name, num_samples=num_samples, batch_size=batch_size)


@pytest.mark.parametrize(("hidden_size", "hidden_layers"), [(1, 1), (1, 3), (33, 1), (512, 2)])
def test_any_hidden_size_gives_these_losses(engine_name, hidden_size, hidden_layers):
    assert_like_eager(engine_name, hidden_size=hidden_size, hidden_layers=hidden_layers)


@pytest.mark.parametrize("scaling", ["unit", "standard", "raw"])
def test_every_scale_reaches_every_engine_alike(engine_name, scaling):
    assert_like_eager(engine_name, scale=scaling, tolerance=1e-3 if scaling == "raw" else TOLERANCE)


def test_the_lesson_trains_any_model_like_eager():
    expected, eager = trained("eager", workload(model=small_convolution()))
    losses, lesson = trained("lesson", workload(model=small_convolution()))
    assert (losses - expected).abs().max() < TOLERANCE
    assert_same_weights(lesson, eager, tolerance=1e-4)


def test_building_an_engine_leaves_the_initial_weights_as_they_are(engine_name):
    expected = workload().model
    engine = ENGINES[engine_name](workload(device=device_of(engine_name)))
    for built, initial in zip(engine.model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(built.cpu(), initial)


@pytest.mark.parametrize("name", ["eager", "lesson"])
def test_training_draws_no_random_numbers_of_its_own(name):
    before = torch.get_rng_state()
    trained(name, workload())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("batch_size", [20, 203])
def test_what_others_compute_with_between_two_epochs_changes_nothing(engine_name, batch_size):
    """A graph that was captured with memory that it does not own would read whatever comes to lie there."""
    given = partial(workload, batch_size=batch_size, device=device_of(engine_name))
    skip_if_refused(engine_name, given())
    engine, losses = ENGINES[engine_name](given()), []
    for epoch in (1, 2):
        # Of every size that PyTorch's allocator has a place of its own for.
        others = [torch.full((2**size,), -1, device=device_of(engine_name)) for size in range(20) for _ in range(20)]
        losses.append(engine.train(epoch_order(0, epoch, 203)).cpu())
        assert all(bool((other == -1).all()) for other in others)
    assert_same_bits((torch.cat(losses), engine), trained(engine_name, given()))
