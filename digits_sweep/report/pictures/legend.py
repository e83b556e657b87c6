"""The one legend of a page: what colors, shapes and bars mean in all of its figures."""

from collections.abc import Sequence
from dataclasses import dataclass

from digits_sweep.report.analysis.curves.critical import Critical
from digits_sweep.report.analysis.panels import Layout
from digits_sweep.report.analysis.sentences.critical import goal_of
from digits_sweep.report.figures.style import MARKERS, SERIES, step_of, styles
from digits_sweep.report.language import said

# The characters of MARKERS, and of DASHES beside the first of them.
SHAPES = dict(zip(MARKERS, "\u25cf\u25a0\u25b2\u25c6\u25bc\u271a", strict=True))
LINES = ("line", "dashed line", "dotted line")


@dataclass(frozen=True)
class Key:
    """A sign and what it means: `sign` is a character, in the color that the page calls `color`."""

    sign: str
    meaning: str
    color: str = "ink"


def legend(layout: Layout, several_seeds: bool) -> tuple[str, list[Key]]:
    """Return what the colors are of, and every sign of a sweep's figures."""
    count = len(layout.sizes)
    keys = [Key(SHAPES["o"], f"{size:,}", f"size-{step_of(place, count)}") for place, size in enumerate(layout.sizes)]
    for shape, (marker, line) in zip(layout.shapes, zip(MARKERS, LINES, strict=False), strict=False):
        keys.append(Key(SHAPES[marker], f"{shape} ({said(line)})"))
    keys.append(Key("\u25cb", said("open: not reached, at the training that it had")))
    if several_seeds:
        keys.append(Key("\u2503", said("bar: the interval of the median over the seeds")))
    return said("batch size"), keys


def legend_of_critical(found: Critical, sizes: Sequence[float]) -> tuple[str, list[Key]]:
    """Return the same of a study of the critical batch size: a color a goal, and where rates differ a batch size."""
    keys = [
        Key(SHAPES[marker], goal_of(answer), f"series-{SERIES.index(color)}")
        for answer, (color, marker) in zip(found.answers, styles(found.answers), strict=True)
    ]
    keys += [
        Key(SHAPES["o"], said("batch size {size}", size=f"{size:,.0f}"), f"size-{step_of(place, len(sizes))}")
        for place, size in enumerate(sizes)
    ]
    return said("goal"), [*keys, Key("\u25cb", said("open: not reached"))]
