"""All parameters of an MLP in one vector, and the optimizer's step on it as one fused kernel."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from digits_sweep.training.model import MLP


class FlatParameters:
    """The weights and biases of `model` moved into one vector, `values`, that they become views of.

    Every Linear layer is a block in it, (in_features + 1, out_features): its transposed weight above its bias. So one
    product with inputs that end with a column of ones does for both, forward and backward. The hidden layers' blocks
    lie in the vector row by row, the output layer's column by column: the products are quicker along the long side.
    `gradients` is a vector of the same length and order.
    """

    def __init__(self, model: MLP) -> None:
        self.layers: list[nn.Linear] = [*model.hidden_layers, model.output]
        like, length = model.output.weight.data, sum(parameter.numel() for parameter in model.parameters())
        self.values, self.gradients = like.new_zeros(length), like.new_zeros(length)
        for parameter, view in self.views_of(self.values).items():
            parameter.data = view.copy_(parameter.data)

    def blocks_of(self, vector: Tensor) -> list[Tensor]:
        """Every layer's part of `vector`, (in_features + 1, out_features), from the images on."""
        shapes = [(layer.in_features + 1, layer.out_features) for layer in self.layers]
        *hidden, output = vector.split([rows * columns for rows, columns in shapes])
        blocks = [part.view(shape) for part, shape in zip(hidden, shapes, strict=False)]
        return [*blocks, output.view(shapes[-1][::-1]).t()]

    def views_of(self, vector: Tensor) -> dict[Tensor, Tensor]:
        """Every parameter's part of `vector`, in the parameter's shape."""
        views: dict[Tensor, Tensor] = {}
        for layer, block in zip(self.layers, self.blocks_of(vector), strict=True):
            views |= {layer.weight: block[:-1].t(), layer.bias: block[-1]}
        return views


# Called once an epoch with the number of its iterations; what it returns is called once an iteration.
EpochUpdate = Callable[[int], Callable[[], object]]


def fused_update(optimizer: Optimizer, flat: FlatParameters) -> EpochUpdate:
    """How to step `flat.values` by `flat.gradients` as `optimizer.step()` would, without its bookkeeping.

    The kernels are those that `fused=True` selects. What they keep from step to step lies in the optimizer's own
    state, as views, so that after an epoch `state_dict()` is what it would be after as many `optimizer.step()`.
    """
    match optimizer:
        case Adam():
            return _adam(optimizer, flat)
        case SGD():
            return _sgd(optimizer, flat)
    raise TypeError(f"no fused step is known for {type(optimizer).__name__}")


def _adam(optimizer: Adam, flat: FlatParameters) -> EpochUpdate:
    (group,) = optimizer.param_groups
    means, squares, done = torch.zeros_like(flat.values), torch.zeros_like(flat.values), torch.zeros(())
    square_of = flat.views_of(squares)
    for parameter, mean in flat.views_of(means).items():
        optimizer.state[parameter] = {"step": done, "exp_avg": mean, "exp_avg_sq": square_of[parameter]}
    kernel = partial(
        torch._fused_adam_,
        [flat.values],
        [flat.gradients],
        [means],
        [squares],
        [],
        lr=group["lr"],
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        amsgrad=False,
        maximize=False,
    )

    def epoch_update(iterations: int) -> Callable[[], object]:
        # Adam's step needs its own number. To count up would be one more operation in every step.
        numbers = iter((done + torch.arange(1, iterations + 1)).unbind())
        done.add_(iterations)
        return lambda: kernel([next(numbers)])

    return epoch_update


def _sgd(optimizer: SGD, flat: FlatParameters) -> EpochUpdate:
    (group,) = optimizer.param_groups
    momenta = [torch.zeros_like(flat.values)] if group["momentum"] else []
    for vector in momenta:
        for parameter, momentum in flat.views_of(vector).items():
            optimizer.state[parameter] = {"momentum_buffer": momentum}
    update = partial(
        torch._fused_sgd_,
        [flat.values],
        [flat.gradients],
        momenta,
        weight_decay=group["weight_decay"],
        momentum=group["momentum"],
        lr=group["lr"],
        dampening=0.0,
        nesterov=group["nesterov"],
        maximize=False,
        # A first step would take the gradient as it is, which momentum times a buffer of zeros does as well.
        is_first_step=False,
    )
    return lambda iterations: update
