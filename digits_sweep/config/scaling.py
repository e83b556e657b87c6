"""Rules that scale an optimizer's numbers with the batch size: formulas, each with its source.

`ratio` is the batch size over the reference batch size, the one that the unscaled value was chosen for.
"""

import math


def linear_lr(lr: float, ratio: float) -> float:
    """lr x ratio (Goyal et al. 2017, section 2.1, for SGD with momentum): a larger batch takes as much larger steps."""
    return lr * ratio


def sqrt_lr(lr: float, ratio: float) -> float:
    """lr x sqrt(ratio) (Malladi et al. 2022, square-root scaling rule for Adam): Adam's steps keep the same noise."""
    return lr * math.sqrt(ratio)


def sqrt_beta(beta: float, ratio: float) -> float:
    """1 - ratio x (1 - beta) (Malladi et al. 2022, square-root scaling rule for Adam), for both of Adam's betas."""
    return 1 - ratio * (1 - beta)


def sqrt_eps(eps: float, ratio: float) -> float:
    """eps / sqrt(ratio) (Malladi et al. 2022, square-root scaling rule for Adam)."""
    return eps / math.sqrt(ratio)


def half_life_beta(beta: float, ratio: float) -> float:
    """beta ** ratio (Marek et al. 2025): Adam's second moment keeps its half-life, counted in examples."""
    return beta**ratio


FORMULAS = {each.__name__: each for each in (linear_lr, sqrt_lr, sqrt_beta, sqrt_eps, half_life_beta)}
