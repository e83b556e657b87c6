"""The colours of the figures, and a figure as an SVG that takes its colours from the page around it."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette for colour-blind readers, darkened where it was too pale on white. Markers tell apart too.
SERIES = ("#0072b2", "#c44e00", "#00795a", "#a83f80", "#7a6200", "#4b4b4b")
MARKERS = ("o", "s", "^", "D", "v", "P")
INK, GRID = "#1b1b1b", "#d9d9d6"
BAND = 0.13

STYLE: dict[Any, Any] = {
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


def as_svg(name: str, text: str, draw: Callable[[Axes], None], height: float = 3.1) -> str:
    """One figure as an inline SVG element, as wide as its place, with `text` for those who cannot see it.

    Its colours are the custom properties `--ink`, `--grid` and `--series-0` on of the page, so that a dark page has
    a dark figure. `name` keeps its ids apart from those of other figures on the page.
    """
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(4.7, height), layout="constrained")
        axis = figure.subplots()
        draw(axis)
        # What is drawn inside the axes takes no room of its own: measuring every text would double the time.
        for artist in (*axis.lines, *axis.texts, *axis.collections):
            artist.set_in_layout(False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _for_the_page(buffer.getvalue(), text)


def _for_the_page(svg: str, text: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Groups are numbered alike in every figure; only what is referred to needs an id.
    svg = re.sub(r' id="[a-z0-9]+_\d+"', "", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg)
    svg = re.sub(r"font: ([^;\"]*?)'[^;\"]*?sans-serif", r"font: \1sans-serif", svg)
    colours = {INK: "--ink", GRID: "--grid"} | {colour: f"--series-{place}" for place, colour in enumerate(SERIES)}
    for colour, variable in colours.items():
        svg = svg.replace(colour, f"var({variable})")
    label = text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def as_file(path: Path, draw: Callable[[Axes], None]) -> None:
    """One figure as a file of its own on white; the ending of `path` says the format, such as .svg or .png."""
    with matplotlib.rc_context({**STYLE, "savefig.transparent": False, "svg.hashsalt": path.stem}):
        figure = Figure(figsize=(7, 3.6), layout="constrained", facecolor="white")
        draw(figure.subplots())
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
