"""The optimizers. A new one is its code with a line in `OPTIMIZERS`, and a YAML in `conf/optimizer`."""

from collections.abc import Iterable
from functools import partial
from typing import Any, Protocol

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

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
from digits_sweep.training.optimizers.muon import MuonWithAdamW
from digits_sweep.training.optimizers.without_compiler import without_compiler


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
