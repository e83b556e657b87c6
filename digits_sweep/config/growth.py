"""A batch that grows during a run, `schedule.batch`: as a user types it, as text in a record, and as numbers."""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from digits_sweep.config.scaling import RULES
from digits_sweep.config.text import to_text

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
