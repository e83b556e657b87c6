"""Words and numbers as the report writes them, in the present language.

English is what the code says. A language is data beside the templates: `pt-BR.json` has every text by its English one,
and the signs that numbers are written with. It is looked up where a text is said: a page is made in one language from
end to end, and no function in between has to pass it on.
"""

import json
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from decimal import Decimal
from functools import cache
from importlib.resources import files
from numbers import Number
from string import Formatter
from typing import Any

import pandas as pd

from digits_sweep.config.text import to_text
from digits_sweep.report import ENGLISH, LANGUAGES

RATES = ("lr", "weight_decay")
DIGITS = ("mnist", "mnist_sample")
_language: ContextVar[str] = ContextVar("language", default=ENGLISH)


@contextmanager
def in_language(name: str) -> Iterator[None]:
    """Say everything in the block in the language called `name`. Raises ValueError if there is no such language."""
    if name not in LANGUAGES:
        raise ValueError(f"language {name}: choose {' or '.join(LANGUAGES)}")
    token = _language.set(name)
    try:
        yield
    finally:
        _language.reset(token)


def language() -> str:
    """Return the name of the present language, as HTML has it."""
    return _language.get()


@cache
def catalogue(name: str) -> dict[str, Any]:
    """Return a language: its `texts` by the English ones, and the signs `decimal` and `thousands`."""
    if name == ENGLISH:
        return {"texts": {}, "decimal": ".", "thousands": ","}
    path = files("digits_sweep.report") / "templates" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


class _Fields(Formatter):
    def format_field(self, value: Any, form: str) -> str:
        text = super().format_field(value, form)
        return localized(text) if isinstance(value, Number) else text


_fields = _Fields()


def _(text: str, /, **fields: Any) -> str:
    """Return `text` in the present language, with what its `{fields}` stand for."""
    template = catalogue(_language.get())["texts"].get(text, text)
    return _fields.vformat(template, (), fields) if fields else template


def localized(number: str) -> str:
    """Write a number as Python does, `1,234.5` or `12%`, with the signs of the present language: `1.234,5`, `12 %`."""
    signs = catalogue(_language.get())
    return number.translate(str.maketrans({".": signs["decimal"], ",": signs["thousands"], "%": " %"}))


def seconds(value: float) -> str:
    """Write a duration in seconds: `2.04 s`, `3 min 5 s`, `1 h 2 min`; infinity as `not reached`."""
    if not math.isfinite(value):
        return _("not reached") if math.isinf(value) else "-"
    if value < 120:
        return localized(f"{value:.3g} s" if value < 10 else f"{value:.1f} s")
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def short_seconds(value: float) -> str:
    """Write the seconds of one iteration or example: `12.5 µs`, `3.2 ms`, `1.2 s`."""
    for least, scale, unit in ((1.0, 1.0, "s"), (1e-3, 1e3, "ms")):
        if value >= least:
            return localized(f"{value * scale:.3g} {unit}")
    return localized(f"{1e6 * value:.3g} \u00b5s")


def cell(value: Any, form: str | None = None) -> str:
    """Write one value of a table, exactly or in a format; a missing value as a dash."""
    if pd.isna(value):
        return "-"
    if form is not None:
        return localized(format(value, form))
    # The scalars of pandas and numpy as Python's own, whose text is the same everywhere.
    return to_text(value.item() if hasattr(value, "item") else value)


def setting(name: str, value: Any) -> str:
    """Write the value of a setting as it is typed; rates look alike: `1e-3`, `2.5e-4`; of a guess two digits count."""
    if name == "batch_size_hint" and not pd.isna(value):
        return two_digits(value)
    if name in RATES and not pd.isna(value) and 0 < value < 1:
        digits = Decimal(repr(float(value))).normalize().as_tuple().digits
        mantissa, exponent = f"{Decimal(repr(float(value))):.{len(digits) - 1}e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return cell(value)


def number(value: float, form: str = "g") -> str:
    """Write a number in a format, infinity as `not reached`, a missing number as a dash."""
    return _("not reached") if math.isinf(value) else cell(value, form)


def rounded(count: float, digits: int = 3) -> str:
    """Write a large number to three digits, or another number of them: `46,600`; infinity as `not reached`."""
    if not math.isfinite(count):
        return _("not reached") if math.isinf(count) else "-"
    text = f"{count:.{digits}g}"
    return localized(f"{float(text):,.0f}" if count >= 10 ** (digits - 1) else text)


def two_digits(value: float) -> str:
    """Write a number to two digits: `250`, `0.57`."""
    return rounded(value, digits=2)


def times(ratio: float) -> str:
    """Write a factor to two digits, with what stands before the decimal sign in full: `1.4`, `25`, `120`; or `1.04`."""
    return localized(f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.3g}" if 1 < ratio < 1.1 else f"{ratio:.2g}")


def noun_of(runs: pd.DataFrame) -> str:
    """Return what the examples of these runs are called: digits, if they are."""
    return _("digits") if runs["dataset"].dropna().isin(DIGITS).all() else _("examples")


def capitalized(text: str) -> str:
    """Start `text` with a capital letter."""
    return text[:1].upper() + text[1:]


def counted(count: int, noun: str) -> str:
    """Write a count with its noun: `1 seed`, `2 seeds`."""
    return _(f"{{count}} {noun}" if count == 1 else f"{{count}} {noun}s", count=count)


def up_to(things: str, goal: Any) -> str:
    """Write what is counted up to a goal: `digits to 1.6`."""
    return _("{things} to {goal}", things=things, goal=goal)


def share(part: int, whole: int) -> str:
    """Write a share: `4 of 5`."""
    return _("{part} of {whole}", part=part, whole=whole)


def listed(items: Iterable[Any], most: int = 12) -> str:
    """Write a list: `4`, `4 and 5`, `3, 4 and 5`; beyond `most` items, how many more there are."""
    words = [str(item) for item in items]
    if len(words) > most:
        words = [*words[:most], _("{count} more", count=len(words) - most)]
    if len(words) < 2:
        return "".join(words)
    return _("{words} and {last}", words=", ".join(words[:-1]), last=words[-1])
