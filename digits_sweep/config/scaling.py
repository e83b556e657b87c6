"""Rules that scale an optimizer's numbers with the batch size: formulas, each with its source.

`ratio` is the batch size over the reference batch size, the one that the unscaled value was chosen for.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any


def linear_lr(lr: float, ratio: float) -> float:
    """Return lr x ratio: the linear scaling rule (Goyal et al. 2017, section 2.1, for SGD with momentum)."""
    return lr * ratio


def sqrt_lr(lr: float, ratio: float) -> float:
    """Return lr x sqrt(ratio): the square-root scaling rule for Adam (Malladi et al. 2022)."""
    return lr * math.sqrt(ratio)


def sqrt_beta(beta: float, ratio: float) -> float:
    """Return 1 - ratio x (1 - beta): the square-root rule for both betas of Adam (Malladi et al. 2022).

    RMSprop's decay of squared gradients, alpha, follows the same formula (the same paper).
    """
    return 1 - ratio * (1 - beta)


def sqrt_eps(eps: float, ratio: float) -> float:
    """Return eps / sqrt(ratio): the square-root scaling rule for Adam (Malladi et al. 2022)."""
    return eps / math.sqrt(ratio)


def half_life_beta(beta: float, ratio: float) -> float:
    """Return beta ** ratio: the half-life of Adam's second moment stays the same in examples (Marek et al. 2025)."""
    return beta**ratio


def same_lr_decay(weight_decay: float, ratio: float) -> float:
    """Return weight_decay x ratio: AdamW's decay per example stays the same if the learning rate does.

    A step shrinks a weight by lr x weight_decay, so that weights average the updates of about 1 / (lr x weight_decay)
    steps: batch_size / (lr x weight_decay) examples (Wang and Aitchison 2024, "How to set AdamW's weight decay as you
    scale model and dataset size"). The best average has one length in examples at every batch size, so that the decay
    goes with the batch size (Bergsma et al. 2025, "Power Lines: Scaling Laws for Weight Decay and Batch Size").
    """
    return weight_decay * ratio


def sqrt_lr_decay(weight_decay: float, ratio: float) -> float:
    """Return weight_decay x sqrt(ratio): AdamW's decay per example stays the same beside `sqrt_lr`.

    lr x weight_decay / batch_size is what `same_lr_decay` keeps. Beside `linear_lr` it stays the same by itself.
    """
    return weight_decay * math.sqrt(ratio)


def sqrt_betas(betas: list[float], ratio: float) -> list[float]:
    """Return both betas by the square-root rule."""
    return [sqrt_beta(beta, ratio) for beta in betas]


def half_life_betas(betas: list[float], ratio: float) -> list[float]:
    """Return the betas with the half-life of the second moment kept; that of the first stays in iterations."""
    return [betas[0], half_life_beta(betas[1], ratio)]


# What every rule scales, by the name in an optimizer's file: `lr: ${scaled:lr,1e-4}`. An optimizer takes the part of a
# rule that it has numbers for. A decay that is added to the gradient (L2) is no part of any rule.
RULES: dict[str, Mapping[str, Callable[[Any, float], Any]]] = {
    "fixed": {},
    "linear": {"lr": linear_lr},
    "sqrt": {
        "lr": sqrt_lr,
        "betas": sqrt_betas,
        "alpha": sqrt_beta,
        "eps": sqrt_eps,
        "decoupled_weight_decay": sqrt_lr_decay,
    },
    "sqrt_lr": {"lr": sqrt_lr, "decoupled_weight_decay": sqrt_lr_decay},
    "half_life": {
        "betas": half_life_betas,
        "alpha": half_life_beta,
        "decoupled_weight_decay": same_lr_decay,
    },
    "half_life_sqrt": {
        "lr": sqrt_lr,
        "betas": half_life_betas,
        "alpha": half_life_beta,
        "decoupled_weight_decay": sqrt_lr_decay,
    },
}


def scaled(rule: str | None, name: str, value: Any, batch_size: int, reference: int | None) -> Any:
    """Return the number `name` as a rule has it at `batch_size`, where `value` is that of the batch size `reference`.

    It is nan if there is nothing to scale by. What a rule does not scale stays, and everything without a known rule.
    """
    formula = RULES.get(rule or "", {}).get(name)
    if formula is None or batch_size == reference:
        return value
    return formula(value, batch_size / reference if reference and reference > 0 and batch_size > 0 else math.nan)
