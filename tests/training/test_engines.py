"""The contract that every engine keeps: the same batches, the same losses, whatever computes them."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy

from digits_sweep.data.digits import scale
from digits_sweep.training.engines import ENGINES, EngineRefused, choose_engine
from digits_sweep.training.engines.closed_form import ClosedFormEngine
from digits_sweep.training.engines.protocol import Workload
from digits_sweep.training.epoch_order import epoch_order
from digits_sweep.training.evaluation import evaluate
from digits_sweep.training.model import MLP
from digits_sweep.training.optimizer import build_optimizer
from tests.workloads import ADAM, PLAIN_SGD, SGD, STEP_OF_ONE, workload

# An epoch here is some tens of steps. Each rounds a loss near 2 to 2.4e-7 at best, and the next one starts from weights
# that differ in their last bits, so a hundred such steps are allowed; a wrong term anywhere shows as 1e-3 and more.
TOLERANCE = 2e-5


@pytest.fixture(autouse=True)
def threads_as_they_were() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def plain_loop(given: Workload, epochs: int) -> tuple[Tensor, MLP]:
    """The textbook loop that every engine is held against: the loss of every iteration, and the model it ends with."""
    model = given.model
    optimizer = build_optimizer(given.optimizer, model.parameters(), fused=False)
    images = scale(given.images, given.scale)
    losses = []
    for epoch in range(1, epochs + 1):
        for batch in epoch_order(0, epoch, len(images)).split(given.batch_size):
            loss = cross_entropy(model(images[batch]), given.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return torch.tensor(losses), model


def on_this_machine(name: str) -> object:
    needs_gpu = name == "cuda_graph" and not torch.cuda.is_available()
    return pytest.param(name, marks=pytest.mark.skipif(needs_gpu, reason="cuda_graph needs an NVIDIA GPU"))


@pytest.fixture(params=[on_this_machine(name) for name in ENGINES])
def engine_name(request: pytest.FixtureRequest) -> str:
    return request.param


def trained(name: str, given: Workload, epochs: int = 2) -> tuple[Tensor, MLP]:
    engine = ENGINES[name](given)
    losses = [engine.run_epoch(epoch_order(0, epoch, len(given.images))).cpu() for epoch in range(1, epochs + 1)]
    return torch.cat(losses), engine.model.cpu()


def device_of(name: str) -> str:
    return "cuda" if name == "cuda_graph" else "cpu"


@pytest.mark.parametrize(("head", "optimizer"), list(product(["softmax", "logits"], [ADAM, SGD, PLAIN_SGD])))
def test_every_iteration_has_the_loss_of_the_plain_loop(engine_name, head, optimizer):
    expected, _ = plain_loop(workload(head=head, optimizer=optimizer), epochs=2)
    losses, _ = trained(engine_name, workload(head=head, optimizer=optimizer, device=device_of(engine_name)))
    assert (losses - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize(("num_samples", "batch_size"), [(203, 1), (203, 7), (203, 100), (203, 203), (2_500, 300)])
def test_any_batch_size_from_one_to_the_whole_data_set_gives_these_losses(engine_name, num_samples, batch_size):
    expected, _ = plain_loop(workload(num_samples, batch_size), epochs=2)
    losses, _ = trained(engine_name, workload(num_samples, batch_size, device=device_of(engine_name)))
    assert losses.shape == expected.shape
    assert (losses - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize(("hidden_size", "hidden_layers"), [(1, 1), (1, 3), (33, 1), (512, 2)])
def test_any_hidden_size_gives_these_losses(engine_name, hidden_size, hidden_layers):
    shape = {"hidden_size": hidden_size, "hidden_layers": hidden_layers}
    expected, _ = plain_loop(workload(**shape), epochs=2)
    losses, _ = trained(engine_name, workload(**shape, device=device_of(engine_name)))
    assert (losses - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("scaling", ["unit", "standard", "raw"])
def test_every_scale_reaches_every_engine_alike(engine_name, scaling):
    expected, _ = plain_loop(workload(scale=scaling), epochs=1)
    losses, _ = trained(engine_name, workload(scale=scaling, device=device_of(engine_name)), epochs=1)
    assert (losses - expected).abs().max() < (1e-3 if scaling == "raw" else TOLERANCE)


def test_the_model_that_is_evaluated_is_the_one_that_was_trained(engine_name):
    given = workload(device=device_of(engine_name))
    _, expected = plain_loop(workload(), epochs=2)
    _, model = trained(engine_name, given)
    for trained_weight, weight in zip(model.parameters(), expected.parameters(), strict=True):
        assert (trained_weight - weight).abs().max() < 1e-4
    images = scale(given.images, given.scale)
    assert evaluate(model, images, given.labels).accuracy == pytest.approx(
        evaluate(expected, images, given.labels).accuracy, abs=0.02
    )


def test_the_optimizer_holds_the_state_of_every_parameter(engine_name):
    given = workload(device=device_of(engine_name))
    engine = ENGINES[engine_name](given)
    engine.run_epoch(epoch_order(0, 1, len(given.images)))
    kept = engine.optimizer.state_dict()["state"]
    assert len(kept) == len(list(engine.model.parameters()))
    assert all(state["step"] == 11 and state["exp_avg"].abs().sum() > 0 for state in kept.values())


def test_building_an_engine_leaves_the_initial_weights_as_they_are(engine_name):
    expected = workload().model
    engine = ENGINES[engine_name](workload(device=device_of(engine_name)))
    for built, initial in zip(engine.model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(built.cpu(), initial)


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
    cross_entropy(given.model(scale(given.images, "unit").double()), given.labels).backward()
    gradients = [parameter.grad.clone() for parameter in given.model.parameters()]
    ClosedFormEngine(given).run_epoch(torch.arange(batch))
    for parameter, before, gradient in zip(given.model.parameters(), initial, gradients, strict=True):
        torch.testing.assert_close(before - parameter.detach(), gradient, rtol=1e-10, atol=1e-13)


def test_auto_takes_the_closed_form_for_the_lessons_network_on_a_cpu():
    name, reason = choose_engine("auto", workload())
    assert name == "closed_form"
    assert "fastest" in reason


def test_auto_takes_eager_for_an_activation_that_the_closed_form_does_not_know_and_says_why():
    name, reason = choose_engine("auto", workload(activation="tanh"))
    assert name == "eager"
    assert "not closed_form: it knows the gradient of model.activation=relu only" in reason


def test_an_engine_asked_for_by_name_is_never_replaced():
    with pytest.raises(EngineRefused, match=r"engine=closed_form: it knows the gradient of .* only"):
        choose_engine("closed_form", workload(activation="tanh"))
    with pytest.raises(EngineRefused, match="engine=cuda_graph: it needs an NVIDIA GPU"):
        choose_engine("cuda_graph", workload())
