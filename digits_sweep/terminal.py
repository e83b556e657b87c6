"""A table as a terminal shows it: no wider than the terminal, numbers at the right, and nothing cut off."""

import re
from collections.abc import Sequence
from typing import IO, Any, cast

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from digits_sweep.process.streams import Tolerant
from digits_sweep.results.disk.harmless import one_line

GAP = 2
# Before the first column is folded to fewer characters than these, others are left out; if none is left, to at least so
# many.
NARROWEST, LEAST = 18, 8
# What a cell of a column of numbers may have in letters.
UNITS = re.compile(r"\b(s|min|h|ms|of|not set)\b|\d+e-?\d+|\u00b5s|nan|inf")


# In a pipe nothing is folded, whatever width the environment claims.
PIPE = 240


def console_on(stream: Any) -> Console:
    """Return a console that writes to a stream what can be written to it; control characters on a terminal only.

    rich itself leaves colors out if NO_COLOR is set, and everything else too if TERM is dumb.
    """
    tolerant = Tolerant(stream)
    is_terminal = tolerant.isatty()
    return Console(
        file=cast(IO[str], tolerant), highlight=False, force_terminal=is_terminal, width=None if is_terminal else PIPE,
    )  # fmt: skip


def without_room(left_out: Sequence[str]) -> list[str]:
    """Return the line that names columns which were left out, if there are any."""
    return [f"no room for: {', '.join(left_out)} (all columns are in summary.csv)"] if left_out else []


def print_table(
    console: Console, header: Sequence[str], rows: Sequence[Sequence[str]], optional: Sequence[str] = ()
) -> list[str]:
    """Print a table of text, the first column on the left; return the titles of the columns that had no room.

    Those in `optional` are left out, the first one first, until the others fit the console. Whatever is still too wide
    is folded.
    """
    titles = [one_line(each) for each in header]
    # As `Text`, because rich reads a plain string as markup, and a column may be named after a key in a file.
    cells = [[one_line(each) for each in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(titles, *cells, strict=True)]
    shown, left_out = list(range(len(titles))), []
    for title in optional:
        least = min(widths[0], NARROWEST) + sum(widths[place] + GAP for place in shown[1:])
        if least <= console.width:
            break
        if title in titles and (place := titles.index(title)) in shown[1:]:
            shown.remove(place)
            left_out.append(title)
    # Only the first column gives way, as long as that is enough.
    others = sum(widths[place] + GAP for place in shown[1:])
    first = min(widths[0], max(console.width - others, LEAST))
    fits = first + others <= console.width
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for place in shown:
        is_number = place > 0 and not any(map(str.isalpha, "".join(UNITS.sub("", row[place]) for row in cells)))
        table.add_column(
            Text(titles[place]), justify="right" if is_number else "left", overflow="fold",
            width=first if fits and not place else None, no_wrap=bool(place and fits),
        )  # fmt: skip
    for row in cells:
        table.add_row(*(Text(row[place]) for place in shown))
    console.print(table)
    return left_out
