"""The gradient noise scale: the gradients of single examples without forming them, and its reference values."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from digits_sweep.data.digits import scale
from digits_sweep.training.engines.closed_form import ClosedFormEngine
from digits_sweep.training.engines.protocol import Workload
from digits_sweep.training.epochs import epoch_order
from digits_sweep.training.gradient_noise import GradientNoise, GradientSums, Sums, gradient_sums
from digits_sweep.training.model import ACTIVATIONS, MLP, build_model
from tests.mirror import load_mnist
from tests.workloads import ADAM, mlp, model_called, small_convolution


def noise_of(model: nn.Module, images: Tensor, labels: Tensor) -> GradientNoise:
    return gradient_sums(model, images, labels).noise()


def gradients_of(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Every example's gradient by autograd, (examples, parameters)."""
    parameters = [each for each in model.parameters() if each.requires_grad]
    rows = []
    for image, label in zip(images, labels, strict=True):
        loss = cross_entropy(model(image[None]), label[None])
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        rows.append(torch.cat([each.flatten() for each in gradients]))
    return torch.stack(rows).double()


def one_by_one(model: nn.Module, images: Tensor, labels: Tensor) -> GradientNoise:
    """The definition: the mean of the gradients of all examples, and their variance."""
    gradients = gradients_of(model, images, labels)
    trace = gradients.var(dim=0, correction=1).sum().item()
    # The square of the mean is larger than that of the true gradient by the mean's own variance.
    return GradientNoise(gradients.mean(0).square().sum().item() - trace / len(gradients), trace)


def assert_like_the_definition(model: nn.Module, images: Tensor, labels: Tensor, rel: float) -> None:
    noise, expected = noise_of(model, images, labels), one_by_one(model.eval(), images, labels)
    assert noise.trace == pytest.approx(expected.trace, rel=rel)
    # A difference, which may be as small as one likes.
    assert noise.squared_norm == pytest.approx(expected.squared_norm, rel=rel, abs=rel * expected.trace)


@settings(max_examples=60)
@given(
    side=st.integers(1, 9),
    count=st.integers(2, 9),
    seed=st.integers(0, 2**31),
    hidden_size=st.integers(1, 9),
    hidden_layers=st.integers(1, 3),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    head=st.sampled_from(["softmax", "logits"]),
)
def test_the_squared_gradients_of_an_mlp_are_those_of_autograd(side, count, seed, **shape):
    model = build_model(mlp(**shape), seed, (1, side, side)).double()
    torch.manual_seed(seed)
    images, labels = torch.randn(count, 1, side, side, dtype=torch.float64), torch.randint(0, 10, (count,))
    assert_like_the_definition(model, images, labels, rel=1e-9)


def test_on_the_whole_training_set_the_gradient_is_exact_and_on_a_part_of_it_unbiased():
    torch.manual_seed(0)
    model = build_model(mlp(hidden_size=4), 0, (1, 3, 3)).double()
    images, labels = torch.randn(40, 1, 3, 3, dtype=torch.float64), torch.randint(0, 10, (40,))
    whole = noise_of(model, images, labels).of_population(40)
    without_end = noise_of(model, images, labels)
    assert whole.squared_norm == pytest.approx(without_end.squared_norm + whole.trace / 40)
    drawn = (torch.randperm(40)[:20] for _ in range(400))
    parts = [noise_of(model, images[part], labels[part]).of_population(40) for part in drawn]
    assert sum(part.squared_norm for part in parts) / 400 == pytest.approx(whole.squared_norm, rel=0.05)


@pytest.mark.parametrize("network", ["mlp", "convolution"])
@pytest.mark.parametrize("batch_size", [1, 30, 10_000])
def test_the_noise_in_the_optimizers_metric_is_that_of_its_definition(network, batch_size):
    torch.manual_seed(0)
    model = (build_model(mlp(hidden_size=4), 0, (1, 28, 28)) if network == "mlp" else small_convolution()).double()
    images, labels = torch.rand(41, 1, 28, 28, dtype=torch.float64), torch.randint(0, 10, (41,))
    gradients = gradients_of(model.eval(), images, labels)
    halves = [gradients[part] for part in torch.randperm(41, generator=torch.Generator().manual_seed(0)).split(21)]
    variances, squared_norm, trace = gradients.var(0), 0.0, 0.0
    for of_metric, other in (halves, halves[::-1]):
        metric = (of_metric.mean(0).square() + variances / batch_size).rsqrt().nan_to_num(posinf=0)
        squared_norm += (metric * (other.mean(0).square() - other.var(0) / len(other))).sum().item() / 2
        trace += (metric * variances).sum().item() / 2
    noise = gradient_sums(model, images, labels).noise_in_metric(batch_size)
    assert noise is not None
    assert noise.trace == pytest.approx(trace, rel=1e-6)
    assert noise.squared_norm == pytest.approx(squared_norm, rel=1e-6, abs=1e-6 * trace)


def test_the_metric_of_sgd_is_plain_and_three_gradients_are_too_few_for_another():
    model, images, labels = small_convolution(), torch.rand(8, 1, 28, 28), torch.arange(8)
    sums = gradient_sums(model, images, labels)
    assert sums.noise_in_metric(None) == sums.noise()
    assert gradient_sums(model, images[:3], labels[:3]).noise_in_metric(8) is None


@pytest.mark.full
def test_the_scale_in_the_metric_does_not_hang_on_the_number_of_examples():
    """Half of the coordinates are noise alone, whose mean over a few examples would pass for a gradient."""
    torch.manual_seed(0)
    mean = torch.cat([torch.full((200,), 0.05), torch.zeros(200)]).double()
    exact = gradients_to_noise(mean + torch.randn(100_000, 400).double(), 300).scale
    several = [gradients_to_noise(mean + torch.randn(500, 400).double(), 300) for _ in range(100)]
    scale = sum(each.trace for each in several) / sum(each.squared_norm for each in several)
    assert scale == pytest.approx(exact, rel=0.15)


def gradients_to_noise(gradients: Tensor, batch_size: int) -> GradientNoise:
    halves = [Sums(1, len(half), [half.square().sum(0)], [half.sum(0)]) for half in gradients.chunk(2)]
    noise = GradientSums((halves[0], halves[1])).noise_in_metric(batch_size)
    assert noise is not None
    return noise


class Frozen(nn.Module):
    """A network with a part that is not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(784, 8).requires_grad_(False), nn.Linear(8, 10)

    def forward(self, images):
        return self.second(self.first(images.flatten(1)).relu())


class Wider(MLP):
    """A subclass may compute anything."""

    def forward(self, images):
        return 2 * super().forward(images)


@pytest.mark.parametrize(
    "model",
    [
        build_model(mlp(), 0),
        small_convolution(),
        Frozen(),
        Wider(mlp(hidden_size=5, activation="tanh"), (1, 28, 28)),
        *(build_model(model_called(name, "softmax"), 0) for name in ("cnn", "linear")),
    ],
)
@pytest.mark.parametrize("numbers", [2**24, 1, 12_000])
def test_the_gradients_of_any_network_are_those_of_autograd_however_many_fit_at_a_time(model, numbers, monkeypatch):
    monkeypatch.setattr("digits_sweep.training.gradient_noise.MOST_NUMBERS", numbers)
    monkeypatch.setattr("digits_sweep.training.gradient_noise.PORTION", min(numbers, 7))
    torch.manual_seed(0)
    assert_like_the_definition(model, torch.rand(12, 1, 28, 28), torch.randint(0, 10, (12,)), rel=1e-4)


class Recurrent(nn.Module):
    """Rows of an image, one after the other: `vmap` has no rule for the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.unused, self.output = nn.GRU(28, 6, batch_first=True), nn.Linear(2, 2), nn.Linear(6, 10)

    def forward(self, images):
        return self.output(self.rows(images.squeeze(1))[0][:, -1])


class Doubled(torch.autograd.Function):
    """A function with a gradient of its own, and no rule for `vmap`."""

    @staticmethod
    def forward(context, values):
        return 2 * values

    @staticmethod
    def backward(context, gradient):
        return 2 * gradient


class WithOwnFunction(Frozen):
    def forward(self, images):
        return Doubled.apply(super().forward(images))


class LooksAtValues(Frozen):
    def forward(self, images):
        return super().forward(images) * (2 if images.mean().item() > -1 else 1)


@pytest.mark.full
@pytest.mark.parametrize("kind", [Recurrent, WithOwnFunction, LooksAtValues])
def test_micro_batches_stand_for_examples_whose_gradients_cannot_be_had_one_by_one(kind, monkeypatch):
    torch.manual_seed(0)
    model, images, labels = kind(), torch.rand(400, 1, 28, 28), torch.randint(0, 10, (400,))
    few = images[:40], labels[:40]
    noise, expected = noise_of(model, *few), one_by_one(model.eval(), *few)
    assert (noise.trace, noise.squared_norm) == pytest.approx((expected.trace, expected.squared_norm), rel=1e-4)
    exact = one_by_one(model, images, labels)
    # 100 micro-batches of 4 examples: the same two numbers, up to the noise of so many.
    noise = noise_of(model, images, labels)
    assert noise.trace == pytest.approx(exact.trace, rel=0.2)
    assert noise.squared_norm == pytest.approx(exact.squared_norm, rel=0.2, abs=2 * exact.trace / 400)


@pytest.mark.parametrize("model", [build_model(mlp(), 0), small_convolution()])
def test_gradients_and_weights_of_the_model_stay_as_they_are(model):
    images, labels = torch.rand(20, 1, 28, 28), torch.arange(20) % 10
    cross_entropy(model(images), labels).backward()
    before = {name: (each.clone(), each.grad.clone()) for name, each in model.named_parameters()}
    buffers = {name: each.clone() for name, each in model.named_buffers()}
    noise_of(model, images, labels)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name][0])
        assert torch.equal(parameter.grad, before[name][1])
    assert all(torch.equal(each, buffers[name]) for name, each in model.named_buffers())
    assert model.training


def test_equal_examples_have_no_noise_and_a_gradient_that_cannot_be_told_from_it_makes_the_scale_infinite():
    noise = noise_of(build_model(mlp(), 0), torch.ones(8, 1, 28, 28), torch.zeros(8, dtype=torch.int64))
    assert noise.trace == pytest.approx(0, abs=1e-6 * noise.squared_norm)
    assert noise.scale == pytest.approx(0, abs=1e-6)
    assert GradientNoise(squared_norm=-1e-3, trace=2.0).scale == float("inf")
    assert GradientNoise(squared_norm=0.5, trace=2.0).scale == 4.0


# On the 60,000 digits of MNIST: hidden size 128, inputs from 0 to 1, softmax, seed 0.


def test_the_reference_values_come_out_before_the_first_step_and_after_25(mnist_root):
    data = load_mnist(mnist_root)
    images, labels = scale(data.train_images, "unit"), data.train_labels
    model = build_model(mlp(hidden_size=128), seed=0)
    noise = noise_of(model, images, labels)
    assert (noise.squared_norm, noise.trace, noise.scale) == pytest.approx((3.2672e-4, 0.043119, 131.97), rel=5e-3)
    engine = ClosedFormEngine(Workload(data.train_images, labels, "unit", model, ADAM, 100, torch.device("cpu")))
    engine.train(epoch_order(0, 1, 60_000)[:2_500])
    noise = noise_of(engine.model, images, labels)
    assert (noise.squared_norm, noise.trace, noise.scale) == pytest.approx((0.044324, 3.5122, 79.24), rel=1e-2)
