"""The contract of all engines: whatever an engine does not refuse, it computes like `eager`, to float32 rounding.

However an epoch is cut, an engine computes the same bits.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from digits_sweep.config.schema import OptimizerConfig
from digits_sweep.data.digits import scale
from digits_sweep.training.engines import ENGINES
from digits_sweep.training.engines.protocol import Engine, Workload
from digits_sweep.training.epochs import epoch_order
from digits_sweep.training.optimizers.optimizer import build_optimizer
from tests.workloads import (
    ADAM,
    KNOWN_MODELS,
    KNOWN_OPTIMIZERS,
    PLAIN_SGD,
    SGD,
    device_of,
    model_called,
    on_this_machine,
    optimizer_called,
    small_convolution,
    workload,
)

# An epoch here is some tens of steps. Each rounds a loss near 2 to 2.4e-7 at best, and the next one starts from weights
# that differ in their last bits, so a hundred such steps are allowed; a wrong term anywhere shows as 1e-3 and more.
TOLERANCE = 2e-5

HEADS = ("softmax", "logits")
# Of 100 images: one that divides them, one that leaves a smaller last batch, and all of them.
BATCH_SIZES = (20, 30, 100)
OPTIONS = {"faster": ADAM, "nesterov": SGD, "no momentum": PLAIN_SGD}


@pytest.fixture(params=[on_this_machine(name) for name in ENGINES])
def engine_name(request: pytest.FixtureRequest) -> str:
    return request.param


def skip_if_refused(name: str, given: Workload) -> None:
    if refusal := ENGINES[name].refusal(given.model, given.optimizer, given.device, given.batch_size):
        pytest.skip(f"{name}: {refusal}")


def shares(iterations: int) -> list[float]:
    """Learning rates that rise and fall again, as shares of the whole one."""
    return [(1 + iteration % 4) / 4 for iteration in range(iterations)]


def trained_on_schedule(name: str, given: Workload, cuts: Sequence[int] = ()) -> tuple[Tensor, Engine]:
    """Two epochs, each cut after so many batches."""
    engine, num_samples, losses = ENGINES[name](given), len(given.images), []
    ends = [0, *(cut * given.batch_size for cut in cuts), num_samples]
    for epoch in (1, 2):
        rates = shares(-(-num_samples // given.batch_size))
        for start, end in pairwise(ends):
            order = epoch_order(0, epoch, num_samples)[start:end]
            first, count = start // given.batch_size, -(-len(order) // given.batch_size)
            losses.append(engine.train(order, rates[first : first + count]).cpu())
    return torch.cat(losses), engine


def trained(name: str, given: Workload, epochs: int = 2) -> tuple[Tensor, Engine]:
    """The loss of every iteration, and the engine after them."""
    engine = ENGINES[name](given)
    losses = [engine.train(epoch_order(0, epoch, len(given.images))).cpu() for epoch in range(1, epochs + 1)]
    return torch.cat(losses), engine


def trained_in_parts(name: str, given: Workload, cuts: Sequence[int]) -> tuple[Tensor, Engine]:
    """As `trained`, each epoch cut after so many batches."""
    engine, num_samples = ENGINES[name](given), len(given.images)
    ends = [0, *(min(cut * given.batch_size, num_samples) for cut in cuts), num_samples]
    losses = [
        engine.train(epoch_order(0, epoch, num_samples)[start:end]).cpu()
        for epoch in (1, 2)
        for start, end in pairwise(ends)
        if end > start
    ]
    return torch.cat(losses), engine


def optimizer_for(name: str) -> OptimizerConfig:
    return OPTIONS.get(name) or optimizer_called(name)


def case(model: str, optimizer: str, head: str, batch_size: int, device: str = "cpu") -> Workload:
    return workload(100, batch_size, optimizer_for(optimizer), model=model_called(model, head), device=device)


@cache
def trained_eagerly(*described: object) -> tuple[Tensor, Engine]:
    return trained("eager", case(*described))


CASES = [
    *product(KNOWN_MODELS, KNOWN_OPTIMIZERS, HEADS, BATCH_SIZES),
    *product(["mlp"], OPTIONS, HEADS, [30]),
]
# After which batches of at most five; beyond the last one, there is no cut.
CUTS = ([1], [2, 3], [1, 2, 3, 4])


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


def tensors_in(engine: Engine) -> dict[tuple[int, str], Tensor]:
    states = engine.optimizer.state_dict()["state"]
    return {
        (parameter, name): value.cpu()
        for parameter, state in states.items()
        for name, value in state.items()
        if isinstance(value, Tensor)
    }


@pytest.mark.sampled(11)
@pytest.mark.parametrize(("model", "optimizer", "head", "batch_size"), CASES)
def test_however_an_epoch_is_cut_an_engine_computes_the_same_bits(engine_name, model, optimizer, head, batch_size):
    given = partial(case, model, optimizer, head, batch_size, device_of(engine_name))
    skip_if_refused(engine_name, given())
    uncut = trained(engine_name, given())
    for cuts in CUTS:
        assert_same_bits(trained_in_parts(engine_name, given(), cuts), uncut)


def scheduled(engine_name: str, optimizer: str, batch_size: int) -> partial[Workload]:
    """What makes a workload that the engine trains with rates that change; skip if it does not."""
    given = partial(case, "mlp", optimizer, "softmax", batch_size, device_of(engine_name))
    if not ENGINES[engine_name].follows_schedules:
        pytest.skip(f"{engine_name} trains with schedule=constant only")
    skip_if_refused(engine_name, given())
    return given


@pytest.mark.sampled(3)
@pytest.mark.parametrize("optimizer", [*KNOWN_OPTIMIZERS, *OPTIONS])
def test_every_engine_that_follows_a_schedule_steps_with_its_rates(engine_name, optimizer):
    given = scheduled(engine_name, optimizer, batch_size=30)
    losses, engine = trained_on_schedule(engine_name, given())
    expected, textbook = textbook_on_schedule(case("mlp", optimizer, "softmax", 30))
    assert (losses - torch.tensor(expected)).abs().max() < TOLERANCE
    for weight, right in zip(engine.model.parameters(), textbook.parameters(), strict=True):
        assert (weight.cpu() - right).abs().max() < given().optimizer.lr / 10
    assert_same_bits(trained_on_schedule(engine_name, given(), cuts=[1, 3]), (losses, engine))


def textbook_on_schedule(given: Workload) -> tuple[list[float], nn.Module]:
    """A loop that builds an optimizer with the rate of the step for every step, and hands the state on."""
    images, state, losses = scale(given.images, given.scale), {}, []
    for epoch in (1, 2):
        batches = epoch_order(0, epoch, len(images)).split(given.batch_size)
        for batch, share in zip(batches, shares(len(batches)), strict=True):
            config = replace(given.optimizer, lr=given.optimizer.lr * share)
            steps = build_optimizer(config, given.model.parameters(), fused=False)
            steps.load_state_dict({"state": state, "param_groups": steps.state_dict()["param_groups"]})
            loss = cross_entropy(given.model(images[batch]), given.labels[batch])
            steps.zero_grad()
            loss.backward()
            steps.step()
            state = steps.state_dict()["state"]
            losses.append(loss.item())
    return losses, given.model


@pytest.mark.parametrize("optimizer", KNOWN_OPTIMIZERS)
def test_whole_rates_in_every_step_give_the_bits_of_no_schedule(engine_name, optimizer):
    given = scheduled(engine_name, optimizer, batch_size=20)
    engine, order = ENGINES[engine_name](given()), epoch_order(0, 1, 100)
    assert_same_bits((engine.train(order, [1.0] * 5).cpu(), engine), trained(engine_name, given(), epochs=1))


@pytest.mark.full
@settings(max_examples=15)
@given(data=st.data())
def test_any_batch_size_and_any_cuts_give_the_same_bits_by_the_closed_form(data):
    """Some 3,000 images: more than it brings into order at a time."""
    batch_size = data.draw(st.sampled_from([7, 30, 100, 333, 1_700]))
    cuts = sorted(data.draw(st.sets(st.integers(1, 3_001 // batch_size), max_size=5)))
    shape = {"hidden_size": data.draw(st.sampled_from([1, 5, 32])), "head": data.draw(st.sampled_from(HEADS))}
    parts = trained_in_parts("closed_form", workload(3_001, batch_size, **shape), cuts)
    assert_same_bits(parts, trained("closed_form", workload(3_001, batch_size, **shape)))


@pytest.mark.parametrize("name", ["eager", "lesson"])
def test_an_epoch_can_be_cut_with_any_model(name):
    uncut = trained(name, workload(model=small_convolution()))
    assert_same_bits(trained_in_parts(name, workload(model=small_convolution()), [1, 4]), uncut)


def assert_same_bits(one: tuple[Tensor, Engine], other: tuple[Tensor, Engine]) -> None:
    (losses, engine), (expected, undisturbed) = one, other
    assert torch.equal(losses, expected)
    weights, expected_weights = engine.model.state_dict(), undisturbed.model.state_dict()
    assert all(torch.equal(weights[name], expected_weights[name]) for name in expected_weights)
    state, expected_state = tensors_in(engine), tensors_in(undisturbed)
    assert state.keys() == expected_state.keys()
    assert all(torch.equal(state[name], expected_state[name]) for name in expected_state)


@pytest.mark.parametrize("name", ["eager", "lesson"])
def test_training_draws_no_random_numbers_of_its_own(name):
    before = torch.get_rng_state()
    trained(name, workload())
    assert torch.equal(torch.get_rng_state(), before)


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
