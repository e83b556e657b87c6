"""The step of an optimizer without its bookkeeping, which takes longer than the step itself if the network is small."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from digits_sweep.training.optimizers.fused_kernels import fused_kernel
from digits_sweep.training.optimizers.optimizer import unknown_step

# Called with the gradients, one a parameter.
Kernel = Callable[[list[Tensor]], object]


class DirectStep:
    """`optimizer.step()` as a call of the fused kernel that it ends in: the same bits.

    Call it after the gradients are computed. An optimizer that is not plain Adam, AdamW or SGD with `fused=True` on the
    CPU steps by itself, and so does any while a parameter has no gradient. The state must not be replaced meanwhile.
    `optimizer.step()` imports PyTorch's compiler besides, which takes over a second and 120 MB.
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
        if not (self.is_direct and has_all):
            self.optimizer.step()
            return
        if self.kernel is None:
            self.kernel = KERNELS[type(self.optimizer)](self.optimizer, self.parameters)
        with torch.no_grad():
            self.kernel(gradients)


def _adam(optimizer: Optimizer, parameters: list[Tensor]) -> Kernel:
    """Step as Adam or, if that is what `optimizer` is, as AdamW, which differs in the kernel alone."""
    (group,) = optimizer.param_groups
    for each in parameters:
        if not optimizer.state[each]:
            zeros = (torch.zeros(()), torch.zeros_like(each), torch.zeros_like(each))
            optimizer.state[each] = dict(zip(ADAM_STATE, zeros, strict=True))
    steps, means, squares = ([optimizer.state[each][name] for each in parameters] for name in ADAM_STATE)
    kernel = fused_kernel(optimizer)

    def step(gradients: list[Tensor]) -> None:
        torch._foreach_add_(steps, 1)
        # A schedule changes the rate between two steps.
        kernel(parameters, gradients, means, squares, [], steps, lr=group["lr"])

    return step


ADAM_STATE = ("step", "exp_avg", "exp_avg_sq")


def _sgd(optimizer: Optimizer, parameters: list[Tensor]) -> Kernel:
    (group,) = optimizer.param_groups
    for each in parameters if group["momentum"] else ():
        # The buffer of a first step is zeros: see `fused_kernel`.
        if optimizer.state[each].get("momentum_buffer") is None:
            optimizer.state[each]["momentum_buffer"] = torch.zeros_like(each)
    momenta = [optimizer.state[each]["momentum_buffer"] for each in parameters] if group["momentum"] else []

    kernel = fused_kernel(optimizer)

    def step(gradients: list[Tensor]) -> None:
        kernel(parameters, gradients, momenta, lr=group["lr"])

    return step


KERNELS: dict[type[Optimizer], Callable[[Any, list[Tensor]], Kernel]] = {Adam: _adam, AdamW: _adam, SGD: _sgd}
