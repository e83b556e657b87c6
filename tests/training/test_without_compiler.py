"""Optimizers are made, saved and loaded without PyTorch's compiler, whose import takes over a second."""

import subprocess
import sys

import pytest
from torch.optim import Optimizer

from digits_sweep.training.optimizers import DECORATED, KEPT_UNDER, without_compiler

MAKES_SAVES_AND_LOADS = """
import sys, torch
from digits_sweep.training.optimizers import without_compiler
parameters = [torch.nn.Parameter(torch.zeros(3))]
with without_compiler():
    optimizer = torch.optim.Adam(parameters, fused=True)
    optimizer.load_state_dict(optimizer.state_dict())
print("torch._dynamo" in sys.modules)
from digits_sweep.training.engines.eager import DirectStep
parameters[0].grad = torch.ones(3)
DirectStep(optimizer)()
print("torch._dynamo" in sys.modules)
optimizer.step()
print("torch._dynamo" in sys.modules, parameters[0].tolist())
"""


@pytest.mark.full
def test_the_compiler_is_imported_when_it_is_needed_and_not_before():
    found = subprocess.run([sys.executable, "-c", MAKES_SAVES_AND_LOADS], capture_output=True, text=True, check=True)
    *before, after = found.stdout.splitlines()
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
