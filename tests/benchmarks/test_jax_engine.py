"""The peer in JAX trains exactly what the engines train; otherwise the comparison would mean nothing."""

import pytest
import torch

pytest.importorskip("jax")

from benchmarks.jax_engine import JaxEngine
from digits_sweep.training.engines import ENGINES
from tests.workloads import SGD, optimizer_called, workload

pytestmark = pytest.mark.full


@pytest.mark.parametrize("head", ["softmax", "logits"])
def test_it_has_the_losses_of_the_engines(head):
    order = torch.randperm(203, generator=torch.Generator().manual_seed(1))
    losses = [kind(workload(head=head)).train(order) for kind in (JaxEngine, ENGINES["eager"])]
    assert losses[0].shape == losses[1].shape == (11,)
    assert torch.allclose(*losses, rtol=0, atol=2e-5)


def test_it_computes_on_the_cpu_on_a_machine_with_a_gpu_too():
    assert JaxEngine(workload()).images.device.platform == "cpu"


@pytest.mark.parametrize("optimizer", [SGD, optimizer_called("adamw")])
def test_another_optimizer_is_refused(optimizer):
    assert JaxEngine.refusal(workload(optimizer=optimizer)) == "it is written for Adam on the CPU"
    assert JaxEngine.refusal(workload()) is None


def test_another_network_is_refused():
    assert JaxEngine.refusal(workload(activation="tanh")) == "it is written for model=mlp model.activation=relu"
