"""Optimizers: the registry, Muon, and the fused kernels."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Muon, Optimizer, RMSprop

from digits_sweep.config.own_code import called
from digits_sweep.config.schema import (
    AdamConfig,
    MuonConfig,
    OptimizerConfig,
    OwnOptimizerConfig,
    RMSpropConfig,
    SGDConfig,
)
from digits_sweep.errors import InvalidConfig

# What `torch._compile` keeps a function under that it need not ask the compiler for again.
KEPT_UNDER = "__dynamo_disable"
DECORATED = ("add_param_group", "state_dict", "load_state_dict")


@contextmanager
def without_compiler() -> Iterator[None]:
    """Make, save and load optimizers in the block without importing `torch._dynamo`, which takes over a second.

    Nothing is compiled here, so there is nothing to keep from being compiled. Afterwards PyTorch is as before. If it is
    built in another way, its compiler is imported as usual.
    """
    plain = [getattr(getattr(Optimizer, name), "__wrapped__", None) for name in DECORATED]
    spared = [function for function in plain if function and not hasattr(function, KEPT_UNDER)]
    if "torch._dynamo" in sys.modules:
        spared = []
    for function in spared:
        setattr(function, KEPT_UNDER, function)
    try:
        yield
    finally:
        for function in spared:
            delattr(function, KEPT_UNDER)


class MuonWithAdamW(Optimizer):
    """Step every parameter of two dimensions by `torch.optim.Muon`, and every other one by AdamW.

    Muon makes a step of a matrix orthogonal (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural
    networks"); it knows nothing else, so that biases and the kernels of convolutions are AdamW's. Its steps are scaled
    to the size of AdamW's (Liu et al. 2025, "Muon is Scalable for LLM Training", section 2.2), so that one learning
    rate and one decay, which is decoupled in both, serve all parameters.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        weight_decay: float,
        momentum: float,
        betas: tuple[float, float],
        eps: float,
    ) -> None:
        listed = list(parameters)
        matrices = [each for each in listed if each.ndim == 2]
        others = [each for each in listed if each.ndim != 2]
        self.parts: list[Optimizer] = []
        if matrices:
            self.parts.append(Muon(matrices, lr, weight_decay, momentum, adjust_lr_fn="match_rms_adamw"))
        if others:
            self.parts.append(AdamW(others, lr, betas, eps, weight_decay))
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        self._share()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state, as `load_state_dict` does."""
        super().__setstate__(state)
        self._share()

    def _share(self) -> None:
        """Let each part step on its group here, and keep what it keeps here."""
        for part, group in zip(self.parts, self.param_groups, strict=True):
            part.state, part.param_groups = self.state, [group]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Step every parameter by its gradient; return what `closure` returns, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss


class OptimizerBuilder(Protocol):
    """Build an optimizer over `parameters` from its section of the configuration, each with its own dataclass.

    `fused` asks for PyTorch's single-kernel step (True) or leaves the choice to PyTorch (None). `capturable` asks that
    what the step counts lies on the device, for a CUDA graph. An optimizer without such an option ignores it.
    """

    def __call__(
        self, config: Any, parameters: Iterable[nn.Parameter], *, fused: bool | None, capturable: bool
    ) -> Optimizer: ...


def _adam_of(
    kind: type[Adam], config: AdamConfig, parameters: Iterable[nn.Parameter], *, fused: bool | None, capturable: bool
) -> Optimizer:
    """Build Adam, which adds weight decay to the gradient, or AdamW, which shrinks the weights by lr x weight_decay."""
    return kind(
        parameters,
        lr=config.lr,
        betas=(config.betas[0], config.betas[1]),
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=fused,
        capturable=capturable,
    )


_adam, _adamw = partial(_adam_of, Adam), partial(_adam_of, AdamW)


def _sgd(config: SGDConfig, parameters: Iterable[nn.Parameter], *, fused: bool | None, capturable: bool) -> Optimizer:
    return SGD(
        parameters,
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.nesterov,
        fused=fused,
    )


def _rmsprop(
    config: RMSpropConfig, parameters: Iterable[nn.Parameter], *, fused: bool | None, capturable: bool
) -> Optimizer:
    return RMSprop(
        parameters,
        lr=config.lr,
        alpha=config.alpha,
        eps=config.eps,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        capturable=capturable,
    )


def _muon(config: MuonConfig, parameters: Iterable[nn.Parameter], *, fused: bool | None, capturable: bool) -> Optimizer:
    """Build Muon and AdamW, never fused: Muon makes another last digit of a gradient another third digit of a step."""
    return MuonWithAdamW(
        parameters,
        lr=config.lr,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        betas=(config.betas[0], config.betas[1]),
        eps=config.eps,
    )


def _own(
    config: OwnOptimizerConfig, parameters: Iterable[nn.Parameter], *, fused: bool | None, capturable: bool
) -> Optimizer:
    """Raise `InvalidConfig` if it makes no optimizer."""
    arguments = {"lr": config.lr} | ({"weight_decay": config.weight_decay} if config.weight_decay else {})
    optimizer = called("optimizer", str(config.target), arguments | config.arguments, parameters)
    if not isinstance(optimizer, Optimizer):
        found = type(optimizer).__name__
        raise InvalidConfig(f"optimizer.target={config.target}: makes {found}, must make a torch.optim.Optimizer")
    return optimizer


OPTIMIZERS: dict[str, OptimizerBuilder] = {
    "adam": _adam,
    "adamw": _adamw,
    "sgd": _sgd,
    "rmsprop": _rmsprop,
    "muon": _muon,
    "own": _own,
}


def build_optimizer(
    config: OptimizerConfig, parameters: Iterable[nn.Parameter], fused: bool, capturable: bool = False
) -> Optimizer:
    """Build the optimizer that `config.name` names. Raises KeyError if `OPTIMIZERS` has no such name.

    `fused` takes PyTorch's single-kernel step; if it is false, PyTorch chooses, as it does by default. `capturable`
    keeps Adam's step count on the device, for a CUDA graph.
    """
    with without_compiler():
        return OPTIMIZERS[config.name](config, parameters, fused=fused or None, capturable=capturable)


# The builders of optimizers that step as plain Adam, AdamW and SGD do. Planning asks for it by the builder, because
# PyTorch takes 1.5 s to make its first optimizer.
PLAIN = (_adam, _adamw, _sgd)


def steps_plainly(config: OptimizerConfig) -> bool:
    """Return whether the optimizer that `config.name` names steps exactly as PyTorch's plain Adam, AdamW or SGD."""
    return OPTIMIZERS[config.name] in PLAIN


# The options, beside rates, that change how these step. PyTorch's defaults for all of them are false or 0.
STEP_OPTIONS: dict[type[Optimizer], tuple[str, ...]] = {
    Adam: ("amsgrad", "maximize", "decoupled_weight_decay", "differentiable"),
    AdamW: ("amsgrad", "maximize", "differentiable"),
    SGD: ("dampening", "maximize", "differentiable"),
}


def unknown_step(optimizer: Optimizer) -> str | None:
    """Describe the optimizer if its step is not exactly that of PyTorch's plain Adam, AdamW or SGD; None if it is.

    For code that replaces `optimizer.step()`. The type must be the very one: a subclass, as `torch.optim.AdamW` is of
    Adam, steps differently.
    """
    kind = type(optimizer)
    if kind not in STEP_OPTIONS:
        return kind.__name__
    if len(optimizer.param_groups) > 1:
        return f"{kind.__name__} with several groups of parameters"
    (group,) = optimizer.param_groups
    options = [option for option in STEP_OPTIONS[kind] if group.get(option)]
    return f"{kind.__name__} with {' and '.join(options)}" if options else None


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
