"""A figure as Vega-Lite has it: its specification and table, how it is drawn, and the parts that all figures share.

A specification reads one table, called `table`: a row a mark, with the `run` or the `configuration` that it is of.
Colors are the custom properties of the page, so that a dark page has dark figures; a file has those of a light one.
`usermeta` says which fields a reader may read off, and which axes may be logarithmic.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from html import escape
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from digits_sweep.errors import escape_controls
from digits_sweep.report.ranking import trained
from digits_sweep.report.statistics import explained
from digits_sweep.report.study import (
    GROWTH,
    MOST_NAMED,
    Study,
    first_runs,
    labels,
    level,
    odd_settings,
    shortened,
    telling_apart,
)
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
# Lines with longer names have none; a letter's width and height.
LONGEST_NAME, LETTER, LINE = 14, 6.5, 14
# Between the outermost marks and the edge.
PADDING = 16
MOST_POINTS = 120
# So many configurations of one batch size stand in one panel, told apart by shape or dashes.
MOST_VARIANTS = 3
MOST_LEVELS, MOST_PANELS = 6, 12
# A second factor is worth panels of its own only if it explains this share of what the batch size does not.
WORTH_A_PANEL = 0.01
# A line across, with its name.
Level = tuple[float, str]
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


def colored(text: str) -> str:
    """Return a text with the colors of a light page in the place of its custom properties."""
    colors = dict(re.findall(r"(--[\w-]+): (#\w+)", template("page.css").partition("@media")[0]))
    return re.sub(r"var\((--[\w-]+)\)", lambda name: colors[name[1]], text)


# --- Where configurations stand in all figures: a color a batch size, a panel or a shape for what else differs.


@dataclass(frozen=True)
class Layout:
    """Where every configuration stands in all figures of a page.

    `of` has a row a configuration: its `batch_size`, `panel`, `variant` (told apart by shape), `place` (its position on
    an axis of batch sizes) and `note`: the setting that changes with its batch size, if one does and it `is_odd`.
    `factors` has the values of what tells configurations apart, what explains most first.
    """

    of: pd.DataFrame
    sizes: list[int]
    panels: list[str]
    columns: int
    variants: list[str]
    factors: dict[str, dict[str, str]]

    def of_panels(self, panels: Iterable[str]) -> "Layout":
        """Return the layout without the panels that none of the rows stands in."""
        drawn = set(panels)
        wanted = [panel for panel in self.panels if panel in drawn]
        return replace(self, panels=wanted, columns=min(self.columns, len(wanted)))

    def join(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return a table with the columns of the layout for its `configuration`."""
        return table.drop(columns=[name for name in self.of if name in table]).join(self.of, on="configuration")


def factors_of(runs: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Return what tells configurations apart, what explains most first: the value of every configuration by name."""
    sweeps = ["sweep"] if "sweep" in runs else []
    names = telling_apart(runs, within=sweeps)
    words = labels(names)
    first = first_runs(runs)

    def values(name: str) -> dict[str, str]:
        column = first[name]
        order = column.dropna().sort_values() if pd.api.types.is_numeric_dtype(column) else column.dropna()
        texts = {value: str(value) if name == "sweep" else level(name, words[name], value) for value in order}
        ordered = [*order.index, *column.index[column.isna()]]
        missing = _("one size") if name == GROWTH else _("not set")
        return {str(each): texts.get(column[each], missing) for each in ordered}

    names.sort(key=lambda name: -explained(runs, runs[name]))
    factors = {name: values(name) for name in [*sweeps, *names]}
    return {name: own for name, own in factors.items() if len(set(own.values())) > 1}


@lru_cache(maxsize=4)
def layout_of(study: Study) -> Layout:
    """Return the layout of the runs of a study that trained."""
    runs = trained(study)
    factors = factors_of(runs)
    first = first_runs(runs)
    sizes = first["batch_size"].astype(int)
    variant = {name: ", ".join(each[str(name)] for each in factors.values()) for name in first.index}
    # What most have is drawn in the plainest way.
    often = Counter(variant.values())
    variants = sorted(_ordered(variant, factors), key=lambda name: -often[name])
    panels, columns, panel = [""], 1, dict.fromkeys(variant, "")
    if len(variants) > MOST_VARIANTS:
        # The one with more levels is across, the other one down.
        chosen = sorted(_chosen(runs, factors), key=lambda each: len(set(each.values())))
        columns = min(len(set(chosen[-1].values())), 4) if chosen else 1
        panel = {name: ", ".join(each[str(name)] for each in reversed(chosen)) for name in first.index}
        panels = _ordered(panel, dict(enumerate(chosen)))
        variants, variant = [""], dict.fromkeys(variant, "")
    table = pd.DataFrame({"batch_size": sizes, "panel": panel, "variant": variant}, index=first.index)
    odd = odd_settings(runs)
    notes = pd.Series([odd.get(str(name), "") for name in first.index], index=first.index)
    placed = table.assign(place=_places(table), note=notes, is_odd=notes != "")
    # Of several side by side one note is enough.
    placed.loc[placed.duplicated(["panel", "batch_size", "note"], keep="last"), "note"] = ""
    return Layout(placed, sorted(set(sizes)), panels, columns, variants, factors)


def _ordered(names: dict[Any, str], factors: dict[Any, dict[str, str]]) -> list[str]:
    """Return the different names, in the order of the levels of their factors."""
    ranks = [{text: rank for rank, text in enumerate(dict.fromkeys(each.values()))} for each in factors.values()]
    order = {
        name: tuple(rank[each[str(key)]] for rank, each in zip(ranks, factors.values(), strict=True))
        for key, name in names.items()
    }
    return sorted(order, key=lambda name: order[name])


def _chosen(runs: pd.DataFrame, factors: dict[str, dict[str, str]]) -> list[dict[str, str]]:
    """Return at most two factors whose levels are panels."""
    chosen: list[dict[str, str]] = []
    for name, values in factors.items():
        count = len(set(values.values()))
        others = math.prod(len(set(each.values())) for each in chosen)
        worth = not chosen or explained(runs, runs[name]) >= WORTH_A_PANEL
        if len(chosen) < 2 and worth and count <= MOST_LEVELS and count * others <= MOST_PANELS:
            chosen.append(values)
    return chosen


def _places(table: pd.DataFrame) -> pd.Series:
    """Return positions on a logarithmic axis: configurations of one panel and batch size stand side by side."""
    logs = sorted(set(map(math.log, table["batch_size"])))
    gap = min((right - left for left, right in pairwise(logs)), default=math.log(2))
    span = logs[-1] - logs[0] if len(logs) > 1 else math.log(4)
    groups = table.groupby(["panel", "batch_size"])["variant"]
    count, index = groups.transform("size"), groups.cumcount()
    step = np.minimum(0.035 * span, 0.4 * gap / np.maximum(count - 1, 1))
    return table["batch_size"] * np.exp(step * (index - (count - 1) / 2))


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


def series(field: str, names: Sequence[str], **options: Any) -> Spec:
    """Give every name in a field a color of its own."""
    scale = {"domain": list(names), "range": [SERIES[number % len(SERIES)] for number in range(len(names))]}
    return {"field": field, "type": "nominal", "title": None, "scale": scale, **options}


def size_axis(sizes: Sequence[int]) -> Spec:
    """Return the axis of batch sizes, with a tick for each."""
    axis = {"values": list(sizes), "format": ",d", "labelOverlap": "greedy", "grid": False}
    scale = {"type": "log", "nice": False, "padding": 22}
    return {"field": "place", "type": "quantitative", "title": _("batch size"), "axis": axis, "scale": scale}


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
    scale = {"type": kind or ("log" if spreads else "linear"), "nice": False, "padding": PADDING}
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
    """Return the axis of so many epochs: a tick never divides one."""
    scale = {"zero": False, "nice": False, "padding": 8}
    axis = {**whole_numbers(most), "grid": False}
    return {"field": "epoch", "type": "quantitative", "title": _("epoch"), "axis": axis, "scale": scale}


def whole_numbers(span: float) -> Spec:
    """Return the options of an axis on which no tick between whole numbers has a label, however near a reader zooms."""
    between = "datum.value % 1 ? '' : datum.label"
    return {"format": "d", "tickMinStep": 1, "tickCount": int(min(max(span, 1), 8)), "labelExpr": between}


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


# --- Lines along runs: a thin one a seed, a thick one a configuration, named at its end; levels across.


def thinned(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return at most so many rows of each line as can be told apart, the first and the last among them."""
    index, count = table.groupby(by).cumcount(), table.groupby(by)[by].transform("size")
    every = np.ceil(count / MOST_POINTS)
    return table[(index % every == 0) | (index == count - 1)]


def line_figure(
    name: str, title: str, caption: str, table: pd.DataFrame, layout: Layout, x: Spec, y: Spec,
    levels: Sequence[Level] = (), interpolate: str = "linear",
) -> Figure:  # fmt: skip
    """Draw the rows of kind `seed` and `median`, with a band from `low` to `high` around the latter, and `levels`."""
    table = table[np.isfinite(table[[x["field"], y["field"]]].astype(float)).all(axis=1)]
    layout = layout.of_panels(table["panel"])
    longest = max(len(shortened(name)) for name in table["configuration"].unique())
    is_single = len(layout.panels) < 2
    named = is_single and table["configuration"].nunique() <= MOST_NAMED and longest <= LONGEST_NAME
    single = table.groupby("configuration")[x["field"]].transform("size") == 1
    table = pd.concat([table, table[single].assign(kind="point")]) if single.any() else table
    kinds = [each for each in ("median", "seed", "point") if (table["kind"] == each).any()]
    log = [channel for channel, axis in (("x", x), ("y", y)) if (table[axis["field"]].astype(float) > 0).all()]
    layers = _lines(table, layout, x, y, color(layout.sizes, legend=not named), named, interpolate)
    names = pd.DataFrame()
    if named or (is_single and levels):
        names = _names_of(table[(table["kind"] == kinds[0]) & named], table, x["field"], y, levels)
        words = {"x": {"value": "width"}, "y": y, "text": {"field": "label"}}
        beside = {"align": "left", "dx": 5, "clip": False}
        layers.append(layer("text", "name", {**words, "color": color(layout.sizes)}, **beside, fontSize=12))
        layers.append(layer("text", "level", words, **beside))
        table = pd.concat([table, names])
    layers += _levels(levels, y, has_names=not is_single)
    spec = spec_of(layers, layout, x=x["field"], y=y["field"], log=log, kinds=kinds)
    if len(names):
        spec["width"] -= LETTER * max(map(len, names["label"]))
    return Figure(name, title, caption, table, spec)


def _lines(
    table: pd.DataFrame, layout: Layout, x: Spec, y: Spec, colors: Spec, named: bool, interpolate: str
) -> list[Spec]:
    dashes = told_apart(layout, "strokeDash", DASHES, **({"legend": None} if named else {}))
    detail = [{"field": name} for name in ("run", "configuration", "kind") if name in table]
    lines = {"x": x, "y": y, "color": colors, **dashes, "detail": detail}
    for channel, of_median, of_seed in (("strokeWidth", 2, 0.7), ("opacity", 1, 0.6)):
        is_median = {"test": "datum.kind == 'median'", "value": of_median}
        lines[channel] = {"condition": is_median, "value": of_seed}
    drawn = {"transform": [{"filter": "datum.kind == 'seed' || datum.kind == 'median'"}], "encoding": lines}
    layers = [{**drawn, "mark": {"type": "line", "interpolate": interpolate}}]
    if "low" in table and table["low"].notna().any():
        band = {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "fill": colors}
        band["detail"] = {"field": "configuration"}
        layers.insert(0, layer("area", "median", band, opacity=0.12))
    if (table["kind"] == "point").any():
        layers.append(layer("point", "point", {"x": x, "y": y, "color": colors}, filled=True, size=50))
    return layers


def _levels(levels: Sequence[Level], y: Spec, has_names: bool) -> list[Spec]:
    """Return a line across for every level, and its name unless it stands elsewhere: above the first, below others."""
    if not levels:
        return []
    rows = [
        {"level": float(f"{value:.6g}"), "label": name, "first": index == 0}
        for index, (value, name) in enumerate(levels)
    ]
    data, at = {"values": rows}, {"y": {**y, "field": "level"}}
    dash = {"condition": {"test": "datum.first", "value": [6, 4]}, "value": [2, 3]}
    above = {"baseline": {"expr": "datum.first ? 'bottom' : 'top'"}, "dy": {"expr": "datum.first ? -2 : 3"}}
    words = {**at, "x": {"value": "width"}, "text": {"field": "label"}}
    names = {"data": data, "mark": {"type": "text", "align": "right", "dx": -3, **above}, "encoding": words}
    return [{"data": data, "mark": "rule", "encoding": {**at, "strokeDash": dash}}, *([names] if has_names else [])]


def _names_of(lines: pd.DataFrame, drawn: pd.DataFrame, x: str, y: Spec, levels: Sequence[Level]) -> pd.DataFrame:
    """Return the names of lines at the heights of their ends, and those of levels among them, none over another."""
    last = lines.sort_values(x, kind="stable").groupby("configuration", sort=False).tail(1)
    field = y["field"]
    height, value_at = (math.log, math.exp) if y["scale"]["type"] == "log" else (float, float)
    # With their bands.
    values = drawn[[name for name in (field, "low", "high") if name in drawn]].astype(float).to_numpy().ravel()
    heights = [height(value) for value in (*values[np.isfinite(values)], *(value for value, _name in levels))]
    names = [{**row, "kind": "name", "label": shortened(row["configuration"])} for row in last.to_dict("records")]
    names += [{"kind": "level", "label": name, field: value} for value, name in levels]
    names.sort(key=lambda row: row[field])
    at = spread([height(row[field]) for row in names], (max(heights) - min(heights)) * LINE / (HEIGHT - 2 * PADDING))
    return pd.DataFrame([{**row, field: value_at(place)} for row, place in zip(names, at, strict=True)])


def spread(heights: Sequence[float], least: float) -> list[float]:
    """Return ascending heights moved apart, no farther than needed, until each is so much above the one before."""
    groups: list[list[float]] = []
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _above(groups[-2], least)[-1] + least > _above(groups[-1], least)[0]:
            groups[-2:] = [[*groups[-2], *groups[-1]]]
    return [place for group in groups for place in _above(group, least)]


def _above(group: Sequence[float], least: float) -> list[float]:
    """Return so many heights, one above the other, around the middle of those of a group."""
    lowest = sum(group) / len(group) - least * (len(group) - 1) / 2
    return [lowest + least * index for index in range(len(group))]
