"""Numbers as the report writes them."""

import math
from collections.abc import Callable, Iterable

from digits_sweep.report.analysis.replicates import Middle


def seconds(value: float) -> str:
    """`2.04 s`, `3 min 5 s`, `1 h 2 min`; infinity is `not reached`."""
    if math.isinf(value):
        return "not reached"
    if value < 120:
        return f"{value:.3g} s" if value < 10 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def rate(value: float) -> str:
    """`1e-4`, as the lesson writes it; `0.05`."""
    mantissa, exponent = f"{value:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}" if 0 < value < 1e-3 else f"{value:g}"


def capitalised(text: str) -> str:
    """`text` as a sentence starts."""
    return text[:1].upper() + text[1:]


def counted(number: int, noun: str) -> str:
    """`1 seed`, `2 seeds`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def share(part: int, whole: int) -> str:
    """`4 of 5`."""
    return f"{part} of {whole}"


def listed(items: Iterable[str], most: int = 12) -> str:
    """`4`, `4 and 5`, `3, 4 and 5`; of very many the first ones, and how many there are besides."""
    words = list(items)
    if len(words) > most:
        words = [*words[:most], f"{len(words) - most} more"]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def number(value: float, form: str = "g") -> str:
    """A number in a format, infinity as `not reached`, no number as a dash."""
    if math.isnan(value):
        return "-"
    return "not reached" if math.isinf(value) else format(value, form)


def interval(middle: Middle, write: Callable[[float], str]) -> str:
    """`1.9 s to 2.1 s`; `every run` where they all agree; nothing for a single run."""
    if middle.runs < 2:
        return ""
    return "every run" if middle.low == middle.high else f"{write(middle.low)} to {write(middle.high)}"
