"""The style of the figures: colors, axes, and a figure as an SVG that takes its colors from the page around it."""

import errno
import io
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from digits_sweep.results.disk.harmless import visible

# Okabe and Ito's palette for color-blind readers, darkened if too pale on white. Markers differ as well.
SERIES = ("#0072b2", "#c44e00", "#00795a", "#a83f80", "#7a6200", "#4b4b4b")
MARKERS = ("o", "s", "^", "D", "v", "P")
INK, GRID = "#1b1b1b", "#d9d9d6"
BAND = 0.13

STYLE: dict[Any, Any] = {
    # Names come from files: a dollar sign in one is no formula.
    "text.parse_math": False,
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.labelcolor": INK,
    "savefig.transparent": True,
}


LONGEST_NAME = 80


def finish(axis: Axes) -> None:
    """Give an axis what all of them have: a grid, no frame at the top and the right, and a legend."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color=GRID, linewidth=0.6)
    axis.set_axisbelow(True)
    legend(axis)


def legend(axis: Axes) -> None:
    """Put the legend above the axes, if there is anything to name: there it hides nothing, whatever is drawn."""
    if axis.get_legend_handles_labels()[1]:
        handles, names = axis.get_legend_handles_labels()
        axis.legend(
            handles, [name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..." for name in names],
            loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=8, borderaxespad=0.2,
            columnspacing=1.2, handlelength=1.6,
        )  # fmt: skip


def styles(configurations: Iterable[object]) -> list[tuple[str, str]]:
    """Return color and marker of every configuration: the same in all figures."""
    places = range(len(list(configurations)))
    return [(SERIES[place % len(SERIES)], MARKERS[place % len(MARKERS)]) for place in places]


def horizontal(loss: float, name: str, style: str, axis: Axes) -> None:
    """Draw a line at a loss, with its name at the right."""
    axis.axhline(loss, color=INK, linewidth=0.9, linestyle=style)
    axis.annotate(
        name, (1, loss), xycoords=("axes fraction", "data"), xytext=(0, -2), textcoords="offset points",
        ha="right", va="top", fontsize=8, color=INK,
    )  # fmt: skip


def logarithmic(axis: Axis) -> None:
    """Label a logarithmic axis with plain numbers, more of them within few powers of ten: there may be one power."""
    lowest, highest = axis.get_data_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5) if highest < 100 * lowest else (1,)))
    axis.set_major_formatter(plain)
    axis.set_minor_formatter(NullFormatter())


def plain(value: float, _: object = None) -> str:
    """Write the number at a tick without an exponent: `0.5`, `12,000`."""
    return f"{value:,g}"


def as_svg(name: str, text: str, draw: Callable[[Axes], None], height: float = 3.1) -> str:
    """Draw a figure as an inline SVG element, as wide as its place on the page, with `text` as its alternative.

    Its colors are the page's custom properties `--ink`, `--grid`, `--series-0` and so on, so that a dark page has a
    dark figure. `name` makes its ids differ from those of other figures on the page. `height` is in inches at a width
    of 4.7 inches.
    """
    with _style({"svg.hashsalt": name}):
        figure = Figure(figsize=(4.7, height), layout="constrained")
        axis = figure.subplots()
        draw(axis)
        # What is drawn inside the axes needs no space of its own: measuring every text would double the time.
        for artist in (*axis.lines, *axis.texts, *axis.collections):
            artist.set_in_layout(False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return visible(_for_the_page(buffer.getvalue(), text))


@contextmanager
def _style(settings: dict[Any, Any]) -> Iterator[None]:
    """Draw as `STYLE` says in the block, whatever a matplotlibrc in the present folder or at home says.

    matplotlib warns of a character that a font lacks and of a text without room: neither helps a reader.
    """
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE | settings)
        yield


def _for_the_page(svg: str, text: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Groups have the same numbers in every figure, and only what is referred to needs an id.
    svg = re.sub(r' id="[a-z0-9]+_\d+"', "", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg)
    svg = re.sub(r"font: ([^;\"]*?)'[^;\"]*?sans-serif", r"font: \1sans-serif", svg)
    colors = {INK: "--ink", GRID: "--grid"} | {color: f"--series-{place}" for place, color in enumerate(SERIES)}
    for color, variable in colors.items():
        svg = svg.replace(color, f"var({variable})")
    label = text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def as_file(path: Path, draw: Callable[[Axes], None]) -> None:
    """Draw a figure as a file on white; the suffix of `path` gives the format, such as .svg or .png.

    Raises OSError if the file cannot be written or if there is no such format.
    """
    with _style({"savefig.transparent": False, "svg.hashsalt": path.stem}):
        figure = Figure(figsize=(7, 3.6), layout="constrained", facecolor="white")
        if path.suffix.removeprefix(".").lower() not in figure.canvas.get_supported_filetypes():
            raise OSError(errno.EINVAL, "no format for a figure; choose .svg or .png", str(path))
        draw(figure.subplots())
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
