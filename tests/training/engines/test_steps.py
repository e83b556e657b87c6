"""What engines leave out for small networks: an optimizer's bookkeeping and autograd's graph."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from digits_sweep.data.digits import scale_in_place
from digits_sweep.training.engines.closed_form import ClosedFormEngine
from digits_sweep.training.engines.fused_steps import DirectStep
from digits_sweep.training.model import build_model
from digits_sweep.training.optimizers import build_optimizer
from digits_sweep.training.schedule import ScaledRates
from tests.workloads import ADAM, PLAIN_SGD, SGD, STEP_OF_ONE, mlp, optimizer_called, small_convolution, workload

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
        kept = [tensor for state in optimizer.state_dict()["state"].values() for tensor in state.values()]
        states.append([*model.state_dict().values(), *(tensor for tensor in kept if tensor is not None)])
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


@settings(max_examples=60)
@given(
    batch=st.integers(1, 9),
    hidden_size=st.integers(1, 12),
    hidden_layers=st.integers(1, 3),
    head=st.sampled_from(["softmax", "logits"]),
    seed=st.integers(0, 2**31),
)
def test_the_closed_form_is_autograds_gradient_in_float64(batch, seed, **shape):
    model = build_model(mlp(**shape), seed).double()
    given = workload(num_samples=batch, batch_size=batch, optimizer=STEP_OF_ONE, model=copy.deepcopy(model))
    cross_entropy(model(scale_in_place(given.images.unsqueeze(1).double(), "unit")), given.labels).backward()
    ClosedFormEngine(given).train(torch.arange(batch))
    for parameter, before in zip(given.model.parameters(), model.parameters(), strict=True):
        step = before.detach() - parameter.detach()
        torch.testing.assert_close(step, before.grad, rtol=1e-10, atol=1e-13)
