"""What the eager engine leaves out for small networks: an optimizer's bookkeeping, and oneDNN's preparations."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from digits_sweep.training.engines.eager import DirectStep, EagerEngine, are_small, without_onednn
from digits_sweep.training.optimizers import build_optimizer
from digits_sweep.training.schedule import ScaledRates
from tests.workloads import ADAM, PLAIN_SGD, SGD, optimizer_called, small_convolution, workload

CONFIGS = {"adam": ADAM, "adamw": optimizer_called("adamw"), "sgd": SGD, "plain sgd": PLAIN_SGD}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_direct_step_has_the_bits_of_the_optimizers_own(config):
    images, labels = torch.rand(20, 1, 28, 28), torch.arange(20) % 10
    states = []
    for is_direct in (False, True):
        model = small_convolution()
        optimizer = build_optimizer(config, model.parameters(), fused=True)
        rates, calls = ScaledRates(optimizer), []
        optimizer.register_step_post_hook(lambda *_, calls=calls: calls.append(1))
        step = DirectStep(optimizer)
        for share in (1, 0.5, 0.25, 1):
            step.drop_gradients()
            cross_entropy(model(images), labels).backward()
            rates.set(share)
            (step if is_direct else optimizer.step)()
        assert len(calls) == (0 if is_direct else 4)
        kept = [each for state in optimizer.state_dict()["state"].values() for each in state.values()]
        states.append([*model.state_dict().values(), *(each for each in kept if each is not None)])
    assert len(states[0]) == len(states[1])
    assert all(torch.equal(one, other) for one, other in zip(*states, strict=True))


@pytest.mark.parametrize(
    ("make", "unused"),
    [
        (lambda given: torch.optim.Adam(given), False),
        (lambda given: torch.optim.Adam(given, fused=True, amsgrad=True), False),
        (lambda given: torch.optim.NAdam(given), False),
        (lambda given: torch.optim.Adam(given, fused=True), True),
    ],
    ids=["not fused", "an option", "another kind", "a parameter without a gradient"],
)
def test_an_optimizer_that_is_not_known_to_end_in_that_kernel_steps_by_itself(make, unused):
    weight, other = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer, calls = make([weight, other] if unused else [weight]), []
    optimizer.register_step_post_hook(lambda *_: calls.append(1))
    step = DirectStep(optimizer)
    for _ in range(3):
        step.drop_gradients()
        weight.square().sum().backward()
        step()
    assert len(calls) == 3


def convolutions(**options: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, **options), nn.Flatten())


@pytest.mark.parametrize(
    ("model", "batch_size", "small"),
    [
        # 64 pixels x 4 channels x 9 weights and as many times 4: 11,520 multiplications an image.
        (convolutions(), 43, True),
        (convolutions(), 44, False),
        (convolutions(groups=4), 5, False),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), 5, False),
    ],
    ids=["small", "large", "grouped", "none"],
)
@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
def test_convolutions_are_small_by_their_multiplications(model, batch_size, small):
    model, images = nn.Sequential(nn.Dropout(0.5), model).train(), torch.rand(50, 1, 8, 8)
    before = torch.get_rng_state()
    assert are_small(model, images, batch_size) == small
    assert torch.equal(torch.get_rng_state(), before)
    assert all(module.training and not module._forward_hooks for module in model.modules())


def test_onednn_is_as_it_was_after_an_error():
    before = torch.backends.mkldnn.enabled
    with pytest.raises(ZeroDivisionError), without_onednn(True):
        1 / int(torch.backends.mkldnn.enabled)
    assert torch.backends.mkldnn.enabled == before


def test_small_convolutions_have_the_losses_of_onednn():
    given = workload(40, 4)
    losses = []
    for small in (True, False):
        engine = EagerEngine(replace(given, model=small_convolution()))
        assert engine.is_small == torch.backends.mkldnn.is_available()
        engine.is_small = small
        losses.append(torch.cat([engine.train(torch.arange(40)) for _ in range(2)]))
    assert (losses[0] - losses[1]).abs().max() < 2e-5
