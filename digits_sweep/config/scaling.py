"""Rules that scale an optimizer's numbers with the batch size: formulas, each with its source.

`ratio` is the batch size over the reference batch size, the one that the unscaled value was chosen for.
"""

import math


def linear_lr(lr: float, ratio: float) -> float:
    """Return lr x ratio: the linear scaling rule (Goyal et al. 2017, section 2.1, for SGD with momentum)."""
    return lr * ratio


def sqrt_lr(lr: float, ratio: float) -> float:
    """Return lr x sqrt(ratio): the square-root scaling rule for Adam (Malladi et al. 2022)."""
    return lr * math.sqrt(ratio)


def sqrt_beta(beta: float, ratio: float) -> float:
    """Return 1 - ratio x (1 - beta), for both betas: the square-root scaling rule for Adam (Malladi et al. 2022)."""
    return 1 - ratio * (1 - beta)


def sqrt_eps(eps: float, ratio: float) -> float:
    """Return eps / sqrt(ratio): the square-root scaling rule for Adam (Malladi et al. 2022)."""
    return eps / math.sqrt(ratio)


def half_life_beta(beta: float, ratio: float) -> float:
    """Return beta ** ratio: the half-life of Adam's second moment stays the same in examples (Marek et al. 2025)."""
    return beta**ratio


FORMULAS = {each.__name__: each for each in (linear_lr, sqrt_lr, sqrt_beta, sqrt_eps, half_life_beta)}
