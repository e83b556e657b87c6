"""The step of an optimizer without its bookkeeping, which takes longer than the step itself if the network is small."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from digits_sweep.training.optimizers.optimizer import unknown_step

# Called with the gradients, one a parameter.
Kernel = Callable[[list[Tensor]], object]


class DirectStep:
    """`optimizer.step()` as a call of the fused kernel that it ends in: the same bits.

    Call it with what it steps, `parameters`, after their gradients are computed. An optimizer that is not plain Adam,
    AdamW or SGD with `fused=True` on the CPU steps by itself, and so does any in the first call, which makes its state,
    and in a call in which a parameter has no gradient. The state must not be replaced meanwhile.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.parameters: list[Tensor] = [each for group in optimizer.param_groups for each in group["params"]]
        self.is_direct = all(
            (
                unknown_step(optimizer) is None,
                all(group.get("fused") for group in optimizer.param_groups),
                all(each.device.type == "cpu" and each.dtype == torch.float32 for each in self.parameters),
            )
        )
        self.kernel: Kernel | None = None

    def drop_gradients(self) -> None:
        """Do what `optimizer.zero_grad()` does."""
        for parameter in self.parameters:
            parameter.grad = None

    def __call__(self) -> None:
        gradients = [each.grad for each in self.parameters if each.grad is not None]
        has_all = len(gradients) == len(self.parameters)
        if self.kernel is not None and has_all:
            with torch.no_grad():
                self.kernel(gradients)
            return
        self.optimizer.step()
        if self.is_direct and self.kernel is None and has_all:
            self.kernel = KERNELS[type(self.optimizer)](self.optimizer, self.parameters)


def _adam(optimizer: Optimizer, parameters: list[Tensor]) -> Kernel:
    """Step as Adam or, if that is what `optimizer` is, as AdamW, which differs in the kernel alone."""
    (group,) = optimizer.param_groups
    steps, means, squares = ([optimizer.state[each][name] for each in parameters] for name in ADAM_STATE)
    kernel = torch._fused_adamw_ if type(optimizer) is AdamW else torch._fused_adam_
    beta1, beta2 = group["betas"]

    def step(gradients: list[Tensor]) -> None:
        torch._foreach_add_(steps, 1)
        kernel(
            parameters, gradients, means, squares, [], steps, lr=group["lr"], beta1=beta1, beta2=beta2,
            weight_decay=group["weight_decay"], eps=group["eps"], amsgrad=False, maximize=False,
        )  # fmt: skip

    return step


ADAM_STATE = ("step", "exp_avg", "exp_avg_sq")


def _sgd(optimizer: Optimizer, parameters: list[Tensor]) -> Kernel:
    (group,) = optimizer.param_groups
    momenta = [optimizer.state[each]["momentum_buffer"] for each in parameters] if group["momentum"] else []

    def step(gradients: list[Tensor]) -> None:
        torch._fused_sgd_(
            parameters, gradients, momenta, lr=group["lr"], momentum=group["momentum"],
            weight_decay=group["weight_decay"], dampening=0.0, nesterov=group["nesterov"], maximize=False,
            is_first_step=False,
        )  # fmt: skip

    return step


KERNELS: dict[type[Optimizer], Callable[[Any, list[Tensor]], Kernel]] = {Adam: _adam, AdamW: _adam, SGD: _sgd}
