"""Numbers that follow the batch size: rules that scale an optimizer's, each with its source, and a batch that grows.

`ratio` is the batch size over the reference batch size, the one that the unscaled value was chosen for.
"""

import math
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from digits_sweep.config.text import to_text


def linear(value: float, ratio: float) -> float:
    """Return value x ratio: for a rate, the linear scaling rule (Goyal et al. 2017, section 2.1, SGD with momentum).

    Beside a rate that stays the same, AdamW's decay keeps its decay per example so. A step shrinks a weight by
    lr x weight_decay, so that weights average the updates of about 1 / (lr x weight_decay) steps, which is
    batch_size / (lr x weight_decay) examples (Wang and Aitchison 2024, "How to set AdamW's weight decay as you scale
    model and dataset size"). The best average has one length in examples at every batch size, so that the decay goes
    with the batch size (Bergsma et al. 2025, "Power Lines: Scaling Laws for Weight Decay and Batch Size").
    """
    return value * ratio


def sqrt(value: float, ratio: float) -> float:
    """Return value x sqrt(ratio): for a rate, the square-root scaling rule for Adam (Malladi et al. 2022).

    Beside such a rate, AdamW's decay keeps its decay per example so: lr x weight_decay / batch_size stays the same.
    Beside a `linear` rate it stays the same by itself.
    """
    return value * math.sqrt(ratio)


def sqrt_eps(eps: float, ratio: float) -> float:
    """Return eps / sqrt(ratio): the square-root scaling rule for Adam (Malladi et al. 2022)."""
    return eps / math.sqrt(ratio)


def sqrt_beta(beta: float, ratio: float) -> float:
    """Return 1 - ratio x (1 - beta): the square-root rule for both betas of Adam (Malladi et al. 2022).

    RMSprop's decay of squared gradients, alpha, follows the same formula (the same paper).
    """
    return 1 - ratio * (1 - beta)


def sqrt_betas(betas: list[float], ratio: float) -> list[float]:
    """Return both betas by the square-root rule."""
    return [sqrt_beta(beta, ratio) for beta in betas]


def half_life_beta(beta: float, ratio: float) -> float:
    """Return beta ** ratio: the half-life of Adam's second moment stays the same in examples (Marek et al. 2025)."""
    return beta**ratio


def half_life_betas(betas: list[float], ratio: float) -> list[float]:
    """Return the betas with the half-life of the second moment kept; that of the first stays in iterations."""
    return [betas[0], half_life_beta(betas[1], ratio)]


# What every rule scales, by the name in an optimizer's file: `lr: ${scaled:lr,1e-4}`. An optimizer takes the part of a
# rule that it has numbers for. A decay that is added to the gradient (L2) is no part of any rule.
Formulas = Mapping[str, Callable[[Any, float], Any]]
SQRT_LR: Formulas = {"lr": sqrt, "decoupled_weight_decay": sqrt}
HALF_LIFE: Formulas = {"betas": half_life_betas, "alpha": half_life_beta}
RULES: dict[str, Formulas] = {
    "fixed": {},
    "linear": {"lr": linear},
    "sqrt": {**SQRT_LR, "betas": sqrt_betas, "alpha": sqrt_beta, "eps": sqrt_eps},
    "sqrt_lr": SQRT_LR,
    "half_life": {**HALF_LIFE, "decoupled_weight_decay": linear},
    "half_life_sqrt": {**HALF_LIFE, **SQRT_LR},
}


def scaled(rule: str | None, name: str, value: Any, batch_size: int, reference: int | None) -> Any:
    """Return the number `name` as a rule has it at `batch_size`, where `value` is that of the batch size `reference`.

    It is nan if there is nothing to scale by. A number that the rule does not scale stays as it is, and so does every
    number without a known rule.
    """
    formula = RULES.get(rule or "", {}).get(name)
    if formula is None or batch_size == reference:
        return value
    return formula(value, batch_size / reference if reference and reference > 0 and batch_size > 0 else math.nan)


if TYPE_CHECKING:
    from digits_sweep.config.schema import Config, ScheduleConfig

# Follows the gradient noise scale that a run measures.
GROW = "grow"
# How the learning rate follows the batch: the rules of `scaling` that scale the rate alone, or not at all.
RATE_RULES = {"fixed": "fixed", "sqrt": "sqrt_lr", "linear": "linear"}
TEXT = re.compile(r"\{(\d{1,15}:\d{1,10}(?:,\d{1,15}:\d{1,10})*)\}")

# Examples from which on batches have a size, in rising order, with that size. The first is (0, size).
Sizes = tuple[tuple[int, int], ...]


def sizes_in(batch: Any) -> Sizes | None:
    """Return the sizes that `{0:20,30000:100}` stands for, a dictionary or its text; None if it stands for none."""
    if isinstance(batch, str):
        known = TEXT.fullmatch(batch)
        pairs = [tuple(map(int, pair.split(":"))) for pair in known[1].split(",")] if known else []
    else:
        pairs = list(batch.items()) if isinstance(batch, Mapping) else []
    numbers = all(type(number) is int for pair in pairs for number in pair)
    if not pairs or not numbers or pairs[0][0] != 0 or min(size for _, size in pairs) < 1:
        return None
    examples = [start for start, _ in pairs]
    return tuple(pairs) if examples == sorted(set(examples)) else None  # type: ignore[arg-type]


def sizes_of(config: "Config") -> Sizes:
    """Return the sizes of the batches of a run; of one that follows its noise, the first."""
    return sizes_in(config.schedule.batch) or ((0, config.data.batch_size),)


def as_text(batch: Any) -> Any:
    """Return `schedule.batch` as a record has it: sizes as text, and None for one size from the first step to the last.

    A value that stands for no sizes stays, as text, for the message that refuses it.
    """
    sizes = sizes_in(batch)
    if sizes is None:
        return to_text(dict(batch)) if isinstance(batch, Mapping) else batch
    changes = {examples: size for (_, before), (examples, size) in pairwise([(0, 0), *sizes]) if size != before}
    return to_text(changes) if len(changes) > 1 else None


def is_batch(batch: Any) -> bool:
    """Return whether a value is one that `schedule.batch` may have."""
    return batch is None or batch == GROW or sizes_in(batch) is not None


def rate_rule(schedule: "ScheduleConfig") -> str:
    """Return the rule of `scaling` by which the learning rate follows a batch that grows.

    A batch that follows the noise scale has the square root unless the user says otherwise, and one of the user's own
    sizes the same rate from the first step to the last.
    """
    usual = "sqrt" if schedule.batch == GROW else "fixed"
    return RATE_RULES[schedule.batch_lr or usual] if schedule.batch is not None else "fixed"


def rate_share(schedule: "ScheduleConfig", ratio: float) -> float:
    """Return the share of the learning rate at a batch `ratio` times as large as the first."""
    formula = RULES[rate_rule(schedule)].get("lr")
    return formula(1.0, ratio) if formula else 1.0
