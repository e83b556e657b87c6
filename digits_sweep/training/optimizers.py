"""The optimizers. A new one is a line in `OPTIMIZERS`, perhaps with a function, and a YAML in `conf/optimizer`."""

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Muon, Optimizer, RMSprop

from digits_sweep.config.own_code import called
from digits_sweep.config.schema import OptimizerConfig, OwnOptimizerConfig
from digits_sweep.errors import InvalidConfig


@dataclass(frozen=True)
class FromConfig:
    """Builds an optimizer of a `kind` from those keys of its configuration that its constructor has as arguments."""

    kind: type[Optimizer]

    def __call__(self, config: Any, parameters: Iterable[nn.Parameter], **options: bool | None) -> Optimizer:
        values = vars(config) | options
        arguments = {name: values[name] for name in inspect.signature(self.kind).parameters if name in values}
        pairs = {name: tuple(value) for name, value in arguments.items() if isinstance(value, list)}
        return self.kind(parameters, **(arguments | pairs))


class MuonWithAdamW(Optimizer):
    """Step every parameter of two dimensions by `torch.optim.Muon`, and every other one by AdamW.

    Muon makes a step of a matrix orthogonal (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural
    networks"); it knows nothing else, so that biases and the kernels of convolutions are AdamW's. Its steps are scaled
    to the size of AdamW's (Liu et al. 2025, "Muon is Scalable for LLM Training", section 2.2), so that one learning
    rate and one decay, which is decoupled in both, serve all parameters. It is never fused: Muon makes another last
    digit of a gradient another third digit of a step.
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
        matrices = [parameter for parameter in listed if parameter.ndim == 2]
        others = [parameter for parameter in listed if parameter.ndim != 2]
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
        """Let both parts step on the groups and the state of this optimizer."""
        for part, group in zip(self.parts, self.param_groups, strict=True):
            part.state, part.param_groups = self.state, [group]

    def step(self, closure: Any = None) -> Any:
        """Step every parameter by its gradient; return what `closure` returns, if there is one."""
        loss = None if closure is None else closure()
        for part in self.parts:
            part.step()
        return loss


def _own(config: OwnOptimizerConfig, parameters: Iterable[nn.Parameter], **_: bool | None) -> Optimizer:
    """Raise `InvalidConfig` if it makes no optimizer."""
    arguments = {"lr": config.lr} | ({"weight_decay": config.weight_decay} if config.weight_decay else {})
    optimizer = called("optimizer", str(config.target), arguments | config.arguments, parameters)
    if not isinstance(optimizer, Optimizer):
        made = type(optimizer).__name__
        raise InvalidConfig(f"optimizer.target={config.target}: makes {made}, must make a torch.optim.Optimizer")
    return optimizer


# From the optimizer's section of the configuration, each with its own dataclass, and the parameters. `fused` asks for
# PyTorch's single-kernel step (True) or leaves the choice to PyTorch (None), `capturable` that what the step counts
# lies on the device, for a CUDA graph. An optimizer without such an option ignores it.
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adam": FromConfig(Adam),
    "adamw": FromConfig(AdamW),
    "sgd": FromConfig(SGD),
    "rmsprop": FromConfig(RMSprop),
    "muon": FromConfig(MuonWithAdamW),
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


def plain_kind(config: OptimizerConfig) -> type[Optimizer] | None:
    """Return Adam, AdamW or SGD if the optimizer that `config.name` names steps exactly as that does, else None.

    For planning: no optimizer is built, because PyTorch takes 1.5 s to make its first one.
    """
    builder = OPTIMIZERS[config.name]
    return builder.kind if isinstance(builder, FromConfig) and builder.kind in (Adam, AdamW, SGD) else None


# What `torch._compile` keeps a function under that it need not ask the compiler for again.
KEPT_UNDER = "__dynamo_disable"
DECORATED = ("add_param_group", "state_dict", "load_state_dict")


@contextmanager
def without_compiler() -> Iterator[None]:
    """Make, save and load optimizers in the block without importing `torch._dynamo`, which takes over a second.

    Nothing is compiled here, so there is nothing to keep from being compiled. Afterwards PyTorch is as before. If
    PyTorch is built in another way, its compiler is imported as usual.
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
