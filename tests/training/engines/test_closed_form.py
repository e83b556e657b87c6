"""The gradient written out, and the optimizers' kernels called directly: exact, or refused."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam, AdamW, RMSprop

from digits_sweep.data.digits import scale_in_place
from digits_sweep.training.engines.closed_form import ClosedFormEngine, FlatParameters, fused_update
from digits_sweep.training.model import MLP
from tests.workloads import ADAM, STEP_OF_ONE, mlp, small_convolution, workload

CPU = torch.device("cpu")


@settings(max_examples=60)
@given(
    batch=st.integers(1, 9),
    hidden_size=st.integers(1, 12),
    hidden_layers=st.integers(1, 3),
    head=st.sampled_from(["softmax", "logits"]),
    seed=st.integers(0, 2**31),
)
def test_the_closed_form_is_autograds_gradient_in_float64(batch, hidden_size, hidden_layers, head, seed):
    torch.manual_seed(seed)
    given = replace(
        workload(num_samples=batch, batch_size=batch, optimizer=STEP_OF_ONE),
        model=MLP(28 * 28, hidden_size, hidden_layers, 10, "relu", head).double(),
    )
    initial = [parameter.detach().clone() for parameter in given.model.parameters()]
    cross_entropy(given.model(scale_in_place(given.images.unsqueeze(1).double(), "unit")), given.labels).backward()
    gradients = [parameter.grad.clone() for parameter in given.model.parameters()]
    ClosedFormEngine(given).train(torch.arange(batch))
    for parameter, before, gradient in zip(given.model.parameters(), initial, gradients, strict=True):
        torch.testing.assert_close(before - parameter.detach(), gradient, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "gelu"])
def test_another_activation_than_relu_is_refused(activation):
    refusal = ClosedFormEngine.refusal(workload(activation=activation).model, ADAM, CPU)
    assert refusal == "it knows the gradient of model.activation=relu only"


class Wider(MLP):
    """A subclass may compute anything."""


@pytest.mark.parametrize("model", [small_convolution(), Wider(784, 8, 1, 10, "relu", "softmax")])
def test_a_model_that_is_not_exactly_an_mlp_is_refused(model):
    assert ClosedFormEngine.refusal(model, ADAM, CPU) == "it knows the gradient of model=mlp only"


def test_another_device_than_the_cpu_is_refused():
    assert ClosedFormEngine.refusal(workload().model, ADAM, torch.device("mps")) == "it computes on the CPU only"


class Mine(AdamW):
    """A subclass may step in any way."""


OTHERS = {
    "Mine": lambda parameters: Mine(parameters),
    "AdamW with amsgrad": lambda parameters: AdamW(parameters, amsgrad=True),
    "RMSprop": lambda parameters: RMSprop(parameters),
    "Adam with amsgrad": lambda parameters: Adam(parameters, amsgrad=True),
    "Adam with decoupled_weight_decay": lambda parameters: Adam(parameters, decoupled_weight_decay=True),
    "SGD with dampening and maximize": lambda parameters: SGD(parameters, momentum=0.9, dampening=0.1, maximize=True),
    "SGD with several groups of parameters": lambda parameters: SGD([{"params": [each]} for each in parameters]),
}


@pytest.mark.parametrize("name", OTHERS)
def test_an_optimizer_that_is_not_plain_adam_adamw_or_sgd_is_refused(name, monkeypatch):
    monkeypatch.setattr(
        "digits_sweep.training.optimizers.OPTIMIZERS",
        {"adam": lambda config, parameters, **_: OTHERS[name](parameters)},
    )
    refusal = ClosedFormEngine.refusal(workload().model, ADAM, CPU)
    assert refusal == "it knows the plain steps of Adam, AdamW and SGD only, not optimizer=adam"


@pytest.mark.parametrize("name", OTHERS)
def test_no_other_optimizer_is_stepped_by_the_kernels_of_adam_or_sgd(name):
    model = workload(model=mlp(hidden_size=3)).model
    optimizer = OTHERS[name](model.parameters())
    with pytest.raises(TypeError, match=f"^no fused step is known for {name}$"):
        fused_update(optimizer, FlatParameters(model))
