"""Text that may come from somebody else's files, made harmless for what shows it: a terminal, a spreadsheet."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# Control characters but the end of a line, marks that turn the direction of writing, and halves of characters.
_CONTROL = re.compile("[\0-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")

# What makes a spreadsheet read a cell as a formula: these in front, in a spreadsheet that splits at semicolons too.
_FORMULA = re.compile("(^|[;|\n])(?=[=+\\-@\uff0b\uff0d\uff1d\uff20])")
# So many lines of one kind may a message have.
MOST_LINES = 3


def visible(text: str) -> str:
    r"""Return `text` with every control character written out, such as `\x1b`, so that no terminal obeys it."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def one_line(text: str) -> str:
    """Return `text` as `visible` does, on one line."""
    return visible(text).replace("\n", "\\n")


def in_few_lines(lines: Sequence[str]) -> str:
    """Join the lines of a message; of many, the first three and how many more there are."""
    rest = [f"and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    return "\n".join([*lines[:MOST_LINES], *rest])


def as_csv(table: pd.DataFrame) -> str:
    """Return a table as CSV for people.

    Cells of text are never formulas: one that begins with `=`, `+`, `-` or `@` gets a single quote in front. Control
    characters are written out. Numbers are as pandas writes them.
    """
    written = table.rename(columns=_cell)
    for name, column in written.items():
        if column.dtype.kind not in "biuf":
            written[name] = column.map(_cell, na_action="ignore")
    return written.to_csv(index=False, lineterminator="\n")


def _cell(value: object) -> object:
    return _FORMULA.sub(r"\1'", one_line(value)) if isinstance(value, str) else value
