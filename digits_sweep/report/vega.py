"""A figure as Vega-Lite has it: its specification and table, the style and the parts of all, and how it is drawn.

A specification reads one table, called `table`: a row a mark, with the `run` or the `configuration` that it is of.
Colors are the custom properties of the page, so that a dark page has dark figures; a file has those of a light one.
`usermeta` says which fields a reader may read off, and which axes may be logarithmic.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from digits_sweep.errors import escape_controls
from digits_sweep.report.layout import Layout
from digits_sweep.report.words import _, catalogue, language
from digits_sweep.results.files import replace_file

Spec = dict[str, Any]

# The version that notebooks know; newer ones read it too.
SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
MIME, VERSION = "application/vnd.vegalite.v5+json", "5.21"
INK, QUIET, GRID, PAPER = "var(--ink)", "var(--quiet)", "var(--grid)", "var(--paper)"
SIZES, HEAT, SERIES = (
    [f"var(--{name}-{step})" for step in range(count)] for name, count in (("size", 12), ("heat", 8), ("series", 6))
)
# A figure of one panel is so many pixels wide with its axes, one of several panels spans the page.
NARROW, WIDE, AXIS, GAP = 560, 1160, 62, 44
HEIGHT = 230
# What makes a figure move under the mouse; one that is only drawn does without.
MOVES = {"name": "grid", "select": {"type": "interval", "zoom": "wheel![event.shiftKey]"}, "bind": "scales"}
# A logarithmic axis has nine ticks a decade: a line across for three of them.
ONE_TWO_FIVE = {
    "condition": {"test": "indexof([1, 2, 5], round(datum.value / pow(10, floor(log(datum.value) / LN10 + 1e-9)))) < 0",
                  "value": 0},
    "value": 1,
}  # fmt: skip
# An axis is logarithmic if its numbers spread over this factor.
LOGARITHMIC = 4
# A tenth of a pixel is near enough.
PLACES = re.compile(r' (?:transform|d|x2|y2)="[^"]*"')
# What a drawing need not say: defaults of SVG, what is not seen, and what the text alternative says.
WITHOUT_USE = re.compile(
    r'<path class="(?:fore|back)ground"[^>]*display="none"[^>]*/>|<path class="background"[^>]*h0v0h0Z"[^>]*/>'
    r'| (?:aria-hidden|aria-roledescription|role|pointer-events|font-family|stroke-miterlimit)="[^"]*"'
    r'| (?:opacity|stroke-width)="1"| font-weight="400"| class="mark-[^"]*"'
)


@dataclass(frozen=True)
class Figure:
    """A figure: what stands above it and below it, its table and its specification."""

    name: str
    title: str
    caption: str
    table: pd.DataFrame
    spec: Spec

    @property
    def alternative(self) -> str:
        """Return what stands in its place for who cannot see it, who hears its caption too."""
        return _("{title}; all numbers are in the tables.", title=self.title)

    @property
    def is_wide(self) -> bool:
        """Whether it has panels side by side."""
        return "facet" in self.spec

    def rows(self) -> list[Spec]:
        """Return the rows of its table; what is missing is None."""
        columns = {str(name): plain(self.table[name]) for name in self.table}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def whole(self) -> Spec:
        """Return the specification with its table and its style, which needs nothing else."""
        return {"$schema": SCHEMA, **printable(self.spec), "config": config(), "datasets": {"table": self.rows()}}

    def light(self) -> str:
        """Return the whole specification as JSON in the colors of a light page, for what has no custom properties.

        A mark shows its row under the mouse. What is behind it may be dark.
        """
        whole = self.whole()
        shown = {**whole["config"], "background": PAPER, "mark": {"tooltip": {"content": "data"}}}
        return colored(json.dumps({**whole, "config": shown}))

    def svg(self) -> str:
        """Draw it as an element of a page."""
        # Takes a tenth of a second, which a table need not wait for.
        import vl_convert

        still = json.dumps(self.whole()).replace(f', "params": [{json.dumps(MOVES)}]', "")
        drawing = WITHOUT_USE.sub("", vl_convert.vegalite_to_svg(still))
        drawing = PLACES.sub(lambda place: re.sub(r"(\d+\.\d)\d+", r"\1", place[0]), drawing)
        return drawing.replace("<svg", f'<svg role="img" aria-label="{escape(printable(self.alternative))}"', 1)

    def save(self, path: Path | str) -> None:
        """Write it as a file, .svg, .png or .pdf. Raises ValueError for another ending, OSError if it cannot write."""
        import vl_convert

        path = Path(path)
        drawings: dict[str, Callable[[], str | bytes]] = {
            ".svg": lambda: vl_convert.vegalite_to_svg(self.light()),
            ".png": lambda: vl_convert.vegalite_to_png(self.light(), scale=2),
            ".pdf": lambda: vl_convert.vegalite_to_pdf(self.light()),
        }
        if path.suffix not in drawings:
            raise ValueError(f"{path}: no format for a figure; choose .svg, .png or .pdf")
        try:
            replace_file(path, drawings[path.suffix]())
        except OSError as error:
            # Not the name of the temporary file.
            raise OSError(error.errno, error.strerror, str(path)) from None

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """Return what notebooks show: the specification if they know Vega-Lite, else the drawing."""
        import vl_convert

        specification = self.light()
        return {
            MIME: json.loads(specification),
            "image/svg+xml": vl_convert.vegalite_to_svg(specification, vl_version=VERSION),
            "text/plain": f"{self.title}. {self.alternative}",
        }


def plain(column: pd.Series) -> list[Any]:
    """Return a column as JSON has it: numbers to five digits, what is missing or infinite as None."""
    if pd.api.types.is_bool_dtype(column):
        return [None if pd.isna(value) else bool(value) for value in column]
    if pd.api.types.is_integer_dtype(column):
        return [None if pd.isna(value) else int(value) for value in column]
    if pd.api.types.is_float_dtype(column):
        return [float(f"{value:.5g}") if math.isfinite(value) else None for value in column.astype(float)]
    texts = {value: printable(value) for value in column.unique()}
    return [None if pd.isna(value) else texts[value] for value in column]


def printable(content: Any) -> Any:
    """Return what will be JSON with the control characters of its texts written out: they may come from a stranger."""
    if isinstance(content, str):
        return escape_controls(content)
    if isinstance(content, dict):
        return {printable(key): printable(value) for key, value in content.items()}
    return list(map(printable, content)) if isinstance(content, list | tuple) else content


def config() -> Spec:
    """Return the style of every figure, with numbers as the present language writes them."""
    ink = {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": 400}
    signs = catalogue(language())
    numbers = {"decimal": signs["decimal"], "thousands": signs["thousands"], "grouping": [3], "currency": ["", ""]}
    return {
        "background": None, "font": "sans-serif", "aria": False, "view": {"stroke": None},
        "locale": {"number": numbers},
        "axis": {**ink, "gridColor": GRID, "gridWidth": 0.6, "domainColor": QUIET, "tickColor": QUIET},
        "header": {**ink, "labelFontWeight": 600, "title": None},
        "legend": {**ink, "orient": "top", "symbolStrokeColor": INK, "symbolBaseStrokeColor": INK,
                   "symbolBaseFillColor": QUIET, "labelLimit": 400, "columnPadding": 16},
        "text": {"color": INK, "fontSize": 11}, "rule": {"color": INK}, "facet": {"spacing": GAP - 14},
    }  # fmt: skip


def template(name: str) -> str:
    """Return the text of a file beside the page's template."""
    return (files("digits_sweep.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def _light_colors() -> dict[str, str]:
    return dict(re.findall(r"(--[\w-]+): (#\w+)", template("page.css").partition("@media")[0]))


def colored(text: str) -> str:
    """Return a text with the colors of a light page in the place of its custom properties."""
    return re.sub(r"var\((--[\w-]+)\)", lambda name: _light_colors()[name[1]], text)


# --- Parts of specifications.


def shades(count: int) -> list[str]:
    """Return so many colors for batch sizes, the smallest the darkest."""
    return [SIZES[round(index * (len(SIZES) - 1) / max(count - 1, 1))] for index in range(count)]


def color(sizes: Sequence[int], legend: bool = False) -> Spec:
    """Give every batch size its color, as in all figures of a page."""
    scale = {"domain": list(sizes), "range": shades(len(sizes))}
    keys = (
        {"title": _("batch size"), "symbolType": "stroke", "symbolOpacity": 1, "symbolStrokeWidth": 2}
        if legend and len(sizes) > 1
        else None
    )
    return {"field": "batch_size", "type": "ordinal", "scale": scale, "legend": keys}


def told_apart(layout: Layout, channel: str, values: list[Any], **options: Any) -> Spec:
    """Return the encoding that tells variants apart; nothing if there is one."""
    if len(layout.variants) < 2:
        return {}
    scale = {"domain": layout.variants, "range": values[: len(layout.variants)]}
    return {channel: {"field": "variant", "type": "nominal", "title": None, "scale": scale, **options}}


SHAPES, DASHES = ["circle", "square", "triangle-up"], [[1, 0], [6, 3], [2, 3]]


def size_axis(sizes: Sequence[int], field: str = "place") -> Spec:
    """Return the axis of batch sizes, with a tick for each."""
    axis = {"values": list(sizes), "format": ",d", "labelOverlap": "greedy", "grid": False}
    scale = {"type": "log", "nice": False, "padding": 22}
    return {"field": field, "type": "quantitative", "title": _("batch size"), "axis": axis, "scale": scale}


def size_bands() -> Spec:
    """Return the axis of batch sizes that stand side by side, a band for each."""
    axis = {"labelAngle": 0, "format": ",d"}
    return {"field": "batch_size", "type": "ordinal", "title": _("batch size"), "axis": axis}


def amount(
    field: str, title: str, values: Iterable[Any] | None = None, form: str = ",.4~r", kind: str = "", **axis: Any
) -> Spec:
    """Return an axis of amounts: logarithmic if the `values`, above 0, spread over several times the smallest."""
    known = (
        [float(value) for value in values if value is not None and math.isfinite(value)] if values is not None else []
    )
    spreads = bool(known) and min(known) > 0 and max(known) >= LOGARITHMIC * min(known)
    scale = {"type": kind or ("log" if spreads else "linear"), "nice": False, "padding": 16}
    scale |= {"zero": False} if scale["type"] == "linear" else {}
    if known and min(known) == max(known):
        # One value alone would leave an axis without a number.
        scale["domain"] = sorted([0.5 * known[0], 1.5 * known[0]])
    axis = {"gridOpacity": ONE_TWO_FIVE, **axis} if scale["type"] == "log" else axis
    own = {"format": form, "tickCount": 5, "labelOverlap": "greedy", **axis}
    if form == "~s":
        # In place of `0k`.
        own["labelExpr"] = "datum.value ? datum.label : '0'"
    return {"field": field, "type": "quantitative", "title": title, "axis": own, "scale": scale}


def epochs_axis(most: float) -> Spec:
    """Return the axis of epochs: a tick never divides one."""
    scale = {"zero": False, "nice": False, "padding": 8}
    axis = {"format": "d", "tickMinStep": 1, "tickCount": int(min(max(most, 1), 8)), "grid": False}
    return {"field": "epoch", "type": "quantitative", "title": _("epoch"), "axis": axis, "scale": scale}


def layer(mark: str, kind: str, encoding: Spec, **options: Any) -> Spec:
    """Return a layer that draws the rows of one kind."""
    return {
        "transform": [{"filter": f"datum.kind == '{kind}'"}],
        "mark": {"type": mark, **options},
        "encoding": encoding,
    }


def spec_of(layers: Sequence[Spec], layout: Layout | None, height: int = HEIGHT, **usermeta: Any) -> Spec:
    """Return a specification of layers, repeated in every panel; a reader may zoom and move it."""
    movable = {**layers[0], "params": [MOVES]} if "y" in usermeta else layers[0]
    panels = layout.panels if layout else [""]
    columns = layout.columns if layout else 1
    total = NARROW if len(panels) < 2 else WIDE
    inner = {
        "width": (total - AXIS - GAP * (columns - 1)) // columns,
        "height": height,
        "layer": [movable, *layers[1:]],
    }
    base: Spec = {"usermeta": usermeta, "data": {"name": "table"}}
    if len(panels) < 2:
        return {**base, **inner}
    facet = {"field": "panel", "type": "nominal", "sort": panels, "title": None}
    return {**base, "facet": facet, "columns": columns, "spec": {**inner, "height": min(height, 190)}}


def marks(kind: str, encoding: Spec, **options: Any) -> Spec:
    """Return a layer with a point for each row of a kind: an open one if its run missed the goal."""
    is_open = {"condition": {"test": "datum.missed", "value": 0}, "value": 1}
    filled = {**encoding, "fill": encoding["color"], "fillOpacity": is_open}
    return layer("point", kind, filled, strokeWidth=1.5, **options)


def bars(kind: str, encoding: Spec, size: float = 2) -> Spec:
    """Return a layer with the interval of each row of a kind, from `low` to `high`."""
    ends = {"y": {**encoding["y"], "field": "low"}, "y2": {"field": "high"}}
    return layer("rule", kind, {name: encoding[name] for name in ("x", "color") if name in encoding} | ends, size=size)


def of_kind(kind: str, value: Any, otherwise: Any) -> Spec:
    """Return the encoding that gives rows of a kind one value, and the others another."""
    return {"condition": {"test": f"datum.kind == '{kind}'", "value": value}, "value": otherwise}
