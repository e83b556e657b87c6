"""A figure as an SVG element that takes its colors from the page around it, or as a file."""

import errno
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from digits_sweep.errors import escape_controls
from digits_sweep.report.figures.style import (
    GRID,
    HEAT,
    HEIGHT,
    INK,
    ROW,
    SERIES,
    SIZES,
    STYLE,
    TEXT,
    WIDTH,
    room,
    shortened,
)

Draw = Callable[[Axes], None]
# The titles of its column and its row, empty if it has none, and what draws it.
Panel = tuple[str, str, Draw]
# How a mark's url starts. Nothing that comes from a file is the url of a mark otherwise.
HOVER = "hover"


def hover(text: str, run: int | None = None) -> str:
    """Return the url of a mark in a collection that shows `text` while the mouse is over it on the page.

    `run` is the number of the run that it belongs to.
    """
    return f"{HOVER}{'' if run is None else run}:{text}"


class ShownFigure(Figure):
    """A figure that a notebook shows by itself, without pyplot."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=120)
        return buffer.getvalue()


def figure_of(panels: Sequence[Panel], columns: int = 1, height: float | None = None, width: float = WIDTH) -> Figure:
    """Draw panels, each with a title or without, in rows of so many columns on one scale; as wide as a page shows it.

    `height` is in inches at a width of 4.7 inches.
    """
    rows = ceil(len(panels) / columns)
    height = height or (HEIGHT if rows == 1 else 0.5 + ROW * rows)
    figure = ShownFigure(figsize=(width, height))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    axes = list(grid.flat)
    for place, ((column, row, draw), axis) in enumerate(zip(panels, axes, strict=False)):
        draw(axis)
        if column and (not row or place < columns):
            axis.set_title(shortened(column, room(axis)[0]), loc="left")
    for axis in axes[len(panels) :]:
        axis.remove()
    if len(panels) > 1:
        _label_outside(figure, axes, panels, columns)
    # What is drawn inside the axes needs no space of its own: measuring every text would double the time.
    for axis in figure.axes:
        for artist in (*axis.lines, *axis.texts, *axis.collections, *axis.patches):
            artist.set_in_layout(False)
    # Once: a figure with a layout of its own is drawn twice when it is saved.
    ConstrainedLayoutEngine().execute(figure)
    return figure


def _label_outside(figure: Figure, axes: Sequence[Axes], panels: Sequence[Panel], columns: int) -> None:
    """Name the axes once, and number them at the outer panels only."""
    figure.supxlabel(axes[0].get_xlabel(), fontsize=9)
    figure.supylabel(axes[0].get_ylabel(), fontsize=9)
    for place, axis in enumerate(axes[: len(panels)]):
        last = place % columns == columns - 1
        axis.set(xlabel="", ylabel=shortened(panels[place][1], room(axis)[1]) if last else "")
        axis.yaxis.set_label_position("right")
        axis.yaxis.label.set_fontsize(TEXT)
        # In the last row there may be fewer.
        axis.tick_params(labelbottom=place + columns >= len(panels), labelleft=place % columns == 0)


def as_svg(name: str, text: str, panels: Sequence[Panel], columns: int = 1, height: float | None = None) -> str:
    """Draw a figure as an inline SVG element, as wide as its place on the page, with `text` as its alternative.

    Its colors are the page's custom properties `--ink`, `--grid`, `--size-0` and so on, so that a dark page has a dark
    figure. `name` makes its ids differ from those of other figures on the page.
    """
    with drawing({"svg.hashsalt": name}):
        buffer = io.StringIO()
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure_of(panels, columns, height).savefig(buffer, format="svg", metadata=metadata)
    return escape_controls(_for_the_page(buffer.getvalue(), text))


@contextmanager
def drawing(settings: dict[Any, Any] | None = None) -> Iterator[None]:
    """Draw as `STYLE` says in the block, whatever a matplotlibrc in the present folder or at home says.

    matplotlib warns of a character that a font lacks: in a page it is the browser's font that counts.
    """
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE | (settings or {}))
        yield


def _for_the_page(svg: str, text: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Groups have the same numbers in every figure, and only what is referred to needs an id.
    svg = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", svg)
    svg = re.sub(rf'<a xlink:href="{HOVER}(\d*):([^"]*)"[^>]*>', _hover, svg).replace("</a>", "</g>")
    # A hundredth of a point is less than can be seen.
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]).replace(" \n", " "), svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg)
    svg = re.sub(r"font: ([^;\"]*?)'[^;\"]*?sans-serif", r"font: \1sans-serif", svg)
    colors = {INK: "--ink", GRID: "--grid"}
    for family, members in (("series", SERIES), ("size", SIZES), ("heat", HEAT)):
        colors |= {color: f"--{family}-{place}" for place, color in enumerate(members)}
    for color, variable in colors.items():
        svg = svg.replace(color, f"var({variable})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(text)}"', 1)


def _hover(found: re.Match[str]) -> str:
    """Give a mark its text as the title that a browser shows beside the mouse, and the number of its run."""
    run = f' data-run="{found[1]}"' if found[1] else ""
    return f'<g class="mark"{run}><title>{found[2]}</title>'


def as_file(path: Path, panels: Sequence[Panel], columns: int, height: float | None = None) -> None:
    """Draw a figure as a file on white; the suffix of `path` gives the format, such as .svg or .png.

    `height` is in inches. Raises OSError if the file cannot be written or if there is no such format.
    """
    with drawing({"savefig.transparent": False, "svg.hashsalt": path.stem}):
        figure = as_figure(panels, columns, height)
        if path.suffix.removeprefix(".").lower() not in figure.canvas.get_supported_filetypes():
            raise OSError(errno.EINVAL, "no format for a figure; choose .svg or .png", str(path))
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def as_figure(panels: Sequence[Panel], columns: int, height: float | None = None) -> Figure:
    """Draw a figure on white, as wide as a page of paper; `height` is in inches."""
    with drawing():
        figure = figure_of(panels, columns, height or (3.6 if len(panels) <= columns else None), width=7)
        figure.set_facecolor("white")
        return figure
