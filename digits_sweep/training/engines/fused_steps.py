"""The steps of PyTorch's plain Adam, AdamW and SGD as calls of the fused kernels that they end in: the same bits.

What is left out is bookkeeping, which takes longer than the arithmetic of a small network.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

# The options, beside rates, that change how these step. PyTorch's defaults for all of them are false or 0.
STEP_OPTIONS: dict[type[Optimizer], tuple[str, ...]] = {
    Adam: ("amsgrad", "maximize", "decoupled_weight_decay", "differentiable"),
    AdamW: ("amsgrad", "maximize", "differentiable"),
    SGD: ("dampening", "maximize", "differentiable"),
}


def unknown_step(optimizer: Optimizer) -> str | None:
    """Describe the optimizer if its step is not exactly that of PyTorch's plain Adam, AdamW or SGD; None if it is.

    The type must be the very one: a subclass, as `torch.optim.AdamW` is of Adam, steps differently.
    """
    kind = type(optimizer)
    if kind not in STEP_OPTIONS:
        return kind.__name__
    if len(optimizer.param_groups) > 1:
        return f"{kind.__name__} with several groups of parameters"
    (group,) = optimizer.param_groups
    options = [option for option in STEP_OPTIONS[kind] if group.get(option)]
    return f"{kind.__name__} with {' and '.join(options)}" if options else None


# Called with parameters, gradients, moments, step numbers (of Adam) and the learning rate. All but the last are lists
# with a tensor for every parameter, and the moments are as many lists as `moments_of` has names.
Kernel = Callable[[list[Tensor], list[Tensor], Sequence[list[Tensor]], list[Tensor], float | Tensor], object]


def fused_kernel(optimizer: Optimizer) -> Kernel:
    """Return the kernel that `optimizer.step()` with `fused=True` ends in.

    `optimizer` is exactly Adam, AdamW or SGD, with one group of parameters.
    """
    (group,) = optimizer.param_groups
    options = {"weight_decay": group["weight_decay"], "maximize": False}
    if type(optimizer) is SGD:
        options |= {"momentum": group["momentum"], "nesterov": group["nesterov"], "dampening": 0.0}
        # A first step would take the gradient as it is; momentum times a buffer of zeros gives the same.
        sgd = partial(torch._fused_sgd_, **options, is_first_step=False)
        return lambda values, gradients, moments, numbers, lr: sgd(values, gradients, *(moments or [[]]), lr=lr)
    beta1, beta2 = group["betas"]
    options |= {"beta1": beta1, "beta2": beta2, "eps": group["eps"], "amsgrad": False}
    adam = partial(torch._fused_adamw_ if type(optimizer) is AdamW else torch._fused_adam_, **options)
    return lambda values, gradients, moments, numbers, lr: adam(values, gradients, *moments, [], numbers, lr=lr)


def moments_of(optimizer: Optimizer) -> tuple[str, ...]:
    """Return the names of what the optimizer, one of the three, averages: a tensor in the shape of every parameter."""
    if type(optimizer) is SGD:
        return ("momentum_buffer",) if optimizer.param_groups[0]["momentum"] else ()
    return "exp_avg", "exp_avg_sq"


def set_state(optimizer: Optimizer, moments: Iterable[Mapping[Tensor, Tensor]], steps_done: Tensor) -> None:
    """Let the optimizer's state consist of these tensors, which whatever steps in its place changes in place.

    Each of the `moments`, in the order of `moments_of`, has a tensor for every parameter. `steps_done` is shared by all
    parameters of Adam; SGD does not count.
    """
    for name, tensors in zip(moments_of(optimizer), moments, strict=False):
        for parameter, tensor in tensors.items():
            if type(optimizer) is not SGD:
                optimizer.state[parameter]["step"] = steps_done
            optimizer.state[parameter][name] = tensor


class DirectStep:
    """`optimizer.step()` as a call of the fused kernel that it ends in.

    Call it after the gradients are computed. An optimizer that is not plain Adam, AdamW or SGD with `fused=True` on the
    CPU steps by itself, and so does any while a parameter has no gradient. The state must not be replaced meanwhile.
    `optimizer.step()` imports PyTorch's compiler besides, which takes over a second and 120 MB.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.parameters: list[Tensor] = [tensor for group in optimizer.param_groups for tensor in group["params"]]
        self.is_direct = (
            unknown_step(optimizer) is None
            and all(group.get("fused") for group in optimizer.param_groups)
            and all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in self.parameters)
        )
        self.kernel: Kernel | None = None
        self.numbers: list[Tensor] = []
        self.moments: list[list[Tensor]] = []

    def drop_gradients(self) -> None:
        """Do what `optimizer.zero_grad()` does."""
        for parameter in self.parameters:
            parameter.grad = None

    def __call__(self) -> None:
        gradients = [tensor.grad for tensor in self.parameters if tensor.grad is not None]
        if not self.is_direct or len(gradients) < len(self.parameters):
            self.optimizer.step()
            return
        self.kernel = self.kernel or self._prepared()
        (group,) = self.optimizer.param_groups
        with torch.no_grad():
            if self.numbers:
                torch._foreach_add_(self.numbers, 1)
            self.kernel(self.parameters, gradients, self.moments, self.numbers, group["lr"])

    def _prepared(self) -> Kernel:
        """Find the tensors of the optimizer's state, zeros if they are not there yet, and return the kernel."""
        state, parameters = self.optimizer.state, self.parameters
        if type(self.optimizer) is not SGD:
            self.numbers = [state[tensor].setdefault("step", torch.zeros(())) for tensor in parameters]
        for name in moments_of(self.optimizer):
            self.moments.append([state[tensor].setdefault(name, torch.zeros_like(tensor)) for tensor in parameters])
        return fused_kernel(self.optimizer)
