"""All parameters of an MLP in one vector, and the optimizer's step on it as one fused kernel."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from digits_sweep.training.model import MLP
from digits_sweep.training.optimizers.fused_kernels import fused_kernel
from digits_sweep.training.optimizers.optimizer import unknown_step


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
