"""From the optimizer's configuration to `torch.optim`, without PyTorch's compiler, whose import takes over a second."""

import subprocess
import sys
from copy import deepcopy
from dataclasses import asdict

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from digits_sweep.config.schema import AdamConfig, MuonConfig, OptimizerConfig, RMSpropConfig
from digits_sweep.training.engines.fused_steps import unknown_step
from digits_sweep.training.optimizers import (
    DECORATED,
    KEPT_UNDER,
    build_optimizer,
    plain_kind,
    without_compiler,
)
from tests import workloads
from tests.workloads import KNOWN_OPTIMIZERS, optimizer_called


@pytest.fixture
def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(3))]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (Adam, AdamConfig(name="adam", lr=0.1, weight_decay=0.2, betas=[0.3, 0.4], eps=0.5)),
        (AdamW, AdamConfig(name="adamw", lr=0.1, weight_decay=0.2, betas=[0.3, 0.4], eps=0.5)),
        (SGD, workloads.SGD),
        (RMSprop, RMSpropConfig(name="rmsprop", lr=0.1, weight_decay=0.2, alpha=0.3, eps=0.4, momentum=0.5)),
    ],
)
def test_an_optimizer_has_every_key_of_its_configuration_and_is_fused_if_asked_to(kind, config, fused, parameters):
    optimizer = build_optimizer(config, parameters, fused=fused, capturable=True)
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    keys = {key: value for key, value in asdict(config).items() if key not in asdict(OptimizerConfig("", 0, 0))}
    assert keys
    for key, value in {"lr": config.lr, "weight_decay": config.weight_decay, **keys}.items():
        assert group[key] == (tuple(value) if isinstance(value, list) else value)
    assert group.get("capturable", True)
    assert group.get("fused") == (None if kind is RMSprop else fused or None), "None leaves the choice to PyTorch"


@pytest.mark.parametrize("name", KNOWN_OPTIMIZERS)
def test_what_planning_takes_for_a_plain_step_is_one(name, parameters):
    config = optimizer_called(name)
    optimizer = build_optimizer(config, parameters, fused=False)
    assert plain_kind(config) is (type(optimizer) if unknown_step(optimizer) is None else None)


# Muon

MUON = MuonConfig(name="muon", lr=0.1, weight_decay=0.2, momentum=0.9, betas=[0.8, 0.9], eps=1e-8)


def stepped(parameters: list[nn.Parameter], *optimizers: Optimizer) -> None:
    for time in range(3):
        for number, each in enumerate(parameters):
            each.grad = torch.randn(each.shape, generator=torch.Generator().manual_seed(10 * time + number))
        for optimizer in optimizers:
            optimizer.step()


def layers() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(4, 3)), nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(2, 3, 5, 5))]


def test_muon_steps_matrices_and_adamw_the_rest():
    weights, expected = layers(), layers()
    stepped(weights, build_optimizer(MUON, weights, fused=False))
    muon = torch.optim.Muon(expected[:1], lr=0.1, weight_decay=0.2, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    stepped(expected, muon, AdamW(expected[1:], lr=0.1, weight_decay=0.2, betas=(0.8, 0.9)))
    assert all(map(torch.equal, weights, expected))


@pytest.mark.parametrize("numbers", [[0], [1], [0, 1, 2]], ids=["matrices only", "none", "both"])
def test_muon_goes_on_from_its_state_to_the_same_bits(numbers):
    whole = [layers()[number] for number in numbers]
    first = build_optimizer(MUON, whole, fused=True)
    stepped(whole, first)
    resumed = deepcopy(whole)
    second = build_optimizer(MUON, resumed, fused=True)
    groups = second.state_dict()["param_groups"]
    second.load_state_dict({"state": deepcopy(first.state_dict()["state"]), "param_groups": groups})
    stepped(whole, first)
    stepped(resumed, second)
    assert all(map(torch.equal, whole, resumed))
    assert len(second.state_dict()["state"]) == len(numbers)


# Without the compiler

MAKES_SAVES_AND_LOADS = """
import sys, torch
from digits_sweep.training.optimizers import without_compiler
parameters = [torch.nn.Parameter(torch.zeros(3))]
with without_compiler():
    optimizer = torch.optim.Adam(parameters, fused=True)
    optimizer.load_state_dict(optimizer.state_dict())
print("torch._dynamo" in sys.modules)
from digits_sweep.training.engines.fused_steps import DirectStep
parameters[0].grad = torch.ones(3)
DirectStep(optimizer)()
print("torch._dynamo" in sys.modules)
optimizer.step()
print("torch._dynamo" in sys.modules, parameters[0].tolist())
"""


@pytest.mark.full
def test_the_compiler_is_imported_when_it_is_needed_and_not_before():
    finished = subprocess.run([sys.executable, "-c", MAKES_SAVES_AND_LOADS], capture_output=True, text=True, check=True)
    *before, after = finished.stdout.splitlines()
    assert before == ["False", "False"]
    assert after.startswith("True [-0.00")


def test_nothing_of_pytorch_is_changed_after_the_block():
    functions = [getattr(Optimizer, name).__wrapped__ for name in DECORATED]
    before = [getattr(function, KEPT_UNDER, None) for function in functions]
    with pytest.raises(KeyError), without_compiler():
        raise KeyError
    assert [getattr(function, KEPT_UNDER, None) for function in functions] == before


def test_a_pytorch_that_is_built_otherwise_works_as_usual(monkeypatch):
    for name in DECORATED:
        monkeypatch.setattr(Optimizer, name, lambda *arguments: None)
    with without_compiler():
        assert not any(hasattr(getattr(Optimizer, name), KEPT_UNDER) for name in DECORATED)
