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

An optimizer that divides every coordinate j by the root of its mean square steps along P g with
P_j = 1 / sqrt(G_j^2 + Sigma_jj / B) at batch size B, and meets noise in that metric: tr(P Sigma) / G^T P G. For SGD
P = 1, and that is the simple noise scale. Sums for a coordinate give both Sigma_jj and G_j^2 in the way above. Where
the mean over some examples is large by chance, P is small, so P comes from one half of them and G^2 from the other, and
then the other way round: what is chance in both does not count twice.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from operator import add

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
# Any number would do; it must never change, or two readings would differ by it.
SEED_OF_THE_HALVES = 0


@dataclass(frozen=True)
class GradientNoise:
    """Estimates of |G|^2 (`squared_norm`) and of tr(Sigma) (`trace`), or of G^T P G and tr(P Sigma)."""

    squared_norm: float
    trace: float

    def of_population(self, size: int) -> "GradientNoise":
        """Return the noise if the examples are some of a training set of `size`: on all of it, G is exact."""
        return GradientNoise(self.squared_norm + self.trace / size, self.trace)

    @property
    def scale(self) -> float:
        """The noise scale, in examples. Infinite if the gradient cannot be told from its noise: |G|^2 <= 0 then."""
        return self.trace / self.squared_norm if self.squared_norm > 0 else math.inf


@dataclass(frozen=True)
class Sums:
    """Sums over `count` gradients, each the mean of `size` examples: of their squares and of themselves.

    A tensor for every parameter, of its shape or of one with as many numbers.
    """

    size: int
    count: int
    squares: list[Tensor]
    totals: list[Tensor]

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.size,
            self.count + other.count,
            [one + two for one, two in zip(self.squares, other.squares, strict=True)],
            [one + two for one, two in zip(self.totals, other.totals, strict=True)],
        )

    def variances(self) -> list[Tensor]:
        """Return Sigma_jj of single examples for every coordinate j, unbiased; needs two gradients."""
        factor = self.size / (1 - 1 / self.count)
        pairs = zip(self.squares, self.totals, strict=True)
        return [factor * (squares / self.count - (total / self.count).square()) for squares, total in pairs]


@dataclass(frozen=True)
class GradientSums:
    """The gradients of a model's examples, or of its micro-batches, in two halves."""

    halves: tuple[Sums, Sums]

    def noise(self) -> GradientNoise:
        """Return the noise in the plain metric, of examples that never end."""
        sums = self.halves[0] + self.halves[1]
        count = sums.count
        of_mean = math.fsum((total / count).square().sum().item() for total in sums.totals)
        mean_square = math.fsum(squares.sum().item() for squares in sums.squares) / count
        return GradientNoise(
            squared_norm=(count * of_mean - mean_square) / (count - 1),
            trace=sums.size * (mean_square - of_mean) / (1 - 1 / count),
        )

    def noise_in_metric(self, batch_size: int | None) -> GradientNoise | None:
        """Return the noise in the metric P of steps on `batch_size` examples, with None in the plain one.

        None if there are fewer than four gradients.
        """
        if batch_size is None:
            return self.noise()
        if min(half.count for half in self.halves) < 2:
            return None
        variances = (self.halves[0] + self.halves[1]).variances()
        one, two = self.halves
        parts = [_in_metric(of_metric, other, variances, batch_size) for of_metric, other in ((one, two), (two, one))]
        return GradientNoise(*(math.fsum(each) / 2 for each in zip(*parts, strict=True)))


def _in_metric(of_metric: Sums, other: Sums, variances: list[Tensor], batch_size: int) -> tuple[float, float]:
    """Return G^T P G and tr(P Sigma): P from one half of the gradients, G from the other, Sigma from all."""
    norms, traces = [], []
    parts = zip(of_metric.totals, other.totals, other.variances(), variances, strict=True)
    for total, other_total, variance_of_other, variance in parts:
        second_moment = (total / of_metric.count).square() + variance.clamp(min=0) / batch_size
        # Where no example has a gradient there is neither noise nor a step.
        metric = torch.where(second_moment > 0, second_moment, torch.inf).rsqrt()
        squared = (other_total / other.count).square() - variance_of_other / (other.size * other.count)
        norms.append((metric * squared).sum().item())
        traces.append((metric * variance).sum().item())
    return math.fsum(norms), math.fsum(traces)


def gradient_sums(model: nn.Module, images: Tensor, labels: Tensor, loss: Loss = PLAIN) -> GradientSums:
    """Add up the gradients on `images` (n, channels, height, width) and `labels` (n,), and their squares, over all n.

    If `torch.func` cannot differentiate the model example by example (recurrent layers, functions without a rule for
    `vmap`, `.item()`), its gradients are those of micro-batches; a last smaller one is left out.
    Both lie on the model's device; n is 2 or more. Nothing of the model changes: layers are in evaluation mode, and
    gradients that its parameters hold stay. Raises what the model raises if that cannot be had either.
    """
    with frozen(model, images.device):
        if type(model) is MLP and loss.is_plain:
            return _in_halves(partial(_sums_of_mlp, model), 1, PORTION, images, labels)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        portion = max(1, MOST_NUMBERS // max(1, parameters))
        try:
            return _in_halves(partial(_sums_of_any, loss, model), 1, portion, images, labels)
        # Networks are the user's code too, and PyTorch has many errors for what `vmap` cannot do.
        except Exception as error:
            size = -(-len(images) // MICRO_BATCHES)
            log.info("gradient noise from micro-batches of %d, because torch.func failed: %s", size, error)
        # cuDNN computes no gradient of a recurrent layer in evaluation mode.
        with torch.backends.cudnn.flags(enabled=False):
            return _in_halves(partial(_sums_of_batch, loss, model), size, size, images, labels)


def _in_halves(
    sums_of: Callable[[Tensor, Tensor], Sums], size: int, portion: int, images: Tensor, labels: Tensor
) -> GradientSums:
    """Add the sums of all portions of either half, which are drawn: examples may lie in order of their classes."""
    count = len(images) // size
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SEED_OF_THE_HALVES))
    halves = order[: count * size].to(images.device).tensor_split([-(-count // 2) * size])
    one, two = (reduce(add, (sums_of(images[part], labels[part]) for part in half.split(portion))) for half in halves)
    return GradientSums((one, two))


def _sums_of_mlp(model: MLP, images: Tensor, labels: Tensor) -> Sums:
    """Sum over the examples without forming their gradients.

    An example's gradient with respect to the weights of a Linear layer is the outer product of delta, the gradient with
    respect to what comes out of the layer, and what goes in; with respect to the bias, it is delta. So the sum of the
    squares is one more product of two matrices, that of the squared deltas and the squared inputs (Dangel, Kunstner,
    Hennig 2020, "BackPACK: Packing more into Backprop", appendix A.1).
    """
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
    squares, totals = list[Tensor](), list[Tensor]()
    for values, delta in zip(inputs, deltas, strict=True):
        squared = delta.square()
        squares += [squared.t() @ values.square(), squared.sum(0)]
        totals += [delta.t() @ values, delta.sum(0)]
    return Sums(1, len(images), squares, totals)


def _sums_of_any(loss: Loss, model: nn.Module, images: Tensor, labels: Tensor) -> Sums:
    """Sum over the gradients of the examples, formed one by one, of any network that `torch.func` can differentiate."""
    parameters = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    buffers = dict(model.named_buffers())

    def of_one(parameters: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return loss(functional_call(model, (parameters, buffers), image.unsqueeze(0)), label.unsqueeze(0))

    gradients = vmap(grad(of_one), in_dims=(None, 0, 0), randomness="different")(parameters, images, labels)
    several = list(gradients.values())
    squares = [gradient.square().sum(0) for gradient in several]
    return Sums(1, len(images), squares, [gradient.sum(0) for gradient in several])


def _sums_of_batch(loss: Loss, model: nn.Module, images: Tensor, labels: Tensor) -> Sums:
    """Return the squares of the gradient of the mean loss of one micro-batch, and that gradient."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with torch.enable_grad():
        mean = loss(model(images), labels)
        gradients = torch.autograd.grad(mean, parameters, allow_unused=True, materialize_grads=True)
    return Sums(len(images), 1, [gradient.square() for gradient in gradients], list(gradients))
