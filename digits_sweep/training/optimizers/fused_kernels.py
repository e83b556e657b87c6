"""PyTorch's fused kernels for the steps of plain Adam, AdamW and SGD, with the settings of an optimizer."""

from collections.abc import Callable
from functools import partial

import torch
from torch.optim import SGD, AdamW, Optimizer


def fused_kernel(optimizer: Optimizer) -> Callable[..., object]:
    """Return the kernel that `optimizer.step()` with `fused=True` ends in, to be called with lists of tensors.

    These are parameters, gradients, means, squares, an empty list and step numbers; for SGD, parameters, gradients and
    momenta. `optimizer` is exactly Adam, AdamW or SGD, with one group of parameters; `lr=` takes the place of its
    learning rate for one call.
    """
    (group,) = optimizer.param_groups
    common = {"lr": group["lr"], "weight_decay": group["weight_decay"], "maximize": False}
    if type(optimizer) is SGD:
        # A first step would take the gradient as it is; momentum times a buffer of zeros gives the same.
        of_sgd = {"momentum": group["momentum"], "nesterov": group["nesterov"], "dampening": 0.0}
        return partial(torch._fused_sgd_, **common, **of_sgd, is_first_step=False)
    kernel = torch._fused_adamw_ if type(optimizer) is AdamW else torch._fused_adam_
    beta1, beta2 = group["betas"]
    return partial(kernel, **common, beta1=beta1, beta2=beta2, eps=group["eps"], amsgrad=False)
