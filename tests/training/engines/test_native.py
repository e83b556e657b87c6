"""The engine in C, on images of which most pixels are 0, as digits are, and on others: exact, or refused."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy

from digits_sweep.data.digits import scale
from digits_sweep.training.engines.closed_form import ClosedFormEngine
from digits_sweep.training.engines.native import NativeEngine
from digits_sweep.training.engines.protocol import Engine, Workload
from digits_sweep.training.epochs import epoch_order
from digits_sweep.training.model import MLP
from tests.training.engines.contract import assert_same_bits, trained_in_parts
from tests.workloads import ADAM, PLAIN_SGD, SGD, STEP_OF_ONE, workload

CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(
    NativeEngine.refusal(workload().model, ADAM, CPU) is not None, reason="there is no C compiler"
)
pytestmark = needs_compiler

OPTIMIZERS = {
    "adam": ADAM,
    "adamw": replace(ADAM, name="adamw"),
    "nesterov": SGD,
    "sgd": PLAIN_SGD,
    "momentum": replace(SGD, nesterov=False),
}


def digits_like(num_samples: int = 203, batch_size: int = 20, of_zeros: float = 0.8, **described: object) -> Workload:
    """Random images in which this share of the pixels is 0."""
    made = workload(num_samples, batch_size, **described)
    drawn = torch.rand(made.images.shape, generator=torch.Generator().manual_seed(1))
    return replace(made, images=made.images * (drawn >= of_zeros))


def trained(name: str, given: Workload, cuts: Sequence[int] = (), threads: int = 1) -> tuple[Tensor, Engine]:
    """The losses of two epochs, each cut after so many batches, and the engine after them."""
    torch.set_num_threads(threads)
    found = trained_in_parts(name, given, cuts)
    torch.set_num_threads(1)
    return found


def everything(engine: Engine) -> list[Tensor]:
    """Weights and optimizer state."""
    states = engine.optimizer.state_dict()["state"].values()
    return [*engine.model.state_dict().values(), *(tensor for state in states for tensor in state.values())]


@settings(max_examples=60)
@given(
    batch=st.integers(1, 9),
    hidden_size=st.integers(1, 40),
    hidden_layers=st.integers(1, 3),
    head=st.sampled_from(["softmax", "logits"]),
    scaling=st.sampled_from(["unit", "standard", "raw"]),
    zeros=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    classes=st.sampled_from([2, 10, 16, 33]),
    pixels=st.sampled_from([1, 127, 128, 256, 257, 784]),
    seed=st.integers(0, 2**31),
)
def test_a_step_is_autograds_gradient(batch, hidden_size, hidden_layers, head, scaling, zeros, classes, pixels, seed):
    torch.manual_seed(seed)
    model = MLP(pixels, hidden_size, hidden_layers, classes, "relu", head)
    given = digits_like(batch, batch, zeros, optimizer=STEP_OF_ONE, scale=scaling)
    images = given.images.flatten(1)[:, :pixels].unsqueeze(1).contiguous()
    given = replace(given, model=model, images=images, labels=given.labels % classes)
    initial = [parameter.detach().clone() for parameter in model.parameters()]
    inputs, exact = scale(given.images, scaling), copy.deepcopy(model).double()
    cross_entropy(exact(inputs.double()), given.labels).backward()
    gradients = [parameter.grad.float() for parameter in exact.parameters()]
    NativeEngine(given).train(torch.arange(batch))
    for parameter, before, gradient in zip(model.parameters(), initial, gradients, strict=True):
        # Weights of up to 1 are rounded to 6e-8 before the step and after it. A saturated softmax leaves the rounding
        # of several numbers of up to 1 in its gradient, as it does in autograd's in float32, and raw inputs multiply it
        # by up to 255.
        tolerance = 1e-6 + 2e-6 * gradient.abs().max().item() + 5e-7 * inputs.abs().max().item()
        torch.testing.assert_close(before - parameter.detach(), gradient, rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("batch_size", [1, 7, 128, 129, 203, 500])
def test_digits_train_as_with_the_closed_form(name, batch_size):
    """128 images are computed at a time: a larger batch is several times as many."""
    optimizer = OPTIMIZERS[name]
    expected, closed_form = trained("closed_form", digits_like(300, batch_size, optimizer=optimizer))
    losses, native = trained("native", digits_like(300, batch_size, optimizer=optimizer))
    assert (losses - expected).abs().max() < 2e-5
    for tensor, of_closed_form in zip(everything(native), everything(closed_form), strict=True):
        assert (tensor - of_closed_form).abs().max() <= 1e-3 * of_closed_form.abs().max()


SHAPES = [{}, {"hidden_size": 200, "hidden_layers": 3}, {"hidden_size": 33, "hidden_layers": 1, "head": "logits"}]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("batch_size", "scaling"), [(5, "unit"), (150, "unit"), (5, "standard"), (300, "standard")])
def test_any_number_of_threads_gives_the_same_bits(batch_size, scaling, shape):
    def given() -> Workload:
        return digits_like(301, batch_size, scale=scaling, **shape)

    alone = trained("native", given())
    for threads in (2, 3, 64):
        assert_same_bits(trained("native", given(), threads=threads), alone)


@settings(max_examples=25)
@given(data=st.data())
def test_any_batch_size_and_any_cuts_give_the_same_bits(data):
    batch_size = data.draw(st.sampled_from([1, 7, 100, 129, 1_000]))
    cuts = sorted(data.draw(st.sets(st.integers(1, 1_001 // batch_size), max_size=5)))
    optimizer = OPTIMIZERS[data.draw(st.sampled_from(sorted(OPTIMIZERS)))]
    shape = {"scale": data.draw(st.sampled_from(["unit", "standard"])), "hidden_size": 20, "optimizer": optimizer}
    uncut = trained("native", digits_like(1_001, batch_size, **shape))
    assert_same_bits(trained("native", digits_like(1_001, batch_size, **shape), cuts), uncut)


def test_more_images_than_are_computed_in_one_call_give_the_same_bits(monkeypatch):
    whole = trained("native", digits_like(301, 20))
    monkeypatch.setattr("digits_sweep.training.engines.native.CALL", 50)
    assert_same_bits(trained("native", digits_like(301, 20)), whole)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_resumed_run_gives_the_same_bits(optimizer):
    losses, engine = trained("native", digits_like(optimizer=optimizer))
    before = NativeEngine(digits_like(optimizer=optimizer))
    first = before.train(epoch_order(0, 1, 203))
    resumed = NativeEngine(digits_like(optimizer=optimizer))
    restore_from(before, resumed)
    second = resumed.train(epoch_order(0, 2, 203))
    assert_same_bits((torch.cat([first, second]), resumed), (losses, engine))


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_what_the_closed_form_began_can_be_continued(optimizer):
    expected, _ = trained("closed_form", digits_like(optimizer=optimizer))
    before = ClosedFormEngine(digits_like(optimizer=optimizer))
    before.train(epoch_order(0, 1, 203))
    resumed = NativeEngine(digits_like(optimizer=optimizer))
    restore_from(before, resumed)
    assert (resumed.train(epoch_order(0, 2, 203)) - expected[11:]).abs().max() < 2e-5


def restore_from(before: Engine, engine: Engine) -> None:
    state = {number: dict(each) for number, each in before.optimizer.state_dict()["state"].items()}
    engine.model.load_state_dict(before.model.state_dict())
    for number, kept in engine.optimizer.state_dict()["state"].items():
        for name, tensor in kept.items():
            tensor.copy_(state[number][name])


def test_what_pads_the_weights_stays_zero():
    _, engine = trained("native", digits_like(hidden_size=33))
    for vector in engine.vectors.values():
        for view in engine.parameters.views_of(vector).values():
            view.zero_()
        assert vector.count_nonzero() == 0


def test_a_rate_that_is_changed_between_parts_of_an_epoch_is_followed():
    engine = NativeEngine(digits_like())
    engine.train(torch.arange(100))
    engine.optimizer.param_groups[0]["lr"] = 0.0
    before = [parameter.clone() for parameter in engine.model.parameters()]
    engine.train(torch.arange(100, 203))
    assert all(map(torch.equal, engine.model.parameters(), before))


def test_a_loss_that_is_no_number_is_reported_as_such():
    engine = NativeEngine(digits_like(optimizer=replace(PLAIN_SGD, lr=1e30)))
    assert not engine.train(epoch_order(0, 1, 203)).isfinite().all()


def test_an_empty_part_of_an_epoch_has_no_losses():
    assert NativeEngine(digits_like()).train(torch.arange(0)).shape == (0,)


def test_pytorchs_default_type_is_of_no_importance():
    expected = trained("native", digits_like())
    given = digits_like()
    torch.set_default_dtype(torch.float64)
    try:
        assert_same_bits(trained("native", given), expected)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("betas", [[0.0, 0.5], [0.3, 0.9], [0.99, 0.99]])
def test_any_other_betas_step_as_torchs_do(betas):
    optimizer = replace(ADAM, betas=betas)
    expected, _ = trained("closed_form", digits_like(optimizer=optimizer))
    losses, _ = trained("native", digits_like(optimizer=optimizer))
    assert (losses - expected).abs().max() < 2e-5
