"""Write numbers as the report shows them."""

import math
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

import pandas as pd

from digits_sweep.config.text import to_text
from digits_sweep.report.analysis.statistics.replicates import Estimate
from digits_sweep.report.language import said

RATES = ("lr", "weight_decay")
DIGITS = ("mnist", "mnist_sample")


def seconds(value: float) -> str:
    """Write a duration in seconds: `2.04 s`, `3 min 5 s`, `1 h 2 min`; infinity as `not reached`."""
    if math.isinf(value):
        return said("not reached")
    if value < 120:
        return f"{value:.3g} s" if value < 10 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def microseconds(value: float) -> str:
    """Write a duration given in seconds in microseconds."""
    return f"{1e6 * value:.3g} \u00b5s"


def cell(value: Any, form: str | None = None) -> str:
    """Write one value of a table, exactly or in a format; a missing value as a dash."""
    if pd.isna(value):
        return "-"
    if form is not None:
        return format(value, form)
    # The scalars of pandas and numpy as Python's own, whose text is the same everywhere.
    return to_text(value.item() if hasattr(value, "item") else value)


def setting(name: str, value: Any) -> str:
    """Write the value of a setting of a run; rates look alike: `1e-3`, `2.5e-4`."""
    if name in RATES and not pd.isna(value) and 0 < value < 1:
        digits = Decimal(repr(float(value))).normalize().as_tuple().digits
        places = len(digits) - 1
        mantissa, exponent = f"{Decimal(repr(float(value))):.{places}e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return cell(value)


def number(value: float, form: str = "g") -> str:
    """Write a number in a format, infinity as `not reached`, a missing number as a dash."""
    return said("not reached") if math.isinf(value) else cell(value, form)


def rounded(count: float) -> str:
    """Write a large number to three digits: `46,600`; infinity as `not reached`."""
    if math.isinf(count):
        return said("not reached")
    return f"{float(f'{count:.3g}'):,.0f}" if count >= 100 else f"{count:.3g}"


def noun_of(runs: pd.DataFrame) -> str:
    """Return what the examples of these runs are called: digits, if they are."""
    return said("digits") if runs["dataset"].dropna().isin(DIGITS).all() else said("examples")


def capitalized(text: str) -> str:
    """Start `text` with a capital letter."""
    return text[:1].upper() + text[1:]


def counted(count: int, noun: str) -> str:
    """Write a count with its noun: `1 seed`, `2 seeds`."""
    return said(f"{{count}} {noun}" if count == 1 else f"{{count}} {noun}s", count=count)


def of_shares(low: float, high: float) -> str:
    """Write the interval of a share: `54% to 100%`."""
    return said("{low} to {high}", low=f"{low:.0%}", high=f"{high:.0%}")


def up_to(noun: str, goal: Any) -> str:
    """Write what is counted up to a goal: `digits to 1.6`."""
    return said("{things} to {goal}", things=noun, goal=goal)


def share(part: int, whole: int) -> str:
    """Write a share: `4 of 5`."""
    return said("{part} of {whole}", part=part, whole=whole)


def listed(items: Iterable[Any], most: int = 12) -> str:
    """Write a list: `4`, `4 and 5`, `3, 4 and 5`; beyond `most` items, how many more there are."""
    words = [str(item) for item in items]
    if len(words) > most:
        words = [*words[:most], said("{count} more", count=len(words) - most)]
    if len(words) < 2:
        return "".join(words)
    return said("{words} and {last}", words=", ".join(words[:-1]), last=words[-1])


def interval(estimate: Estimate, write: Callable[[float], str]) -> str:
    """Write an interval: `1.9 s to 2.1 s`; `every run` if all runs agree; nothing for a single run."""
    if estimate.runs < 2:
        return ""
    if estimate.low == estimate.high:
        return said("every run")
    return said("{low} to {high}", low=write(estimate.low), high=write(estimate.high))
