"""From the optimizer's configuration to `torch.optim`."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, RMSprop

from digits_sweep.config.schema import AdamConfig, MuonConfig, OptimizerConfig, RMSpropConfig
from digits_sweep.training.optimizers import OPTIMIZERS, build_optimizer, steps_plainly, unknown_step
from tests import workloads
from tests.workloads import KNOWN_OPTIMIZERS, optimizer_called


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


def test_adamw_has_every_key_of_its_configuration(parameters):
    config = AdamConfig(name="adamw", lr=0.1, weight_decay=0.2, betas=[0.3, 0.4], eps=0.5)
    optimizer = build_optimizer(config, parameters, fused=False, capturable=True)
    expected = {"lr": 0.1, "weight_decay": 0.2, "betas": (0.3, 0.4), "eps": 0.5, "capturable": True}
    assert type(optimizer) is AdamW
    assert optimizer.param_groups[0].items() >= expected.items()


def test_rmsprop_has_every_key_of_its_configuration(parameters):
    config = RMSpropConfig(name="rmsprop", lr=0.1, weight_decay=0.2, alpha=0.3, eps=0.4, momentum=0.5)
    optimizer = build_optimizer(config, parameters, fused=True)
    expected = {"lr": 0.1, "weight_decay": 0.2, "alpha": 0.3, "eps": 0.4, "momentum": 0.5}
    assert type(optimizer) is RMSprop
    assert optimizer.param_groups[0].items() >= expected.items()


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize(("fused", "passed_on"), [(True, True), (False, None)])
def test_the_fused_step_is_asked_for_or_left_to_pytorch(name, fused, passed_on, parameters):
    optimizer = build_optimizer(optimizer_called(name), parameters, fused=fused)
    assert optimizer.param_groups[0].get("fused") == passed_on


def test_weight_decay_is_added_to_the_gradient_and_not_decoupled(parameters):
    """Adam's first step has the size of the rate in the direction of the gradient, here that of the decay alone."""
    optimizer = build_optimizer(AdamConfig("adam", 0.1, 5e-4, betas=[0.9, 0.999], eps=1e-12), parameters, fused=True)
    parameters[0].grad = torch.zeros(3)
    optimizer.step()
    torch.testing.assert_close(parameters[0].data, torch.full((3,), 0.9))


@pytest.mark.parametrize("name", KNOWN_OPTIMIZERS)
def test_what_planning_takes_for_a_plain_step_is_one(name, parameters):
    config = optimizer_called(name)
    known = unknown_step(build_optimizer(config, parameters, fused=False)) is None
    assert steps_plainly(config) == known


def test_adamw_shrinks_weights_apart_from_the_gradient(parameters):
    """Where the gradient is 0, a step takes away lr x weight_decay of every weight."""
    optimizer = build_optimizer(AdamConfig("adamw", 0.1, 0.5, betas=[0.9, 0.999], eps=1e-8), parameters, fused=True)
    parameters[0].grad = torch.zeros(3)
    optimizer.step()
    torch.testing.assert_close(parameters[0].data, torch.full((3,), 0.95))


def test_an_optimizer_is_a_function_and_a_line_in_the_registry(parameters, monkeypatch):
    monkeypatch.setitem(OPTIMIZERS, "rprop", lambda config, params, **_: torch.optim.Rprop(params, lr=config.lr))
    optimizer = build_optimizer(OptimizerConfig(name="rprop", lr=0.1, weight_decay=0.0), parameters, fused=True)
    assert unknown_step(optimizer) == "Rprop"


MUON = MuonConfig(name="muon", lr=0.1, weight_decay=0.2, momentum=0.9, betas=[0.8, 0.9], eps=1e-8)


def stepped(optimizer, parameters, times: int = 3) -> None:
    for time in range(times):
        for number, each in enumerate(parameters):
            each.grad = torch.randn(each.shape, generator=torch.Generator().manual_seed(10 * time + number))
        optimizer.step()


def layers() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(4, 3)), nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(2, 3, 5, 5))]


def test_muon_steps_matrices_and_adamw_the_rest():
    found, expected = layers(), layers()
    stepped(build_optimizer(MUON, found, fused=False), found)
    matrix, *rest = expected
    muon = torch.optim.Muon([matrix], lr=0.1, weight_decay=0.2, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    adamw = AdamW(rest, lr=0.1, weight_decay=0.2, betas=(0.8, 0.9))
    for time in range(3):
        for number, each in enumerate(expected):
            each.grad = torch.randn(each.shape, generator=torch.Generator().manual_seed(10 * time + number))
        muon.step()
        adamw.step()
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("kept", [[0], [1], [0, 1, 2]], ids=["matrices only", "none", "both"])
def test_muon_goes_on_from_its_state_to_the_same_bits(kept):
    whole, resumed = [layers()[number] for number in kept], [layers()[number] for number in kept]
    first, second = (build_optimizer(MUON, each, fused=True) for each in (whole, resumed))
    stepped(first, whole)
    with torch.no_grad():
        for each, value in zip(resumed, whole, strict=True):
            each.copy_(value)
    groups = second.state_dict()["param_groups"]
    second.load_state_dict({"state": deepcopy(first.state_dict()["state"]), "param_groups": groups})
    for optimizer, parameters in ((first, whole), (second, resumed)):
        stepped(optimizer, parameters)
    assert all(map(torch.equal, whole, resumed))
    assert len(second.state_dict()["state"]) == len(kept)
