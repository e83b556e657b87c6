"""Figures of experiments: shares and differences with their intervals, and how often each first epoch came out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from digits_sweep.report.figures.style import GRID, INK, SERIES, SMALL, finish
from digits_sweep.report.language import said

# Points: two digits fit above a bar.
NUMBER = 6


@dataclass(frozen=True)
class Interval:
    """A named number with the ends of its interval."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class FirstEpochs:
    """How many runs reached the threshold first in each epoch (infinity: in none), and the epoch that was expected."""

    name: str
    counts: Mapping[float, int]
    expected: float


def intervals(rows: Sequence[Interval], zero: float | None, label: str, axis: Axes) -> None:
    """Draw a row for every number, from the top, with its name above it; a line at `zero`, if that is something."""
    if zero is not None:
        axis.axvline(zero, color=INK, linewidth=0.9)
    for place, row in enumerate(rows):
        # Clear of 0 or not is what such a figure is looked at for.
        color = SERIES[0] if zero is None or row.low <= zero <= row.high else SERIES[1]
        axis.plot([row.low, row.high], [place, place], color=color, linewidth=1.6)
        axis.plot([row.value], [place], "o", color=color, markersize=5)
    _names([row.name for row in rows], axis)
    axis.set_xlabel(label)


def first_epochs(rows: Sequence[FirstEpochs], last: int, axis: Axes) -> None:
    """Draw a row for every setting: a bar for each first epoch with the number of its runs; framed: the expected one.

    Runs that did not reach the threshold within `last` epochs stand at the right.
    """
    never = last + 2.5
    most = max(count for row in rows for count in row.counts.values())
    for place, row in enumerate(rows):
        base = place + 0.35
        for epoch, count in row.counts.items():
            x = never if math.isinf(epoch) else epoch
            axis.bar([x], [-0.5 * count / most], width=0.8, bottom=base, color=SERIES[0], linewidth=0)
            axis.text(x, base - 0.5 * count / most - 0.02, str(count), ha="center", va="bottom", fontsize=NUMBER)
        expected = never if math.isinf(row.expected) else row.expected
        frame = Rectangle((expected - 0.55, base - 0.72), 1.1, 0.75, fill=False, edgecolor=SERIES[1], linewidth=1.4)
        axis.add_patch(frame)
    _names([row.name for row in rows], axis)
    axis.set_xlim(0, never + 1.5)
    # The last round number would run into the word.
    numbers = range(5, last - 2, 5)
    axis.set_xticks([*numbers, never], [*map(str, numbers), said("none")])
    axis.set_xlabel(said("first epoch below the threshold"))


def _names(names: Sequence[str], axis: Axes) -> None:
    for place, name in enumerate(names):
        axis.text(
            0.005, place - 0.42, name, ha="left", va="center", fontsize=SMALL, transform=axis.get_yaxis_transform()
        )
    finish(axis)
    axis.grid(visible=False, axis="y")
    axis.set_yticks([])
    axis.set_ylim(len(names) - 0.5, -0.75)
    axis.spines["left"].set_visible(False)
    axis.spines["bottom"].set_color(GRID)
