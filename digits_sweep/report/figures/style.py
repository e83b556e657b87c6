"""The style of the figures: colors and shapes, and names of lines where they end."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

# Okabe and Ito's palette for color-blind readers, darkened if too pale on white, for what has no order. Shapes differ
# as well.
SERIES = ("#0072b2", "#c44e00", "#00795a", "#a83f80", "#7a6200", "#4b4b4b")
MARKERS = ("o", "s", "^", "D", "v", "P")
# The batch sizes, the smallest first: lighter and redder step by step (OKLCH, lightness 0.30 to 0.56), so that their
# order is seen without red and green being told apart. Each has a contrast of 4.5 to the paper, as text needs.
SIZES = (
    *("#041981", "#271887", "#3e1889", "#521888", "#661984", "#781a7c"),
    *("#891b72", "#991e65", "#a72456", "#b32c45", "#bc3830", "#c2460d"),
)
# The cells of a heat map, few examples first; each is pale enough for ink.
HEAT = ("#f1f8ff", "#e0f0fe", "#cde8fd", "#bce0f8", "#abd9f3", "#98d2ec", "#84cae5", "#6fc4de")
INK, GRID = "#1b1b1b", "#d9d9d6"
BAND = 0.13
WIDTH, HEIGHT, ROW = 4.7, 3.1, 1.6
TEXT, SMALL = 8, 7.5

STYLE: dict[Any, Any] = {
    # Names come from files: a dollar sign in one is no formula.
    "text.parse_math": False,
    "svg.fonttype": "none",
    "font.size": 9,
    "xtick.labelsize": TEXT,
    "ytick.labelsize": TEXT,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": TEXT,
    "axes.titlepad": 3,
    "xtick.color": INK,
    "ytick.color": INK,
    "savefig.transparent": True,
    "figure.constrained_layout.w_pad": 0.03,
    "figure.constrained_layout.h_pad": 0.03,
}


def finish(axis: Axes) -> None:
    """Give an axis what all of them have: a grid, and no frame at the top and the right."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color=GRID, linewidth=0.6)
    axis.set_axisbelow(True)


def styles(things: Iterable[object]) -> list[tuple[str, str]]:
    """Return a color and a marker for each of some things without an order, such as goals."""
    places = range(len(list(things)))
    return [(SERIES[place % len(SERIES)], MARKERS[place % len(MARKERS)]) for place in places]


def step_of(place: int, count: int) -> int:
    """Return which of the colors in `SIZES` is that of the batch size at a place of `count`."""
    return round(place * (len(SIZES) - 1) / (count - 1)) if count > 1 else 0


def color_of(size: float, sizes: Sequence[float]) -> str:
    """Return the color of a batch size among all of a page, ascending: the same in all of its figures."""
    return SIZES[step_of(list(sizes).index(size), len(sizes))]


def room(axis: Axes) -> tuple[float, float]:
    """Return about how many points wide and high an axis will be, which the layout decides after all is drawn."""
    place = axis.get_subplotspec()
    rows, columns = place.get_gridspec().get_geometry() if place else (1, 1)
    figure = axis.get_figure(root=True)
    width, height = (figure.get_size_inches() if figure else np.array([WIDTH, HEIGHT])) * 72
    return (width - 48) / columns - 6, (height - 42) / rows - (18 if rows * columns > 1 else 0)


def width_of(text: str, size: float = TEXT) -> float:
    """Return about how many points wide a text is, rather more than less."""
    return 0.62 * size * len(text)


def shortened(text: str, points: float, size: float = TEXT) -> str:
    """Return `text`, its end left out if it is wider than so many points."""
    most = max(int(points / width_of("x", size)), 4)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def horizontal(lines: Sequence[tuple[float, str, str]], named: bool, axis: Axes, end: float = 1) -> None:
    """Draw lines at values, each with its style, and its name at the left below it if they are `named`.

    They end at `end`, a share of the axis.
    """
    for value, _, style in lines:
        axis.axhline(value, xmax=end, color=INK, linewidth=0.9, linestyle=style)
    if named:
        below = 0.55 * TEXT / room(axis)[1]
        places = [_fraction(value, axis) - below for value, _, _ in lines]
        _write([(place, name, INK) for place, (_, name, _) in zip(places, lines, strict=True)], 0.01, axis)


def label_ends(ends: Sequence[tuple[float, str, str]], longest: str, axis: Axes) -> float:
    """Name lines at the right, each at the height of its last value, as (value, name, color), in a margin made for it.

    Names that would overlap are moved apart. The margin has room for `longest`, up to two fifths of the axis; return
    where it begins, as a share of the axis.
    """
    wide = room(axis)[0]
    share = min((width_of(longest) + 6) / wide, 0.42)
    _widen(axis, share)
    placed = [
        (_fraction(value, axis), shortened(name, share * wide - 4), color)
        for value, name, color in ends
        if math.isfinite(value)
    ]
    _write(placed, 1 - share + 3 / wide, axis)
    return 1 - share


def _widen(axis: Axes, share: float) -> None:
    """Move the right end of the x axis so that a share of its length, at the right, is empty."""
    transform = axis.xaxis.get_transform()
    low, high = transform.transform(np.asarray(axis.get_xlim(), float))
    axis.set_xlim(axis.get_xlim()[0], float(transform.inverted().transform(low + (high - low) / (1 - share))))


def _fraction(value: float, axis: Axes) -> float:
    """Return how high a value lies, as a share of the axis."""
    low, high, place = axis.yaxis.get_transform().transform(np.asarray([*axis.get_ylim(), value], float))
    return float((place - low) / (high - low))


def _write(texts: Sequence[tuple[float, str, str]], left: float, axis: Axes) -> None:
    """Write texts at (height, text, color) from `left` on, both shares of the axis, apart and inside of it."""
    step = 1.25 * TEXT / room(axis)[1]
    ordered = sorted(texts, key=lambda each: each[0])
    heights = np.clip([each[0] for each in ordered], step / 2, 1 - step / 2)
    for place in range(1, len(heights)):
        heights[place] = max(heights[place], heights[place - 1] + step)
    # Those that were pushed out at the top push back.
    top = 1 - step / 2
    for place in reversed(range(len(heights))):
        heights[place] = min(heights[place], top)
        top = heights[place] - step
    for height, (_, text, color) in zip(heights, ordered, strict=True):
        axis.text(
            left, float(height), text, transform=axis.transAxes, ha="left", va="center", fontsize=TEXT, color=color
        )
