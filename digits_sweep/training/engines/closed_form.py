"""All parameters of an MLP in one vector, and the optimizer's step on it as one fused kernel."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from digits_sweep.config.schema import OptimizerConfig
from digits_sweep.data.digits import scale_in_place, scale_of
from digits_sweep.training.engines.protocol import Workload
from digits_sweep.training.model import MLP
from digits_sweep.training.optimizers import build_optimizer, fused_kernel, steps_plainly, unknown_step


class FlatParameters:
    """Move the weights and biases of `model` into one vector, `values`, that they become views of.

    Every Linear layer is a block in it, (in_features + 1, out_features): its transposed weight above its bias. So one
    product with inputs that end with a column of ones covers both, forward and backward. The hidden layers' blocks
    lie in the vector row by row, the output layer's column by column: products are faster along the long side.
    `gradients` is a vector of the same length and order.
    """

    def __init__(self, model: MLP) -> None:
        self.layers: list[nn.Linear] = [*model.hidden_layers, model.output]
        like, length = model.output.weight.data, sum(parameter.numel() for parameter in model.parameters())
        self.values, self.gradients = like.new_zeros(length), like.new_zeros(length)
        for parameter, view in self.views_of(self.values).items():
            parameter.data = view.copy_(parameter.data)

    def blocks_of(self, vector: Tensor) -> list[Tensor]:
        """Return every layer's part of `vector`, (in_features + 1, out_features), the one next to the images first."""
        shapes = [(layer.in_features + 1, layer.out_features) for layer in self.layers]
        *hidden, output = vector.split([rows * columns for rows, columns in shapes])
        blocks = [part.view(shape) for part, shape in zip(hidden, shapes, strict=False)]
        return [*blocks, output.view(shapes[-1][::-1]).t()]

    def views_of(self, vector: Tensor) -> dict[Tensor, Tensor]:
        """Return every parameter's part of `vector`, in the parameter's shape."""
        views: dict[Tensor, Tensor] = {}
        for layer, block in zip(self.layers, self.blocks_of(vector), strict=True):
            views |= {layer.weight: block[:-1].t(), layer.bias: block[-1]}
        return views


# PyTorch's fused kernels take up to 36 tensors at once; a tensor of less than 65,536 elements has one block of threads.
PIECES = 32

# Shares of the learning rate: numbers, or (iterations,) float32.
Shares = Sequence[float] | Tensor


class UpdateFor(Protocol):
    """Called with the number of iterations that follow; what it returns is called once in each of them.

    `rates` has the share of the learning rate for each of them, if it is not the whole one. In a tensor on the device
    of the parameters, they may change after a CUDA graph is captured of what is returned.
    """

    def __call__(self, iterations: int, rates: Shares | None = None) -> Callable[[], object]: ...


def _pieces(vector: Tensor) -> list[Tensor]:
    """Return the parts of `vector` that a fused kernel steps: on a GPU it has one block of threads for each."""
    if not vector.is_cuda:
        return [vector]
    return list(vector.split(-(-len(vector) // (4 * PIECES)) * 4))


def _learning_rates(lr: float, rates: Shares) -> Iterator[float | Tensor]:
    if isinstance(rates, Tensor):
        return iter((lr * rates).unbind())
    return (lr * share for share in rates)


def fused_update(optimizer: Optimizer, flat: FlatParameters) -> UpdateFor:
    """Return how to step `flat.values` by `flat.gradients` as `optimizer.step()` would, without its bookkeeping.

    The kernels are those that `fused=True` selects. What they keep from step to step lies in the optimizer's own
    state, as views, so that after these iterations `state_dict()` is what it would be after as many `optimizer.step()`.
    Raises TypeError if the optimizer's step is not exactly that of plain Adam, AdamW or SGD.
    """
    if unknown := unknown_step(optimizer):
        raise TypeError(f"no fused step is known for {unknown}")
    return FUSED_UPDATES[type(optimizer)](optimizer, flat)


def _adam(optimizer: Adam, flat: FlatParameters) -> UpdateFor:
    """Step as Adam or, if that is what `optimizer` is, as AdamW, which differs in the kernel alone."""
    (group,) = optimizer.param_groups
    means, squares, done = torch.zeros_like(flat.values), torch.zeros_like(flat.values), flat.values.new_zeros(())
    square_of = flat.views_of(squares)
    for parameter, mean in flat.views_of(means).items():
        optimizer.state[parameter] = {"step": done, "exp_avg": mean, "exp_avg_sq": square_of[parameter]}
    values = _pieces(flat.values)
    kernel = partial(fused_kernel(optimizer), values, *map(_pieces, (flat.gradients, means, squares)), [])

    def update_for(iterations: int, rates: Shares | None = None) -> Callable[[], object]:
        # Every step of Adam needs its number. Counting up on a tensor would be one more operation in every step.
        numbers = iter((done + torch.arange(1, iterations + 1, device=done.device)).unbind())
        done.add_(iterations)
        if rates is None:
            return lambda: kernel([next(numbers)] * len(values))
        of_steps = _learning_rates(group["lr"], rates)
        return lambda: kernel([next(numbers)] * len(values), lr=next(of_steps))

    return update_for


def _sgd(optimizer: SGD, flat: FlatParameters) -> UpdateFor:
    (group,) = optimizer.param_groups
    momenta: list[Tensor] = []
    if group["momentum"]:
        vector = torch.zeros_like(flat.values)
        momenta = _pieces(vector)
        for parameter, momentum in flat.views_of(vector).items():
            optimizer.state[parameter] = {"momentum_buffer": momentum}
    update = partial(fused_kernel(optimizer), _pieces(flat.values), _pieces(flat.gradients), momenta)

    def update_for(iterations: int, rates: Shares | None = None) -> Callable[[], object]:
        if rates is None:
            return update
        of_steps = _learning_rates(group["lr"], rates)
        return lambda: update(lr=next(of_steps))

    return update_for


FUSED_UPDATES: dict[type[Optimizer], Callable[[Any, FlatParameters], UpdateFor]] = {
    Adam: _adam,
    AdamW: _adam,
    SGD: _sgd,
}


# Images brought into the order and converted at a time: few enough to be in the cache still when their batch is trained
# on. All of them in float32 would be four times the memory.
PORTION = 1_000


class ClosedFormEngine:
    """Forward, backward and step on preallocated tensors, for ReLU networks on the CPU."""

    automatic: ClassVar[bool] = True
    flushes_denormals: ClassVar[bool] = True
    follows_schedules: ClassVar[bool] = True
    reads_floats: ClassVar[bool] = True

    @staticmethod
    def refusal(model: nn.Module, optimizer: OptimizerConfig, device: torch.device, batch_size: int = 1) -> str | None:
        if device.type != "cpu":
            return "it computes on the CPU only"
        # Exact types: a subclass may compute something else.
        if type(model) is not MLP:
            return "it knows the gradient of model=mlp only"
        if any(type(activation) is not nn.ReLU for activation in model.activations):
            return "it knows the gradient of model.activation=relu only"
        if not steps_plainly(optimizer):
            return f"it knows the plain steps of Adam, AdamW and SGD only, not optimizer={optimizer.name}"
        return None

    def __init__(self, workload: Workload) -> None:
        model = workload.model
        assert isinstance(model, MLP), "every other model is refused"
        self.model: nn.Module = model
        self.optimizer = build_optimizer(workload.optimizer, model.parameters(), fused=True)
        self.labels = workload.labels
        flat = FlatParameters(model)
        self.update_for = fused_update(self.optimizer, flat)
        self.images = workload.images.flatten(1)
        self.batch_size, squashes = workload.batch_size, isinstance(model.head, nn.Softmax)
        self.full_batches, ragged = divmod(len(self.images), self.batch_size)
        make = partial(Portion, flat, squashes, scale_of(workload.images, workload.scale))
        self.full = make(self.batch_size, max(1, PORTION // self.batch_size))
        self.ragged = make(ragged, 1) if ragged else None
        # How many full batches of the present epoch are trained on.
        self.position = 0

    @torch.inference_mode()
    def train(self, order: Tensor, rates: Sequence[float] | None = None) -> Tensor:
        update = self.update_for(-(-len(order) // self.batch_size), rates)
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
        of_batches = (each.split(size) for each in (self.images, self.targets, self.log_scores))
        self.batches = [(images, images.t(), targets, log) for images, targets, log in zip(*of_batches, strict=True)]
        self.scores, self.probabilities, self.gradient = (new(size, classes) for _ in range(3))
        self._connect(weights, gradients)

    def _connect(self, weights: list[Tensor], gradients: list[Tensor]) -> None:
        """Lay out the operands of every product, layer by layer, in the order in which a step takes them."""
        new, ones = self.scores.new_empty, self.scores.new_ones
        activations = [ones(self.size, weight.shape[1] + 1) for weight in weights[:-1]]
        hidden = [each[:, :-1] for each in activations]
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
        place = slice(first * self.size, first * self.size + len(rows))
        # The last column stays 1: the bias's input.
        scale_in_place(self.images[place, :-1].copy_(images.index_select(0, rows)), self.how)
        torch.index_select(self.target_of, 0, labels[rows], out=self.targets[place])

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
        place = slice(first * self.size, (first + count) * self.size)
        losses = self.log_scores[place] * self.targets[place]
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
