"""From the optimizer's configuration to `torch.optim`."""

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam

from digits_sweep.config.schema import AdamConfig, OptimizerConfig
from digits_sweep.training.optimizer import OPTIMIZERS, build_optimizer, steps_plainly, unknown_step
from tests import workloads
from tests.workloads import optimizer_called


@pytest.fixture
def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(3))]


def test_adam_has_every_key_of_its_configuration(parameters):
    config = AdamConfig(name="adam", lr=0.1, weight_decay=0.2, betas=[0.3, 0.4], eps=0.5)
    optimizer = build_optimizer(config, parameters, fused=False, capturable=True)
    expected = {"lr": 0.1, "weight_decay": 0.2, "betas": (0.3, 0.4), "eps": 0.5, "capturable": True}
    assert type(optimizer) is Adam
    assert optimizer.param_groups[0].items() >= expected.items()


def test_sgd_has_every_key_of_its_configuration(parameters):
    optimizer = build_optimizer(workloads.SGD, parameters, fused=False)
    expected = {"lr": 1e-2, "weight_decay": 5e-4, "momentum": 0.9, "nesterov": True}
    assert type(optimizer) is SGD
    assert optimizer.param_groups[0].items() >= expected.items()


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(("fused", "passed_on"), [(True, True), (False, None)])
def test_the_fused_step_is_asked_for_or_left_to_pytorch(name, fused, passed_on, parameters):
    optimizer = build_optimizer(optimizer_called(name), parameters, fused=fused)
    assert optimizer.param_groups[0].get("fused") == passed_on


def test_weight_decay_is_added_to_the_gradient_and_not_decoupled(parameters):
    """Adam's first step has the size of the rate in the direction of the gradient, here that of the decay alone."""
    optimizer = build_optimizer(AdamConfig("adam", 0.1, 5e-4, None, [0.9, 0.999], 1e-12), parameters, fused=True)
    parameters[0].grad = torch.zeros(3)
    optimizer.step()
    torch.testing.assert_close(parameters[0].data, torch.full((3,), 0.9))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_planning_takes_for_a_plain_step_is_one(name, parameters):
    config = optimizer_called(name)
    known = unknown_step(build_optimizer(config, parameters, fused=False)) is None
    assert steps_plainly(config) == known


def test_an_optimizer_is_a_function_and_a_line_in_the_registry(parameters, monkeypatch):
    monkeypatch.setitem(OPTIMIZERS, "rprop", lambda config, params, **_: torch.optim.Rprop(params, lr=config.lr))
    optimizer = build_optimizer(OptimizerConfig(name="rprop", lr=0.1, weight_decay=0.0), parameters, fused=True)
    assert unknown_step(optimizer) == "Rprop"
