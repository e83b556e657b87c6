"""The contract of all engines: whatever an engine does not refuse, it computes like `eager`, to float32 rounding."""

from dataclasses import replace
from functools import cache, partial
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

from digits_sweep.config.scaling import Sizes
from digits_sweep.config.schema import ScheduleConfig, TrainerConfig
from digits_sweep.data.digits import scale
from digits_sweep.training.engines import ENGINES
from digits_sweep.training.engines.protocol import Engine
from digits_sweep.training.epochs import Stopwatch, epoch_order, train
from digits_sweep.training.optimizers import build_optimizer
from digits_sweep.training.schedule import LearningRate
from tests.training.engines.contract import (
    CASES,
    HEADS,
    OPTIMIZERS,
    TOLERANCE,
    assert_same_bits,
    case,
    skip_if_refused,
    tensors_in,
    trained,
)
from tests.workloads import GPU_ENGINES, KNOWN_OPTIMIZERS, device_of, small_convolution, workload
from tests.workloads import settings as planned

# Shares of the learning rate that rise and fall again, for the four batches of an epoch.
RATES = [0.25, 0.5, 1.0, 0.5]
ON_CPU = [name for name in ENGINES if device_of(name) == "cpu"]


@cache
def trained_eagerly(*described: object, scheduled: bool = False) -> tuple[Tensor, Engine]:
    return trained("eager", case(*described), rates=RATES if scheduled else None)


def assert_like_weights(engine: Engine, eager: Engine, lr: float = 1e-3) -> None:
    """Every weight agrees to a tenth of a step."""
    for weight, expected in zip(engine.model.state_dict().values(), eager.model.state_dict().values(), strict=True):
        assert (weight.cpu() - expected).abs().max() < min(1e-4, lr / 10)


def assert_like_state(engine: Engine, eager: Engine) -> None:
    """Every tensor that the optimizer keeps agrees to a ten-thousandth of its largest value."""
    state, expected_state = tensors_in(engine), tensors_in(eager)
    assert state.keys() == expected_state.keys()
    for name, expected in expected_state.items():
        assert state[name].shape == expected.shape, name
        assert (state[name] - expected).abs().max() <= 1e-4 * expected.abs().max(), name


@pytest.mark.sampled(7)
@pytest.mark.parametrize(("model", "optimizer", "head", "batch_size"), CASES)
def test_whatever_an_engine_does_not_refuse_it_computes_like_eager(engine_name, model, optimizer, head, batch_size):
    given = case(model, optimizer, head, batch_size, device_of(engine_name))
    skip_if_refused(engine_name, given)
    expected, eager = trained_eagerly(model, optimizer, head, batch_size)
    losses, engine = trained(engine_name, given)
    assert losses.shape == expected.shape
    assert (losses - expected).abs().max() < TOLERANCE
    assert_like_weights(engine, eager, given.optimizer.lr)
    assert_like_state(engine, eager)


@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_eager_has_the_losses_of_the_textbook_loop(optimizer, head, scheduled):
    given = case("mlp", optimizer, head, 30)
    steps = build_optimizer(given.optimizer, given.model.parameters(), fused=False)
    rates = LambdaLR(steps, lambda step: RATES[step % 4] if scheduled else 1.0)
    images, expected = scale(given.images, given.scale), []
    for epoch in (1, 2):
        for batch in epoch_order(0, epoch, len(images)).split(30):
            loss = cross_entropy(given.model(images[batch]), given.labels[batch])
            steps.zero_grad()
            loss.backward()
            steps.step()
            rates.step()
            expected.append(loss.item())
    losses, _ = trained_eagerly("mlp", optimizer, head, 30, scheduled=scheduled)
    assert (losses - torch.tensor(expected)).abs().max() < TOLERANCE


@pytest.mark.sampled(3)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_engine_steps_with_the_rates_of_a_schedule_however_an_epoch_is_cut(engine_name, optimizer):
    given = partial(case, "mlp", optimizer, "softmax", 30, device_of(engine_name))
    skip_if_refused(engine_name, given())
    expected, eager = trained_eagerly("mlp", optimizer, "softmax", 30, scheduled=True)
    losses, engine = trained(engine_name, given(), rates=RATES)
    assert (losses - expected).abs().max() < TOLERANCE
    assert_like_weights(engine, eager, given().optimizer.lr)
    assert_like_state(engine, eager)
    assert_same_bits(trained(engine_name, given(), cuts=[1, 3], rates=RATES), (losses, engine))


@pytest.mark.parametrize("optimizer", KNOWN_OPTIMIZERS)
def test_whole_rates_in_every_step_give_the_bits_of_no_schedule(engine_name, optimizer):
    given = partial(case, "mlp", optimizer, "softmax", 20, device_of(engine_name))
    skip_if_refused(engine_name, given())
    assert_same_bits(trained(engine_name, given(), rates=[1.0] * 5), trained(engine_name, given()))


# However an epoch is cut, an engine computes the same bits


@pytest.mark.sampled(11)
@pytest.mark.parametrize(("model", "optimizer", "head", "batch_size"), CASES)
def test_however_an_epoch_is_cut_an_engine_computes_the_same_bits(engine_name, model, optimizer, head, batch_size):
    given = partial(case, model, optimizer, head, batch_size, device_of(engine_name))
    skip_if_refused(engine_name, given())
    uncut = trained(engine_name, given())
    # After which batches of at most five; beyond the last one, there is no cut.
    for cuts in ([2, 3], [1, 2, 3, 4]):
        assert_same_bits(trained(engine_name, given(), cuts=cuts), uncut)


@pytest.mark.full
@settings(max_examples=15)
@given(data=st.data())
def test_any_batch_size_and_any_cuts_give_the_same_bits_by_the_closed_form(data):
    """Some 3,000 images: more than it brings into order at a time."""
    batch_size = data.draw(st.sampled_from([7, 30, 100, 333, 1_700]))
    cuts = sorted(data.draw(st.sets(st.integers(1, 3_001 // batch_size), max_size=5)))
    shape = {"hidden_size": data.draw(st.sampled_from([1, 5, 32])), "head": data.draw(st.sampled_from(HEADS))}
    uncut = trained("closed_form", workload(3_001, batch_size, **shape))
    assert_same_bits(trained("closed_form", workload(3_001, batch_size, **shape), cuts=cuts), uncut)


@pytest.mark.parametrize(
    "described",
    [
        # Any batch size and any hidden size,
        *({"num_samples": count, "batch_size": size} for count, size in [(53, 1), (203, 7), (1_300, 300)]),
        *({"hidden_size": size, "hidden_layers": layers} for size, layers in [(1, 1), (1, 3), (33, 1), (512, 2)]),
        # every scale, and images of any shape and type.
        *({"scale": scale} for scale in ("unit", "standard", "raw")),
        *(
            {"image_shape": shape, "floats": floats, "scale": "standard", "num_samples": 70}
            for shape, floats in product([(3, 8, 8), (8, 8), (40,), (2, 3, 4, 5)], [False, True])
        ),
    ],
)
def test_whatever_the_sizes_the_losses_are_those_of_eager(engine_name, described):
    skip_if_refused(engine_name, workload(**described, device=device_of(engine_name)))
    expected, _ = trained("eager", workload(**described))
    losses, _ = trained(engine_name, workload(**described, device=device_of(engine_name)))
    assert losses.shape == expected.shape
    assert (losses - expected).abs().max() < (1e-3 if described.get("scale") == "raw" else TOLERANCE)


def test_the_lesson_trains_any_model_like_eager_however_an_epoch_is_cut():
    expected, eager = trained("eager", workload(model=small_convolution()))
    losses, lesson = trained("lesson", workload(model=small_convolution()))
    assert (losses - expected).abs().max() < TOLERANCE
    assert_like_weights(lesson, eager)
    for name, uncut in (("eager", (expected, eager)), ("lesson", (losses, lesson))):
        assert_same_bits(trained(name, workload(model=small_convolution()), cuts=[1, 4]), uncut)


# A batch that grows


def trained_growing(
    name: str, optimizer: str, sizes: Sizes, every: int | None = None, epochs: int = 2, batch_lr: str = "fixed"
) -> tuple[Tensor, Engine]:
    """Train on 100 images as the epoch loop does, with a pause after every so many examples."""
    given = case("mlp", optimizer, "softmax", sizes[0][1], device_of(name))
    engine = ENGINES[name](replace(given, schedule=ScheduleConfig(batch="grow", batch_lr=batch_lr)))
    rates = LearningRate(ScheduleConfig(batch="grow", batch_lr=batch_lr), epochs * 100)
    evaluation = replace(planned("evaluation=fine").evaluation, every_examples=every, per_doubling=None)
    loop = train(
        engine, TrainerConfig(epochs, None, False), 0, 100, Stopwatch(torch.device(device_of(name))),
        evaluation=evaluation, pause=lambda *_: False, learning_rate=rates, batch_sizes=lambda: sizes,
    )  # fmt: skip
    return torch.cat([epoch.losses for epoch in loop]), engine


GROWING = ((0, 7), (30, 20), (120, 33), (160, 60))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_engine_trains_a_batch_that_grows_like_eager_however_an_epoch_is_cut(engine_name, optimizer):
    growing = replace(case("mlp", optimizer, "softmax", 7), schedule=ScheduleConfig(batch="grow"))
    if reason := ENGINES[engine_name].refusal(growing):
        pytest.skip(f"{engine_name}: {reason}")
    expected, eager = trained_growing("eager", optimizer, GROWING, batch_lr="sqrt")
    losses, engine = uncut = trained_growing(engine_name, optimizer, GROWING, batch_lr="sqrt")
    # 7 x 5, 20 x 3 and what is left; 20, 33, 33 and 14: with the border at 160 a batch of 33 is whole.
    assert losses.shape == expected.shape == (5 + 4 + 4,)
    assert (losses - expected).abs().max() < TOLERANCE
    assert_like_weights(engine, eager, case("mlp", optimizer, "softmax", 7).optimizer.lr)
    assert_like_state(engine, eager)
    assert_same_bits(trained_growing(engine_name, optimizer, GROWING, every=20, batch_lr="sqrt"), uncut)


@pytest.mark.parametrize("sizes", [((0, 20),), ((0, 20), (50, 20), (100, 20))])
def test_a_schedule_of_one_size_gives_the_bits_of_that_size(engine_name, sizes):
    skip_if_refused(engine_name, replace(case("mlp", "adam", "softmax", 20), schedule=ScheduleConfig(batch="grow")))
    fixed = trained(engine_name, case("mlp", "adam", "softmax", 20))
    assert_same_bits(trained_growing(engine_name, "adam", sizes), fixed)
    assert_same_bits(trained_growing(engine_name, "adam", sizes, batch_lr="sqrt"), fixed)


@pytest.mark.parametrize("name", GPU_ENGINES)
def test_an_engine_whose_batches_have_one_shape_refuses_a_batch_that_grows(name):
    growing = replace(workload(device="cuda"), schedule=ScheduleConfig(batch="{0:20,100:40}"))
    assert ENGINES[name].refusal(growing) == "it trains batches of one size only, without schedule.batch"


# What an engine leaves alone


def test_building_an_engine_leaves_the_initial_weights_as_they_are(engine_name):
    expected = workload().model
    engine = ENGINES[engine_name](workload(device=device_of(engine_name)))
    for built, initial in zip(engine.model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(built.cpu(), initial)


@pytest.mark.parametrize("name", ON_CPU)
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
