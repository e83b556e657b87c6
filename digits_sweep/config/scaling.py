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


_ALL = (linear_lr, sqrt_lr, sqrt_beta, sqrt_eps, half_life_beta, same_lr_decay, sqrt_lr_decay)
FORMULAS = {each.__name__: each for each in _ALL}
