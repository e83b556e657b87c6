"""The gradient noise scale: how much the gradients of single examples differ from their mean, at frozen weights.

With g_i the gradient of example i's loss (weight decay is not in it), Sigma the covariance of the g_i and G their mean
over all data, a step on B examples follows G plus noise of covariance Sigma / B. The simple noise scale
B_simple = tr(Sigma) / |G|^2 (McCandlish, Kaplan, Amodei et al. 2018, "An Empirical Model of Large-Batch Training",
eq. 2.9) is the batch size at which noise and gradient are of one size.

With g2 = |mean of n gradients|^2 and m = mean of the |g_i|^2, the expectation of g2 is |G|^2 + tr(Sigma) / n and that
of m is |G|^2 + tr(Sigma). Solved for the two, as in appendix A.1 there with batch sizes 1 and n:
|G|^2 = (n g2 - m) / (n - 1) and tr(Sigma) = (m - g2) / (1 - 1/n).

If the gradients of single examples cannot be had, those of micro-batches of b examples stand for them. With m the mean
of their squares, |G|^2 + tr(Sigma) / b is expected of it: |G|^2 = (n g2 - b m) / (n - b) and
tr(Sigma) = (m - g2) / (1/b - 1/n), which is the same for b = 1.

So it is if examples never end. Of the N of a training set, n are drawn without replacement, and the expectation of g2
is |G|^2 + tr(Sigma) (1/n - 1/N) (Cochran 1977, Sampling Techniques, section 2.6): |G|^2 is larger by tr(Sigma) / N.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy, linear

from digits_sweep.training.device import frozen
from digits_sweep.training.losses import PLAIN, Loss
from digits_sweep.training.model import MLP

log = logging.getLogger(__name__)

# Examples at a time: few enough for a processor's cache.
PORTION = 1_000
# Numbers in the gradients of the examples that are held at a time, 64 MB in float32.
MOST_NUMBERS = 2**24
# As many micro-batches tell the trace to some percent.
MICRO_BATCHES = 128


@dataclass(frozen=True)
class GradientNoise:
    """Estimates of |G|^2 (`squared_norm`) and of tr(Sigma) (`trace`)."""

    squared_norm: float
    trace: float

    def of_population(self, size: int) -> "GradientNoise":
        """Return the noise if the examples are some of a training set of `size`: on all of it, G is exact."""
        return GradientNoise(self.squared_norm + self.trace / size, self.trace)

    @property
    def scale(self) -> float:
        """B_simple, in examples. Infinite if the gradient cannot be told from its noise: |G|^2 is then 0 or below."""
        return self.trace / self.squared_norm if self.squared_norm > 0 else math.inf


# Sums over some gradients: of |g_i|^2, and of g_i, a tensor for every parameter or layer.
Sums = tuple[float, list[Tensor]]


def gradient_noise(model: nn.Module, images: Tensor, labels: Tensor, loss: Loss = PLAIN) -> GradientNoise:
    """Measure the gradient noise on `images` (n, channels, height, width) and `labels` (n,), exactly over all n.

    If `torch.func` cannot differentiate the model example by example (recurrent layers, functions without a rule for
    `vmap`, `.item()`), its gradients are those of micro-batches; a last smaller one is left out.
    Both lie on the model's device; n is 2 or more. Nothing of the model changes: layers are in evaluation mode, and
    gradients that its parameters hold stay. Raises what the model raises if that cannot be had either.
    """
    with frozen(model, images.device):
        if type(model) is MLP and loss.is_plain:
            return _noise(1, len(images), _in_portions(_sums_of_mlp, PORTION, model, images, labels))
        parameters = sum(parameter.numel() for parameter in model.parameters())
        portion = max(1, MOST_NUMBERS // max(1, parameters))
        try:
            return _noise(1, len(images), _in_portions(partial(_sums_of_any, loss), portion, model, images, labels))
        # Networks are the user's code too, and PyTorch has many errors for what `vmap` cannot do.
        except Exception as error:
            size = -(-len(images) // MICRO_BATCHES)
            log.info("gradient noise from micro-batches of %d, because torch.func failed: %s", size, error)
        # cuDNN computes no gradient of a recurrent layer in evaluation mode.
        with torch.backends.cudnn.flags(enabled=False):
            used = len(images) // size * size
            batches = _in_portions(partial(_sums_of_batch, loss), size, model, images[:used], labels[:used])
            return _noise(size, used // size, batches)


def _in_portions(
    sums_of: Callable[[nn.Module, Tensor, Tensor], Sums], portion: int, model: nn.Module, images: Tensor, labels: Tensor
) -> Sums:
    """Add the sums of all portions of the examples."""
    squares, totals = 0.0, list[Tensor]()
    for some, answers in zip(images.split(portion), labels.split(portion), strict=True):
        squares_of_portion, sums = sums_of(model, some, answers)
        squares += squares_of_portion
        totals = [total.add_(sum_) for total, sum_ in zip(totals, sums, strict=True)] if totals else sums
    return squares, totals


def _noise(size: int, count: int, sums: Sums) -> GradientNoise:
    """Estimate from the sums over `count` gradients, each the mean of `size` examples."""
    squares, totals = sums
    of_mean = math.fsum((total / count).square().sum().item() for total in totals)
    mean_square = squares / count
    return GradientNoise(
        squared_norm=(count * of_mean - mean_square) / (count - 1),
        trace=size * (mean_square - of_mean) / (1 - 1 / count),
    )


def _sums_of_mlp(model: nn.Module, images: Tensor, labels: Tensor) -> Sums:
    """Sum over the examples without forming their gradients.

    An example's gradient with respect to the weights of a Linear layer is the outer product of delta, the gradient with
    respect to what comes out of the layer, and what goes in; with respect to the bias, it is delta. So its square is
    the sum over layers of (|input|^2 + 1) |delta|^2 (Goodfellow 2015, "Efficient Per-Example Gradient Computations").
    """
    assert isinstance(model, MLP)
    layers, steps = [*model.hidden_layers, model.output], [*model.activations, model.head]
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    with torch.enable_grad():
        values = images.flatten(1)
        for layer, step in zip(layers, steps, strict=True):
            inputs.append(values.detach())
            output = linear(values, layer.weight.detach(), layer.bias.detach())
            outputs.append(output if output.requires_grad else output.requires_grad_())
            values = step(output)
        # The sum, because each output belongs to one example: its gradient is that of the example's own loss.
        deltas = torch.autograd.grad(cross_entropy(values, labels, reduction="sum"), outputs)
    pairs = list(zip(inputs, deltas, strict=True))
    squares = sum((values.square().sum(1) + 1) * delta.square().sum(1) for values, delta in pairs)
    assert isinstance(squares, Tensor)
    weights = [delta.t() @ values for values, delta in pairs]
    return squares.cpu().double().sum().item(), [*weights, *(delta.sum(0) for delta in deltas)]


def _sums_of_any(loss: Loss, model: nn.Module, images: Tensor, labels: Tensor) -> Sums:
    """Sum over the gradients of the examples, formed one by one, of any network that `torch.func` can differentiate."""
    parameters = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    buffers = dict(model.named_buffers())

    def of_one(parameters: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return loss(functional_call(model, (parameters, buffers), image.unsqueeze(0)), label.unsqueeze(0))

    gradients = vmap(grad(of_one), in_dims=(None, 0, 0), randomness="different")(parameters, images, labels)
    squares = sum(gradient.flatten(1).square().sum(1) for gradient in gradients.values())
    return squares.cpu().double().sum().item(), [gradient.sum(0) for gradient in gradients.values()]


def _sums_of_batch(loss: Loss, model: nn.Module, images: Tensor, labels: Tensor) -> Sums:
    """Return the square of the gradient of the mean loss of one micro-batch, and that gradient."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with torch.enable_grad():
        mean = loss(model(images), labels)
        gradients = torch.autograd.grad(mean, parameters, allow_unused=True, materialize_grads=True)
    return math.fsum(gradient.square().sum().item() for gradient in gradients), [*map(torch.clone, gradients)]
