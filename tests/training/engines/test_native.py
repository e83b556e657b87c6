"""The engine in C, on images of which most pixels are 0, as digits are, and on others: exact, and within its memory."""

import copy
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy

from digits_sweep.data.digits import scale
from digits_sweep.training.engines import ENGINES
from digits_sweep.training.engines.native import SOURCE, NativeEngine
from digits_sweep.training.engines.protocol import Engine, Workload
from digits_sweep.training.epochs import epoch_order
from tests.training.engines import contract
from tests.training.engines.contract import TOLERANCE, assert_same_bits, tensors_in
from tests.workloads import ADAM, PLAIN_SGD, SGD, STEP_OF_ONE, needs_compiler, workload

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
    result = contract.trained(name, given, cuts=cuts)
    torch.set_num_threads(1)
    return result


@settings(max_examples=60)
@given(
    batch=st.integers(1, 9),
    scaling=st.sampled_from(["unit", "standard", "raw"]),
    of_zeros=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    pixels=st.sampled_from([1, 127, 128, 256, 257, 784]),
    hidden_size=st.integers(1, 40),
    hidden_layers=st.integers(1, 3),
    head=st.sampled_from(["softmax", "logits"]),
    num_classes=st.sampled_from([2, 10, 16, 33]),
)
def test_a_step_is_autograds_gradient(batch, scaling, of_zeros, pixels, num_classes, **shape):
    shape |= {"image_shape": (1, 1, pixels), "num_classes": num_classes}
    given = digits_like(batch, batch, of_zeros, optimizer=STEP_OF_ONE, scale=scaling, **shape)
    given = replace(given, labels=given.labels % num_classes)
    inputs, before = scale(given.images, scaling), copy.deepcopy(given.model).double()
    cross_entropy(before(inputs.double()), given.labels).backward()
    NativeEngine(given).train(torch.arange(batch))
    for parameter, exact in zip(given.model.parameters(), before.parameters(), strict=True):
        # Weights of up to 1 are rounded to 6e-8 before the step and after it. A saturated softmax leaves the rounding
        # of several numbers of up to 1 in its gradient, as it does in autograd's in float32, and raw inputs multiply it
        # by up to 255.
        tolerance = 1e-6 + 2e-6 * exact.grad.abs().max().item() + 5e-7 * inputs.abs().max().item()
        step = exact.detach().float() - parameter.detach()
        torch.testing.assert_close(step, exact.grad.float(), rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("batch_size", [1, 7, 128, 129, 203, 500])
def test_digits_train_as_with_the_closed_form(name, batch_size):
    """128 images are computed at a time: a larger batch is several times as many."""
    optimizer = OPTIMIZERS[name]
    expected, closed_form = trained("closed_form", digits_like(300, batch_size, optimizer=optimizer))
    losses, native = trained("native", digits_like(300, batch_size, optimizer=optimizer))
    assert (losses - expected).abs().max() < TOLERANCE
    one, other = (tensors_in(engine) | engine.model.state_dict() for engine in (native, closed_form))
    for name, tensor in other.items():
        assert (one[name] - tensor).abs().max() <= 1e-3 * tensor.abs().max()


@pytest.mark.parametrize("betas", [[0.0, 0.5], [0.3, 0.9], [0.99, 0.99]])
def test_any_other_betas_step_as_torchs_do(betas):
    expected, _ = trained("closed_form", digits_like(optimizer=replace(ADAM, betas=betas)))
    losses, _ = trained("native", digits_like(optimizer=replace(ADAM, betas=betas)))
    assert (losses - expected).abs().max() < TOLERANCE


SHAPES = [{}, {"hidden_size": 200, "hidden_layers": 3}, {"hidden_size": 33, "hidden_layers": 1, "head": "logits"}]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("batch_size", "scaling"), [(5, "unit"), (150, "unit"), (5, "standard"), (300, "standard")])
def test_any_number_of_threads_gives_the_same_bits(batch_size, scaling, shape):
    alone, *others = (
        trained("native", digits_like(301, batch_size, scale=scaling, **shape), threads=threads)
        for threads in (1, 2, 3, 64)
    )
    for together in others:
        assert_same_bits(together, alone)


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
@pytest.mark.parametrize("began", ["native", "closed_form"])
def test_what_either_engine_began_is_continued_to_the_bits_of_the_engine_in_c(began, optimizer):
    expected, engine = trained("native", digits_like(optimizer=optimizer))
    before, resumed = (ENGINES[name](digits_like(optimizer=optimizer)) for name in (began, "native"))
    first = before.train(epoch_order(0, 1, 203))
    resumed.model.load_state_dict(before.model.state_dict())
    state = tensors_in(before)
    for name, tensor in tensors_in(resumed).items():
        tensor.copy_(state[name])
    second = resumed.train(epoch_order(0, 2, 203))
    if began == "native":
        assert_same_bits((torch.cat([first, second]), resumed), (expected, engine))
    assert (torch.cat([first, second]) - expected).abs().max() < TOLERANCE


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


@settings(max_examples=40)
@given(
    batch_size=st.sampled_from([1, 20, 300]),
    chosen=st.lists(st.integers(0, 299), max_size=300).map(lambda numbers: torch.tensor(numbers, dtype=torch.int64)),
    threads=st.sampled_from([2, 3]),
    hidden_size=st.integers(1, 40),
    hidden_layers=st.integers(1, 3),
    head=st.sampled_from(["softmax", "logits"]),
)
def test_it_evaluates_other_images_like_its_model_between_two_steps(batch_size, chosen, threads, **shape):
    _, engine = trained("native", digits_like(203, batch_size, **shape))
    others = digits_like(300).images
    outputs = engine.outputs(others, chosen)
    expected = engine.model.eval()(scale(others[chosen], "unit")).detach()
    assert outputs.shape == expected.shape
    assert torch.allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    torch.set_num_threads(threads)
    assert torch.equal(engine.outputs(others, chosen), outputs)
    torch.set_num_threads(1)


def test_images_of_which_few_pixels_are_0_are_evaluated_by_the_model():
    made = workload()
    assert NativeEngine(made).outputs(made.images, torch.arange(9)) is None


# It reads nothing outside of what it is given


@pytest.mark.parametrize(
    ("order", "error", "text"),
    [
        (torch.tensor([0, 203]), IndexError, "order must be from 0 to 202"),
        (torch.tensor([-1, 0]), IndexError, "order must be from 0 to 202"),
        (torch.arange(20, dtype=torch.int32), TypeError, "order must be int64, not torch.int32"),
    ],
)
def test_no_image_outside_the_data_set_is_read(order, error, text):
    with pytest.raises(error, match=f"^{text}$"):
        NativeEngine(workload()).train(order)
    with pytest.raises(error, match=f"^{text}$"):
        NativeEngine(made := digits_like()).outputs(made.images, order)


@pytest.mark.parametrize(
    ("changed", "error", "text"),
    [
        ({"images": torch.zeros(203, 28, 28)}, TypeError, "labels int64, not torch.float32 and torch.int64"),
        ({"labels": torch.zeros(203, dtype=torch.int32)}, TypeError, "images must be uint8 and labels int64, not"),
        ({"labels": torch.full((203,), 10)}, IndexError, "labels must be from 0 to 9"),
        ({"labels": torch.zeros(202, dtype=torch.int64)}, ValueError, "every image must have a label"),
        ({"images": torch.zeros(203, 27, 28, dtype=torch.uint8)}, ValueError, "as many pixels as the model has inputs"),
    ],
)
def test_nothing_is_read_that_is_not_there(changed, error, text):
    with pytest.raises(error, match=text):
        NativeEngine(replace(workload(), **changed))


def test_no_image_of_another_size_is_evaluated():
    with pytest.raises(ValueError, match="must have 784 pixels, not 756"):
        NativeEngine(digits_like()).outputs(torch.zeros(9, 27, 28, dtype=torch.uint8), torch.arange(9))


def test_the_c_code_is_part_of_the_package():
    assert SOURCE.is_file()


TRAINING = """
import torch
from tests.training.engines.test_native import OPTIMIZERS, digits_like, trained
for scale in ("unit", "standard"):
    for count, batch_size in ((9, 1), (30, 7), (160, 150)):
        for hidden_size, hidden_layers, head in ((33, 3, "softmax"), (1, 1, "logits")):
            shape = {"hidden_size": hidden_size, "hidden_layers": hidden_layers, "head": head}
            for number, optimizer in enumerate(OPTIMIZERS.values()):
                given = digits_like(count, batch_size, scale=scale, optimizer=optimizer, **shape)
                losses, engine = trained("native", given, threads=(1, 3)[number % 2])
                assert losses.isfinite().all()
                if (outputs := engine.outputs(given.images, torch.arange(count - 1, -1, -1))) is not None:
                    assert outputs.isfinite().all()
print("trained")
"""


@pytest.mark.full
def test_nothing_outside_its_memory_is_touched_and_nothing_undefined_is_done(monkeypatch):
    """Under the compiler's sanitizers: addresses, and what C leaves undefined."""
    checks = "-fsanitize=address,undefined"
    runtimes = [
        subprocess.run(["cc", f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    if not all(Path(runtime).is_absolute() for runtime in runtimes):
        pytest.skip("this compiler has no sanitizers")
    monkeypatch.setenv("CC", f"cc {checks} -fno-sanitize-recover=all -fno-omit-frame-pointer")
    monkeypatch.setenv("LD_PRELOAD", " ".join(runtimes))
    monkeypatch.setenv("ASAN_OPTIONS", "detect_leaks=0:malloc_context_size=0")
    finished = subprocess.run([sys.executable, "-c", TRAINING], capture_output=True, text=True)
    assert (finished.returncode, finished.stdout) == (0, "trained\n"), finished.stderr


def test_images_are_listed_once_for_all_engines_and_anew_once_they_have_changed():
    made = digits_like()
    first, second = NativeEngine(made), NativeEngine(replace(made, model=copy.deepcopy(made.model)))
    assert first.task.sparse.entries == second.task.sparse.entries
    made.images[0].fill_(7)
    changed = NativeEngine(replace(made, model=copy.deepcopy(made.model)))
    assert changed.task.sparse.entries != first.task.sparse.entries
    others = NativeEngine(replace(made, images=made.images.clone(), model=copy.deepcopy(made.model)))
    assert others.task.sparse.entries != changed.task.sparse.entries
