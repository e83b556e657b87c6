"""The MLP's training by the formula, on preallocated tensors: what autograd would compute, without its graph.

All parameters lie in one vector, which the optimizer's fused kernel steps at once.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from digits_sweep.data.digits import scale_in_place, scale_of
from digits_sweep.training.engines.fused_steps import fused_kernel, moments_of, set_state, unknown_step
from digits_sweep.training.engines.protocol import (
    Engine,
    Workload,
    cpu_only,
    mlp_only,
    plain_loss_only,
    plain_steps_only,
    relu_only,
)
from digits_sweep.training.model import MLP


class FlatParameters:
    """Move the weights and biases of `model` into one vector, `values`, that they become views of.

    Every Linear layer is a block in it, (in_features + 1, out_features): its transposed weight above its bias. So one
    product with inputs that end with a column of ones covers both, forward and backward. The blocks lie in the vector
    row by row, that of the output layer column by column if `output_by_columns`: products are faster along the long
    side. Numbers of units are rounded up to a multiple of `lanes`; what is padding is 0 and stays 0. `gradients` is a
    vector of the same length and order.
    """

    def __init__(self, model: MLP, lanes: int = 1, output_by_columns: bool = True) -> None:
        self.layers: list[nn.Linear] = [*model.hidden_layers, model.output]
        self.output_by_columns = output_by_columns
        units = [-(-layer.out_features // lanes) * lanes for layer in self.layers]
        self.shapes = [(above + 1, width) for above, width in pairwise([self.layers[0].in_features, *units])]
        self.values, self.gradients = self.new_vector(), self.new_vector()
        for parameter, view in self.views_of(self.values).items():
            parameter.data = view.copy_(parameter.data)

    def new_vector(self) -> Tensor:
        """Return a vector of zeros with an element for every weight."""
        return self.layers[-1].weight.data.new_zeros(sum(rows * width for rows, width in self.shapes))

    def blocks_of(self, vector: Tensor) -> list[Tensor]:
        """Return every layer's part of `vector`, (in_features + 1, out_features), the one next to the images first."""
        *hidden, output = vector.split([rows * width for rows, width in self.shapes])
        blocks = [part.view(shape) for part, shape in zip(hidden, self.shapes, strict=False)]
        rows, width = self.shapes[-1]
        return [*blocks, output.view(width, rows).t() if self.output_by_columns else output.view(rows, width)]

    def views_of(self, vector: Tensor) -> dict[Tensor, Tensor]:
        """Return every parameter's part of `vector`, in the parameter's shape."""
        views: dict[Tensor, Tensor] = {}
        for layer, block in zip(self.layers, self.blocks_of(vector), strict=True):
            used = block[:, : layer.out_features]
            views |= {layer.weight: used[: layer.in_features].t(), layer.bias: used[-1]}
        return views


# PyTorch's fused kernels take up to 36 tensors at once; a tensor of less than 65,536 elements has one block of threads.
PIECES = 32


class FusedUpdate:
    """Steps `flat.values` by `flat.gradients` as `optimizer.step()` would, without its bookkeeping.

    The kernels are those that `fused=True` selects. What they keep from step to step lies in the optimizer's own
    state, as views, so that `state_dict()` is what it would be after as many `optimizer.step()`.
    """

    def __init__(self, optimizer: Optimizer, flat: FlatParameters) -> None:
        """Raise TypeError if the optimizer's step is not exactly that of plain Adam, AdamW or SGD."""
        if unknown := unknown_step(optimizer):
            raise TypeError(f"no fused step is known for {unknown}")
        (self.group,) = optimizer.param_groups
        self.steps_done = flat.values.new_zeros(())
        moments = [flat.new_vector() for _ in moments_of(optimizer)]
        set_state(optimizer, map(flat.views_of, moments), self.steps_done)
        values, gradients, *of_moments = map(_pieces, (flat.values, flat.gradients, *moments))
        self.kernel, self.pieces = partial(fused_kernel(optimizer), values, gradients, of_moments), len(values)

    def steps(self, iterations: int, rates: Sequence[float] | Tensor | None = None) -> Callable[[], object]:
        """Return what is to be called once in each of the `iterations` that follow.

        `rates` has the share of the learning rate for each of them, if it is not the whole one. In a tensor
        (iterations,) on the device of the parameters, they may change after a CUDA graph is captured of the steps.
        """
        kernel, pieces, lr = self.kernel, self.pieces, self.group["lr"]
        # Every step of Adam needs its number. Counting up on a tensor would be one more operation in every step.
        numbers = iter((self.steps_done + torch.arange(1, iterations + 1, device=self.steps_done.device)).unbind())
        self.steps_done.add_(iterations)
        if rates is None:
            return lambda: kernel([next(numbers)] * pieces, lr)
        of_steps = iter((lr * rates).unbind() if isinstance(rates, Tensor) else [lr * share for share in rates])
        return lambda: kernel([next(numbers)] * pieces, next(of_steps))


def _pieces(vector: Tensor) -> list[Tensor]:
    """Return the parts of `vector` that a fused kernel steps: on a GPU it has one block of threads for each."""
    if not vector.is_cuda:
        return [vector]
    return list(vector.split(-(-len(vector) // (4 * PIECES)) * 4))


# Images brought into the order and converted at a time: few enough to be in the cache still when their batch is trained
# on. All of them in float32 would be four times the memory.
PORTION = 1_000


class ClosedFormEngine(Engine):
    """Forward, backward and step on preallocated tensors, for ReLU networks on the CPU."""

    limits = (cpu_only, mlp_only, plain_loss_only, relu_only, plain_steps_only)

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload)
        self.images, self.labels = workload.images.flatten(1), workload.labels
        flat = FlatParameters(workload.mlp)
        self.update = FusedUpdate(self.optimizer, flat)
        squashes = isinstance(workload.mlp.head, nn.Softmax)
        self.portion_of = partial(Portion, flat, squashes, scale_of(workload.images, workload.scale))
        self.resize(workload.batch_size, len(self.images))

    def resize(self, batch_size: int, num_samples: int) -> None:
        self.batch_size = batch_size
        self.full_batches, ragged = divmod(num_samples, batch_size)
        self.full = self.portion_of(batch_size, max(1, PORTION // batch_size))
        self.ragged = self.portion_of(ragged, 1) if ragged else None
        # How many full batches of the present epoch are trained on at this size.
        self.position = 0

    @torch.inference_mode()
    def train(self, order: Tensor, rates: Sequence[float] | None = None) -> Tensor:
        update = self.update.steps(-(-len(order) // self.batch_size), rates)
        losses = []
        for portion, first, rows in self._portions(order):
            portion.fill(first, self.images, self.labels, rows)
            losses.append(portion.train(first, -(-len(rows) // portion.size), update))
        return torch.cat(losses)

    def _portions(self, order: Tensor) -> Iterator[tuple["Portion", int, Tensor]]:
        """Yield the buffers to train in, the first batch to fill there, and the rows to fill in, (n,) int64.

        A batch lies in the same place however its epoch is cut: with some processors the last bit of a product depends
        on where in memory its operands are.
        """
        rest = order
        while len(rest) >= self.batch_size:
            first = self.position % len(self.full.batches)
            count = min(len(self.full.batches) - first, len(rest) // self.batch_size)
            yield self.full, first, rest[: count * self.batch_size]
            rest = rest[count * self.batch_size :]
            self.position = (self.position + count) % self.full_batches
        if len(rest):
            assert self.ragged is not None, "a batch is smaller only at the end of an epoch"
            yield self.ragged, 0, rest


class Portion:
    """Up to `count` batches of `size` images, one after the other in fixed buffers, and the step on each of them.

    `spare` is how many floats lie between the images.
    """

    def __init__(self, flat: FlatParameters, squashes: bool, how: str, size: int, count: int, spare: int = 0) -> None:
        weights, gradients = flat.blocks_of(flat.values), flat.blocks_of(flat.gradients)
        new, classes = flat.values.new_empty, weights[-1].shape[1]
        self.size, self.squashes, self.how = size, squashes, how
        inputs = weights[0].shape[0]
        self.images = new(size * count, inputs + spare).fill_(1)[:, :inputs]
        self.targets, self.log_scores = new(size * count, classes), new(size * count, classes)
        # What the gradient adds for a label: minus the one-hot row, over the number of images in the batch.
        self.target_of = new(classes, classes).zero_().fill_diagonal_(-1 / size)
        of_batches = (rows.split(size) for rows in (self.images, self.targets, self.log_scores))
        self.batches = [(images, images.t(), targets, log) for images, targets, log in zip(*of_batches, strict=True)]
        self.scores, self.probabilities, self.gradient = (new(size, classes) for _ in range(3))
        self._connect(weights, gradients)

    def _connect(self, weights: list[Tensor], gradients: list[Tensor]) -> None:
        """Lay out the operands of every product, layer by layer, in the order in which a step takes them."""
        new, ones = self.scores.new_empty, self.scores.new_ones
        activations = [ones(self.size, weight.shape[1] + 1) for weight in weights[:-1]]
        hidden = [activation[:, :-1] for activation in activations]
        # The gradient with respect to what goes into an activation, and into the head.
        deltas = [new(self.size, weight.shape[1]) for weight in weights]
        self.delta, self.slope = deltas[-1], new(self.size, len(weights[-1]) - 1)
        self.first = (weights[0], hidden[0], activations[0], deltas[0], gradients[0])
        self.forward = list(zip(activations, weights[1:], hidden[1:], activations[1:], strict=False))
        self.last = (activations[-1], weights[-1])
        self.backward = [
            (activations[k].t(), deltas[k + 1], gradients[k + 1], weights[k + 1][:-1].t(), hidden[k], deltas[k])
            for k in reversed(range(len(hidden)))
        ]

    def fill(self, first: int, images: Tensor, labels: Tensor, rows: Tensor) -> None:
        """Copy in the images and labels at `rows` (n,) int64, from batch `first` on."""
        filled = slice(first * self.size, first * self.size + len(rows))
        # The last column stays 1: the bias's input.
        scale_in_place(self.images[filled, :-1].copy_(images.index_select(0, rows)), self.how)
        torch.index_select(self.target_of, 0, labels[rows], out=self.targets[filled])

    def train(self, first: int, count: int, update: Callable[[], object]) -> Tensor:
        """Step on `count` batches from `first` on; return the loss of each, (count,)."""
        mm, relu_, through_relu = torch.mm, torch.relu_, self._through_relu
        first_weight, first_hidden, first_activation, first_delta, first_gradient = self.first
        last_activation, last_weight = self.last
        for images, images_t, targets, log_scores in self.batches[first : first + count]:
            mm(images, first_weight, out=first_hidden)
            relu_(first_activation)
            for below, weight, hidden, activation in self.forward:
                mm(below, weight, out=hidden)
                relu_(activation)
            mm(last_activation, last_weight, out=self.scores)
            self._head(targets, log_scores)
            for below_t, delta, gradient, weight_t, hidden, delta_below in self.backward:
                mm(below_t, delta, out=gradient)
                mm(delta, weight_t, out=delta_below)
                through_relu(delta_below, hidden)
            mm(images_t, first_delta, out=first_gradient)
            update()
        trained = slice(first * self.size, (first + count) * self.size)
        losses = self.log_scores[trained] * self.targets[trained]
        return losses.view(count, -1).sum(1)

    def _through_relu(self, delta: Tensor, output: Tensor) -> None:
        """Change the gradient with respect to ReLU's `output` to that with respect to its input."""
        if delta.is_cuda:
            # One kernel instead of two.
            torch.ops.aten.threshold_backward.grad_input(delta, output, 0, grad_input=delta)
        else:
            # If ReLU let a value through, its slope there is 1: the sign of its output.
            delta.mul_(torch.sign(output, out=self.slope))

    def _head(self, targets: Tensor, log_scores: Tensor) -> None:
        """Compute log-probabilities from the last layer's outputs, and the mean loss's gradient before the head."""
        delta, dtype = self.delta, self.scores.dtype
        if not self.squashes:
            torch._log_softmax(self.scores, 1, False, out=log_scores)
            torch._log_softmax_backward_data(targets, log_scores, 1, dtype, out=delta)
            return
        torch._softmax(self.scores, 1, False, out=self.probabilities)
        torch._log_softmax(self.probabilities, 1, False, out=log_scores)
        torch._log_softmax_backward_data(targets, log_scores, 1, dtype, out=self.gradient)
        torch._softmax_backward_data(self.gradient, self.probabilities, 1, dtype, grad_input=delta)
