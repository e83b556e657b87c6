"""All parameters of a model in one vector, and the optimizer's step on it as one fused kernel."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer


class FlatParameters:
    """The parameters of `model` moved into one vector, `values`, that they become views of.

    `gradients` is a vector of the same length; `gradient_of` gives every parameter its view of it.
    """

    def __init__(self, model: nn.Module) -> None:
        self.parameters = list(model.parameters())
        self.values = torch.cat([parameter.data.flatten() for parameter in self.parameters])
        self.gradients = torch.zeros_like(self.values)
        self.gradient_of = self.views_of(self.gradients)
        for parameter, view in self.views_of(self.values).items():
            parameter.data = view

    def views_of(self, vector: Tensor) -> dict[Tensor, Tensor]:
        """Every parameter's part of `vector`, in the parameter's shape."""
        parts = vector.split([parameter.numel() for parameter in self.parameters])
        return {each: part.view(each.shape) for each, part in zip(self.parameters, parts, strict=True)}


def fused_update(optimizer: Optimizer, flat: FlatParameters) -> Callable[[], None]:
    """A function that steps `flat.values` by `flat.gradients` as `optimizer.step()` would, without its bookkeeping.

    The kernels are those that `fused=True` selects. What they keep between steps lies in the optimizer's own state, as
    views, so that `state_dict()` is what it would be after `optimizer.step()`.
    """
    (group,) = optimizer.param_groups
    values, gradients = [flat.values], [flat.gradients]
    match optimizer:
        case Adam():
            means, squares = torch.zeros_like(flat.values), torch.zeros_like(flat.values)
            step = torch.zeros(())
            mean_of, square_of = flat.views_of(means), flat.views_of(squares)
            for each in flat.parameters:
                optimizer.state[each] = {"step": step, "exp_avg": mean_of[each], "exp_avg_sq": square_of[each]}
            return _adam(group, values, gradients, [means], [squares], step)
        case SGD():
            momenta = torch.zeros_like(flat.values)
            if group["momentum"]:
                for parameter, momentum in flat.views_of(momenta).items():
                    optimizer.state[parameter] = {"momentum_buffer": momentum}
            return _sgd(group, values, gradients, [momenta] if group["momentum"] else [])
    raise TypeError(f"no fused step is known for {type(optimizer).__name__}")


def _adam(
    group: dict, values: list[Tensor], gradients: list[Tensor], means: list[Tensor], squares: list[Tensor], step: Tensor
) -> Callable[[], None]:
    beta1, beta2 = group["betas"]
    lr, weight_decay, eps = group["lr"], group["weight_decay"], group["eps"]
    kernel, steps = torch._fused_adam_, [step]

    def update() -> None:
        step.add_(1)
        kernel(
            values,
            gradients,
            means,
            squares,
            [],
            steps,
            lr=lr,
            beta1=beta1,
            beta2=beta2,
            weight_decay=weight_decay,
            eps=eps,
            amsgrad=False,
            maximize=False,
        )

    return update


def _sgd(group: dict, values: list[Tensor], gradients: list[Tensor], momenta: list[Tensor]) -> Callable[[], None]:
    def update() -> None:
        torch._fused_sgd_(
            values,
            gradients,
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

    return update
