"""The figures of a sweep: each is one function that returns title, caption, text and a Vega-Lite specification.

A specification reads one table, called `table`: a row a mark, with the `run` or the `configuration` that it is of.
Colors are the custom properties of the page, so that a dark page has dark figures; a file has those of a light one.
`usermeta` says which fields a reader may read off, and which axes may be logarithmic.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from html import escape
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from digits_sweep.config.schema import softmax_floor
from digits_sweep.errors import escape_controls
from digits_sweep.report.sentences import never_predicted
from digits_sweep.report.statistics import estimate, explained, finished, groups_of, is_timed, trained
from digits_sweep.report.study import Study, costs, labels, level, odd_settings, shortened, telling_apart
from digits_sweep.report.tables import other_goals, to_another_goal
from digits_sweep.report.words import (
    _,
    capitalized,
    catalogue,
    language,
    listed,
    noun_of,
    number,
    rounded,
    seconds,
    short_seconds,
    up_to,
)
from digits_sweep.results.files import replace_file
from digits_sweep.results.record import Status

Spec = dict[str, Any]

# The version that notebooks know; newer ones read it too.
SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
MIME, VERSION = "application/vnd.vegalite.v5+json", "5.21"
INK, QUIET, GRID = "var(--ink)", "var(--quiet)", "var(--grid)"
SIZES, HEAT, SERIES = (
    [f"var(--{name}-{step})" for step in range(count)] for name, count in (("size", 12), ("heat", 8), ("series", 6))
)
# A figure of one panel is so many pixels wide with its axes, one of several panels spans the page.
NARROW, WIDE, AXIS, GAP = 560, 1160, 62, 44
HEIGHT = 230
# What makes a figure move under the mouse; one that is only drawn does without.
MOVES = {"name": "grid", "select": {"type": "interval", "zoom": "wheel![event.shiftKey]"}, "bind": "scales"}
# So many configurations of one batch size stand in one panel, told apart by shape or dashes.
MOST_VARIANTS = 3
MOST_LEVELS, MOST_PANELS = 6, 12
# A second factor is worth panels of its own only if it explains this share of what the batch size does not.
WORTH_A_PANEL = 0.01
# Of more configurations single seeds are not drawn beside their median, and lines have no names.
MOST_WITH_SEEDS, MOST_NAMED, LONGEST_NAME = 24, 6, 6
# Of more configurations a page leaves out what other figures say in other units.
MOST_WITH_ALL = 100
MOST_POINTS = 120
# An axis is logarithmic if its numbers spread over this factor.
LOGARITHMIC = 4
FEWEST_IN_A_MAP, FEWEST_LEVELS, MOST_IN_A_MAP = 7, 3, 40
MOST_MISSES = 24
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
    """A figure: what stands above it, below it, and in its place for who cannot see it; its table and specification."""

    name: str
    title: str
    caption: str
    text: str
    table: pd.DataFrame
    spec: Spec

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

        A mark shows its row under the mouse.
        """
        whole = self.whole()
        shown = {**whole["config"], "mark": {"tooltip": {"content": "data"}}}
        return colored(json.dumps({**whole, "config": shown}))

    def svg(self) -> str:
        """Draw it as an element of a page."""
        # Takes a tenth of a second, which a table need not wait for.
        import vl_convert

        still = json.dumps(self.whole()).replace(f', "params": [{json.dumps(MOVES)}]', "")
        drawing = WITHOUT_USE.sub("", vl_convert.vegalite_to_svg(still))
        drawing = PLACES.sub(lambda place: re.sub(r"(\d+\.\d)\d+", r"\1", place[0]), drawing)
        return drawing.replace("<svg", f'<svg role="img" aria-label="{escape(printable(self.text))}"', 1)

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
            "text/plain": f"{self.title}. {self.text}",
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
        "legend": {**ink, "orient": "top", "symbolStrokeColor": INK, "symbolBaseStrokeColor": INK, "labelLimit": 400},
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


def figures(study: Study) -> list[Figure]:
    """Return every figure that a sweep, or several in one, has something for: first the one that shows the verdict."""
    if study.critical:
        from digits_sweep.report.critical import critical_figures

        return critical_figures(study, study.critical)
    runs = trained(study.runs)
    if runs.empty:
        return []
    layout = layout_of(study)
    few = runs["configuration"].nunique() <= MOST_WITH_ALL
    to_goal = to_goal_figures(study, runs, layout, few)
    first = "seconds" if is_timed(runs) else "examples"
    to_goal.sort(key=lambda figure: figure.name != first)
    return [
        *to_goal[:1],
        *loss_figures(study, runs, layout, few),
        *to_goal[1:],
        *map_figures(study, runs, layout),
        *evaluation_figures(study, runs, layout),
        *target_figures(study, layout),
        *time_figures(runs, layout),
        *reached_figures(study, runs, layout),
        *prediction_figures(study, runs),
    ]


# --- Layout: a color a batch size, a panel or a shape for whatever else tells configurations apart.


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

    def join(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return a table with the columns of the layout for its `configuration`."""
        return table.drop(columns=[name for name in self.of if name in table]).join(self.of, on="configuration")


def factors_of(runs: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Return what tells configurations apart, what explains most first: the value of every configuration by name."""
    sweeps = ["sweep"] if "sweep" in runs else []
    names = telling_apart(runs, within=sweeps)
    words = labels(names)
    first = runs.drop_duplicates("configuration").set_index("configuration")

    def values(name: str) -> dict[str, str]:
        column = first[name]
        order = column.dropna().sort_values() if pd.api.types.is_numeric_dtype(column) else column.dropna()
        texts = {value: str(value) if name == "sweep" else level(name, words[name], value) for value in order}
        ordered = [*order.index, *column.index[column.isna()]]
        return {str(each): texts.get(column[each], _("not set")) for each in ordered}

    names.sort(key=lambda name: -explained(runs, runs[name]))
    factors = {name: values(name) for name in [*sweeps, *names]}
    return {name: own for name, own in factors.items() if len(set(own.values())) > 1}


@lru_cache(maxsize=4)
def layout_of(study: Study) -> Layout:
    """Return the layout of the runs of a study that trained."""
    runs = trained(study.runs)
    factors = factors_of(runs)
    first = runs.drop_duplicates("configuration").set_index("configuration")
    sizes = first["batch_size"].astype(int)
    variant = {name: ", ".join(each[str(name)] for each in factors.values()) for name in first.index}
    variants = _ordered(variant, factors)
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


def color(sizes: Sequence[int], legend: bool = False) -> Spec:
    """Give every batch size its color, the smallest the darkest, as in all figures of a page."""
    steps = [round(index * (len(SIZES) - 1) / max(len(sizes) - 1, 1)) for index in range(len(sizes))]
    scale = {"domain": list(sizes), "range": [SIZES[step] for step in steps]}
    keys = (
        {"title": _("batch size"), "symbolType": "stroke", "symbolOpacity": 1, "symbolStrokeWidth": 2}
        if legend and len(sizes) > 1
        else None
    )
    return {"field": "batch_size", "type": "ordinal", "scale": scale, "legend": keys}


def told_apart(layout: Layout, channel: str, values: list[Any]) -> Spec:
    """Return the encoding that tells variants apart; nothing if there is one."""
    if len(layout.variants) < 2:
        return {}
    scale = {"domain": layout.variants, "range": values[: len(layout.variants)]}
    return {channel: {"field": "variant", "type": "nominal", "title": None, "scale": scale}}


SHAPES, DASHES = ["circle", "square", "triangle-up"], [[1, 0], [6, 3], [2, 3]]


def size_axis(sizes: Sequence[int], field: str = "place") -> Spec:
    """Return the axis of batch sizes, with a tick for each."""
    axis = {"values": list(sizes), "format": ",d", "labelOverlap": "greedy", "grid": False}
    scale = {"type": "log", "nice": False, "padding": 22}
    return {"field": field, "type": "quantitative", "title": _("batch size"), "axis": axis, "scale": scale}


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
    own = {"format": form, "tickCount": 5, "labelOverlap": "greedy", **axis}
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


def of_kind(kind: str, value: Any, otherwise: Any) -> Spec:
    """Return the encoding that gives rows of a kind one value, and the others another."""
    return {"condition": {"test": f"datum.kind == '{kind}'", "value": value}, "value": otherwise}


def open_if_missed() -> Spec:
    """Return the encoding of a mark that is open if its run missed the goal."""
    return {"condition": {"test": "datum.missed", "value": 0}, "value": 1}


# --- Against the batch size.


def to_goal_figures(study: Study, runs: pd.DataFrame, layout: Layout, few: bool) -> list[Figure]:
    """Return examples, seconds, iterations and epochs to the goal; none if no run arrived."""
    noun, goal = noun_of(runs), study.goal
    iterations = runs["epochs"] * runs["iterations_per_epoch"]
    kinds: list[tuple[str, str, pd.Series, Callable[[float], str], str, str]] = [
        (
            "examples", "examples_to_goal", runs["epochs"] * runs["train_samples"], rounded,
            up_to(noun, goal), _("The same on every machine."),
        ),
        (
            "seconds", "seconds_to_goal", runs["epochs"] * runs["seconds_per_epoch"], seconds,
            up_to(_("seconds"), goal),
            _("These iterations at what one costs at this batch size, the median over its runs."),
        ),
        (
            "iterations", "iterations_to_goal", iterations, rounded, up_to(_("iterations"), goal),
            _(
                "Dotted: perfect scaling, by which twice the batch size needs half the iterations (Shallue et al. "
                "2019)."
            ),
        ),
        (
            "epochs", "first_epoch_below_threshold", runs["epochs"], number, _("first epoch below the threshold"),
            _("The first epoch with a mean loss below it."),
        ),
    ]  # fmt: skip
    return [
        against_batch_size(runs, runs["run_dir"].isin(finished(study)["run_dir"]), layout, *kind)
        for kind in kinds
        if runs[kind[1]].notna().any() and (few or kind[0] != "epochs")
    ]


def against_batch_size(
    runs: pd.DataFrame, has_ended: pd.Series, layout: Layout, name: str, column: str, otherwise: pd.Series | None,
    write: Callable[[float], str], label: str, caption: str,
) -> Figure:  # fmt: skip
    """Draw a mark a run, and of several seeds their median with its interval; open: missed, at what it had trained."""
    value = runs[column].astype("Float64")
    missed = value.isna() & has_ended & runs["reached"].notna() & (otherwise is not None)
    drawn = value if otherwise is None else value.fillna(otherwise.astype("Float64").where(missed))
    table = runs[["run_dir", "configuration"]].rename(columns={"run_dir": "run"})
    table = table.assign(kind="run", value=drawn, missed=missed)[drawn.notna()]
    medians = [row for configuration, own in table.groupby("configuration", sort=False) if len(own) > 1
               for row in [_median_mark(str(configuration), own)]]  # fmt: skip
    several = bool(medians)
    table = table if not several or len(medians) <= MOST_WITH_SEEDS else table[[False] * len(table)]
    table = layout.join(pd.concat([table, pd.DataFrame(medians)]) if several else table)
    if name == "iterations":
        table = pd.concat([table, pd.DataFrame(_perfect_scaling(runs, layout))])
    form = {rounded: "~s", number: "d"}.get(write, ",.4~r")
    x, y = size_axis(layout.sizes), amount("value", label, plain(table["value"].astype(float)), form)
    if write is number:
        y["axis"] |= {"tickMinStep": 1}
    colors = color(layout.sizes)
    both = {"x": x, "y": y, "color": colors, "fill": colors, **told_apart(layout, "shape", SHAPES)}
    points = {**both, "fillOpacity": open_if_missed()}
    layers = [
        layer("point", "run", points, size=22 if several else 70, strokeWidth=1.5, opacity=0.6 if several else 1),
        layer("rule", "median", {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": colors}, size=2),
        layer("point", "median", points, size=80, strokeWidth=1.5),
    ][: 3 if several else 1]
    if (table["note"].fillna("") != "").any():
        # On the side that has room.
        is_right = f"datum.place > {math.sqrt(layout.sizes[0] * layout.sizes[-1]):g}"
        beside = {"align": {"expr": f"{is_right} ? 'right' : 'left'"}, "dx": {"expr": f"{is_right} ? -10 : 10"}}
        words = {"x": x, "y": y, "text": {"field": "note"}}
        layers.append(layer("text", "median" if several else "run", words, **beside))
    if name == "iterations":
        layers.append(layer("line", "perfect", {"x": x, "y": y}, strokeDash=[2, 3], color=QUIET, strokeWidth=1.2))
    caption = " ".join([caption, *_signs(table, several)])
    text = _("{title}: {ends}.", title=capitalized(label), ends=_ends_of(runs, column, write))
    spec = spec_of(layers, layout, x="place", y="value", log=["x", "y"], kinds=["median", "run"])
    return Figure(name, capitalized(label), caption, text, table, spec)


def _signs(table: pd.DataFrame, several: bool) -> list[str]:
    """Explain the signs that a figure has."""
    bars = [_("Bars: the interval of the median over the seeds.")] if several else []
    is_open = [_("Open: not reached, drawn where the run ended.")] if table["missed"].fillna(False).any() else []
    return [*bars, *is_open]


def _ends_of(runs: pd.DataFrame, column: str, write: Callable[[float], str]) -> str:
    """Name the least and the greatest median of a figure, and how many configurations have none."""
    values = runs.groupby("configuration", sort=False)[column].median().dropna().astype(float)
    missing = runs["configuration"].nunique() - len(values)
    parts = []
    if len(values):
        least, most = str(values.idxmin()), str(values.idxmax())
        parts.append(_("least {value} ({name})", value=write(values[least]), name=least))
        if least != most:
            parts.append(_("most {value} ({name})", value=write(values[most]), name=most))
    if missing:
        parts.append(_("not reached by {count}", count=missing))
    return "; ".join([*parts, _("all numbers are in the tables")])


def _median_mark(configuration: str, own: pd.DataFrame) -> Spec:
    """Return the median of a configuration's runs with its interval; an end that is missed is the most that it had."""
    most = float(own["value"].max())
    values = [math.inf if missed else value for value, missed in zip(own["value"], own["missed"], strict=True)]
    found = estimate(list(map(float, values)))
    middle, low, high = (most if math.isinf(each) else each for each in (found.median, found.low, found.high))
    ends = {"value": middle, "low": low, "high": high, "missed": math.isinf(found.median)}
    return {"configuration": configuration, "kind": "median", **ends}


def _perfect_scaling(runs: pd.DataFrame, layout: Layout) -> list[Spec]:
    """Return the ends of the lines along which twice the batch size needs half the iterations, a line a panel.

    It starts at the smallest batch size that is trained with the usual settings, if there are usual ones: with other
    rates it scales otherwise.
    """
    reached = layout.join(runs.dropna(subset=["iterations_to_goal"])[["configuration", "iterations_to_goal"]])
    ends = []
    usual = reached[~reached["is_odd"]] if not reached["is_odd"].all() else reached
    for panel, own in usual.groupby("panel"):
        least, most = own["batch_size"].min(), own["batch_size"].max()
        if least < most:
            first = own[own["batch_size"] == least]
            start = float(first.groupby("configuration")["iterations_to_goal"].median().min())
            ends += [
                {"kind": "perfect", "panel": panel, "place": float(size), "value": start * least / size}
                for size in (least, most)
            ]
    return ends


def time_figures(runs: pd.DataFrame, layout: Layout) -> Iterator[Figure]:
    """Yield the seconds of an epoch, and their two parts if several batch sizes were timed alike."""
    if runs["seconds_per_epoch"].notna().any():
        caption = _("Of a run: the median of its epochs without the first.")
        has_ended = pd.Series(False, index=runs.index)
        yield against_batch_size(
            runs,
            has_ended,
            layout,
            "seconds-epoch",
            "seconds_per_epoch",
            None,
            seconds,
            _("seconds per epoch"),
            caption,
        )
    found = costs(runs)
    if found is None:
        return
    words = {"examples": _("for its examples"), "iterations": _("for its iterations")}
    parts = found.parts[list(words)].rename(columns=words)
    bars = parts.reset_index(names="batch_size").melt("batch_size", var_name="part", value_name="seconds")
    measured = found.parts["measured"].reset_index(name="seconds").rename(columns={"index": "batch_size"})
    table = pd.concat([bars.assign(kind="part"), measured.assign(kind="measured", part=_("measured"))])
    x = {"field": "batch_size", "type": "ordinal", "title": _("batch size"), "axis": {"labelAngle": 0, "format": ",d"}}
    y = {"field": "seconds", "type": "quantitative", "title": _("seconds per epoch"), "axis": {"tickCount": 5}}
    scale = {"domain": list(words.values()), "range": SERIES[:2]}
    shades = {"field": "part", "type": "nominal", "title": None, "scale": scale, "legend": {"symbolType": "square"}}
    layers = [
        layer("bar", "part", {"x": x, "y": {**y, "stack": "zero"}, "color": shades}),
        layer("tick", "measured", {"x": x, "y": y}, color=INK, thickness=2),
    ]
    text = _(
        "Fitted: {iteration} for every iteration and {example} for every example.",
        iteration=short_seconds(found.seconds_per_iteration), example=short_seconds(found.seconds_per_example),
    )  # fmt: skip
    yield Figure("cost", _("Where an epoch's seconds go"), text + " " + _("Line: as measured."), text, table,
                 spec_of(layers, None))  # fmt: skip


def target_figures(study: Study, layout: Layout) -> Iterator[Figure]:
    """Yield the examples to each of several targets, a color a target."""
    others = other_goals(study)
    if not others:
        return
    noun = noun_of(study.runs)
    groups = {group.configuration: group.examples_to_goal for group in groups_of(study)}
    goals = {str(goal): to_another_goal(study, goal) for goal in others}
    if not study.goal.problem:
        goals = {str(study.goal): groups, **goals}
    rows = [
        {"configuration": name, "kind": "median", "target": goal, "value": found.median, "low": found.low,
         "high": found.high if math.isfinite(found.high) else found.median}
        for goal, estimates in goals.items() for name, found in estimates.items() if math.isfinite(found.median)
    ]  # fmt: skip
    if not rows:
        return
    table = layout.join(pd.DataFrame(rows))
    x, y = size_axis(layout.sizes), amount("value", _("{noun} trained on", noun=noun), table["value"], "~s")
    scale = {"domain": list(goals), "range": SERIES[: len(goals)]}
    shades = {"field": "target", "type": "nominal", "title": None, "scale": scale}
    layers = [
        layer("rule", "median", {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": shades}, size=2),
        layer("point", "median", {"x": x, "y": y, "color": shades, **told_apart(layout, "shape", SHAPES)}, size=80,
              filled=True),
    ]  # fmt: skip
    title = _("{things} to every target", things=capitalized(noun))
    text = _("{title}: {targets}; all numbers are in the tables.", title=title, targets=listed(goals))
    caption = _("Medians over the seeds with their intervals; a target that was not reached has no mark.")
    yield Figure("targets", title, caption, text, table,
                 spec_of(layers, layout, x="place", y="value", log=["x", "y"], kinds=["median"]))  # fmt: skip


def map_figures(study: Study, runs: pd.DataFrame, layout: Layout) -> Iterator[Figure]:
    """Yield maps of the median examples to the goal by batch size and factor, if there are too many for marks."""
    groups = groups_of(study)
    factors = {name: values for name, values in layout.factors.items() if name != "sweep"}
    wanted = [name for name, values in factors.items() if FEWEST_LEVELS <= len(set(values.values())) <= MOST_IN_A_MAP]
    things = capitalized(up_to(noun_of(runs), study.goal))
    for index, name in enumerate(wanted[:2] if len(groups) >= FEWEST_IN_A_MAP else ()):
        levels = factors[name]
        cells = pd.DataFrame(
            [(group.batch_size, levels[group.configuration], group.examples_to_goal.median) for group in groups],
            columns=["batch_size", "level", "examples"],
        )
        table = cells.groupby(["batch_size", "level"], sort=False)["examples"].median().reset_index()
        if not np.isfinite(table["examples"]).any():
            continue
        table = table.assign(kind="cell", label=[_in_short(value) for value in table["examples"]])
        table["examples"] = table["examples"].where(np.isfinite(table["examples"]))
        label = labels([name])[name]
        order = list(dict.fromkeys(levels.values()))
        x = {
            "field": "batch_size",
            "type": "ordinal",
            "title": _("batch size"),
            "axis": {"labelAngle": 0, "format": ",d"},
        }
        y = {"field": "level", "type": "nominal", "title": None, "sort": order, "axis": {"labelLimit": 200}}
        # Steps, because Vega cannot mix two custom properties.
        shade = {"type": "quantile", "range": HEAT}
        fill = {"field": "examples", "type": "quantitative", "scale": shade, "legend": None}
        layers = [
            layer("rect", "cell", {"x": x, "y": y, "color": fill}),
            layer("text", "cell", {"x": x, "y": y, "text": {"field": "label"}}),
        ]
        caption = _(
            "Medians over all else; {share:.0%} of the differences within a batch size lie between the values of "
            "{label}. A dash: half of the runs or more did not get there.",
            share=explained(runs, runs[name]), label=label,
        )  # fmt: skip
        title = _("{things} by batch size and {label}", things=things, label=label)
        text = _("{title}: {ends}.", title=title, ends=_ends_of(runs, "examples_to_goal", rounded))
        yield Figure(f"heat-{index}", title, caption, text, table, spec_of(layers, None, max(28 * len(order), 90)))


def _in_short(count: float) -> str:
    if not math.isfinite(count):
        return "\u2013"
    return rounded(count) if count < 10_000 else f"{rounded(float(f'{count / 1000:.3g}'))}k"


# --- Along the runs.


def loss_floor(runs: pd.DataFrame) -> float:
    """Return what the loss of these runs cannot fall below: 1.4612 behind a softmax of ten classes, 0 without one.

    Runs with several numbers of classes have that of the fewest.
    """
    if runs["model"].dropna().str.endswith("logits").any():
        return 0.0
    column = runs.get("model.num_classes", pd.Series(dtype=str))
    classes = [int(each) for each in column.dropna().unique() if str(each).isdigit() and int(each) > 1]
    return softmax_floor(min(classes, default=10))


def loss_figures(study: Study, runs: pd.DataFrame, layout: Layout, few: bool) -> Iterator[Figure]:
    """Yield the mean loss of every epoch against epochs, and against the seconds that they took."""
    history = study.history[study.history["run_dir"].isin(runs["run_dir"])]
    if not np.isfinite(history["loss_mean"]).any():
        return
    floor = loss_floor(runs)
    table = layout.join(losses_of(history, floor, runs["configuration"].nunique()))
    table = table if few else table.drop(columns="seconds")
    levels = [(float(each), _("threshold {value:g}", value=each)) for each in runs["loss_threshold"].dropna().unique()]
    levels += [(floor, _("floor {value:.4f}", value=floor))] if floor else []
    final = runs.groupby("configuration", sort=False)["final_loss"].median().dropna().astype(float)
    ends = "; ".join(
        _("{name} ends at {loss:.4f}", name=name, loss=value)
        for name, value in (final.items() if len(final) <= MOST_NAMED else [(final.idxmin(), final.min())])
    )
    caption = _lines_caption(table)
    if floor:
        sentence = _("With the softmax, the loss cannot fall below the floor, {floor:.4f}.", floor=floor)
        caption = f"{caption} {sentence}"
    x = epochs_axis(float(table["epoch"].max() - table["epoch"].min()))
    text = _("Mean loss of every epoch: {ends}; all numbers are in the tables.", ends=ends)
    yield line_figure("loss-epoch", _("Loss against epoch"), caption, text, table, layout, x,
                      amount("loss", _("mean loss of the epoch")), levels)  # fmt: skip
    if few:
        text = _("Mean loss against the seconds trained: {ends}; all numbers are in the tables.", ends=ends)
        yield line_figure(
            "loss-seconds", _("Loss against seconds"),
            _("The same losses, against the seconds that their epochs took."), text, table, layout,
            amount("seconds", _("seconds of training"), grid=False),
            amount("loss", _("mean loss of the epoch")), levels,
        )  # fmt: skip


def _lines_caption(table: pd.DataFrame) -> str:
    kinds = set(table["kind"])
    if "seed" in kinds:
        lines = _("Thin: every seed; thick: their median.")
    else:
        lines = _("A line a configuration, the median of its seeds.")
    band = _("Band: one standard deviation over an epoch's iterations.") if table["low"].notna().any() else ""
    return f"{lines} {band}".strip()


def losses_of(history: pd.DataFrame, floor: float, configurations: int) -> pd.DataFrame:
    """Return a row a point of a line: of every seed if they are few, and of their median, with its band.

    The median ends with the shortest run: after it that of the others would be another configuration's. The band is one
    standard deviation of the iterations' losses, and ends at the floor.
    """
    seeds = history.assign(seconds=history.groupby("run_dir")["seconds"].cumsum())
    seeds = seeds.rename(columns={"run_dir": "run", "loss_mean": "loss"})
    counts = seeds.groupby("configuration")["run"].nunique()
    grouped = seeds.groupby(["configuration", "epoch"], sort=False)
    median = grouped[["seconds", "loss", "loss_std"]].median().reset_index()
    complete = grouped.size().to_numpy() == counts.reindex(median["configuration"]).to_numpy()
    median = thinned(median[complete].assign(kind="median"), "configuration")
    if configurations <= MOST_NAMED:
        low, high = (median["loss"] - median["loss_std"]).clip(lower=floor), median["loss"] + median["loss_std"]
        median = median.assign(low=low, high=high)
    else:
        median = median.assign(low=np.nan, high=np.nan)
    tables = [median]
    if counts.max() > 1 and configurations <= MOST_WITH_SEEDS:
        tables.insert(0, thinned(seeds.assign(kind="seed"), "run"))
    names = ["run", "configuration", "kind", "epoch", "seconds", "loss", "low", "high"]
    return pd.concat(tables).reindex(columns=names)


def thinned(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return at most so many rows of each line as can be told apart, the first and the last among them."""
    index, count = table.groupby(by).cumcount(), table.groupby(by)[by].transform("size")
    every = np.ceil(count / MOST_POINTS)
    return table[(index % every == 0) | (index == count - 1)]


def line_figure(
    name: str, title: str, caption: str, text: str, table: pd.DataFrame, layout: Layout, x: Spec, y: Spec,
    levels: Sequence[tuple[float, str]] = (), interpolate: str = "linear",
) -> Figure:  # fmt: skip
    """Draw a thin line a seed and a thick one a configuration, named at its end if they are few; levels across."""
    table = table[np.isfinite(table[[x["field"], y["field"]]].astype(float)).all(axis=1)]
    longest = max(len(shortened(name)) for name in table["configuration"].unique())
    named = table["configuration"].nunique() <= MOST_NAMED and longest <= LONGEST_NAME
    # Room for the names, which end with the panel.
    x = {**x, "scale": {**x["scale"], "padding": 8 + 9 * longest}} if named else x
    colors = color(layout.sizes, legend=not named)
    dashes = told_apart(layout, "strokeDash", DASHES)
    single = table.groupby("configuration")[x["field"]].transform("size") == 1
    both = {"x": x, "y": y, "color": colors, "detail": {"field": "configuration"}, **dashes}
    layers = []
    if "low" in table and table["low"].notna().any():
        area = {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "fill": colors,
                "detail": {"field": "configuration"}}  # fmt: skip
        layers.append(layer("area", "median", area, opacity=0.12))
    lines = {**both, "detail": [{"field": name} for name in ("run", "configuration", "kind") if name in table]}
    lines |= {"strokeWidth": of_kind("median", 2, 0.7), "opacity": of_kind("median", 1, 0.6)}
    drawn = {"transform": [{"filter": "datum.kind == 'seed' || datum.kind == 'median'"}], "encoding": lines}
    layers.append({**drawn, "mark": {"type": "line", "interpolate": interpolate}})
    if single.any():
        table = pd.concat([table, table[single].assign(kind="point")])
        layers.append(layer("point", "point", {"x": x, "y": y, "color": colors}, filled=True, size=50))
    names = _names_of(table, x["field"], y, levels) if named else pd.DataFrame()
    if len(names):
        table = pd.concat([table, names])
        words = {"x": x, "y": y, "text": {"field": "label"}, "color": colors}
        layers.append(layer("text", "name", words, align="left", dx=5, fontSize=12))
    layers += _levels(levels, y)
    kinds = ["median", "seed"] if (table["kind"] == "median").any() else ["seed"]
    log = [channel for channel, axis in (("x", x), ("y", y)) if (table[axis["field"]].astype(float) > 0).all()]
    spec = spec_of(layers, layout, x=x["field"], y=y["field"], log=log, kinds=[*kinds, "point"])
    return Figure(name, title, caption, text, table, spec)


def _levels(levels: Sequence[tuple[float, str]], y: Spec) -> list[Spec]:
    """Return a line across for every level, with its name at the right: above the first, below the others."""
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
    return [
        {"data": data, "mark": "rule", "encoding": {**at, "strokeDash": dash}},
        {"data": data, "mark": {"type": "text", "align": "right", "dx": -3, **above}, "encoding": words},
    ]


def _names_of(table: pd.DataFrame, x: str, y: Spec, levels: Sequence[tuple[float, str]]) -> pd.DataFrame:
    """Return the names of lines at their ends, none over another in its panel."""
    lines = table[table["kind"].isin(["median", "point"])] if (table["kind"] == "median").any() else table
    last = lines.sort_values(x, kind="stable").groupby("configuration", sort=False).tail(1)
    field = y["field"]
    is_log = y["scale"]["type"] == "log"
    values = [*table[field].dropna().astype(float), *(value for value, name in levels)]
    heights = [math.log(value) if is_log else value for value in values if not is_log or value > 0]
    least = (max(heights) - min(heights)) * 14 / HEIGHT if heights else 0.0
    rows = []
    for panel, own in last.groupby("panel", sort=False):
        ordered = own.sort_values(field)
        at = [math.log(value) if is_log else value for value in ordered[field].astype(float)]
        for row, height in zip(ordered.to_dict("records"), spread(at, least), strict=True):
            at_height = math.exp(height) if is_log else height
            rows.append(
                {**row, "kind": "name", field: at_height, "label": shortened(row["configuration"]), "panel": panel}
            )
    # The names of a panel stand below one another, whatever the length of their lines.
    return pd.DataFrame(rows)


def spread(heights: Sequence[float], least: float) -> list[float]:
    """Return ascending heights moved apart so far that each is at least so much above the one before."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + least) if moved else height)
    excess = moved[-1] - heights[-1] if moved else 0.0
    return [height - excess / 2 for height in moved]


def evaluation_figures(study: Study, runs: pd.DataFrame, layout: Layout) -> Iterator[Figure]:
    """Yield the loss at frozen weights and the gradient noise scale, if runs were evaluated."""
    rows = study.evaluations[study.evaluations["run_dir"].isin(runs["run_dir"])]
    if rows.empty:
        return
    noun = noun_of(runs)
    table = thinned(rows.rename(columns={"run_dir": "run"}), "run").assign(kind="seed", low=np.nan, high=np.nan)
    table = layout.join(table[["run", "configuration", "kind", "examples", "train_loss", "noise_scale", "low", "high"]])
    x = amount("examples", _("{noun} trained on", noun=noun), form="~s", grid=False)
    levels = [(float(each), _("threshold {value:g}", value=each)) for each in runs["loss_threshold"].dropna().unique()]
    by_run = _("A line a run: no step is taken while it is measured.")
    title = _("Loss at frozen weights against {noun}", noun=noun)
    text = _("{title}; all numbers are in the tables.", title=title)
    y = amount("train_loss", _("loss at frozen weights"))
    # A loop of the user's own may measure its errors alone.
    if np.isfinite(table["train_loss"]).any():
        yield line_figure("frozen-loss", title, by_run, text, table.drop(columns="noise_scale"), layout, x, y, levels)
    # An estimate of |G|^2 from few examples may be 0 or below, and then there is no noise scale.
    measured = table[table["noise_scale"] > 0]
    if len(measured):
        title = _("Gradient noise scale against {noun}", noun=noun)
        caption = _(
            "tr(Sigma) / |G|^2 (McCandlish et al. 2018): it has no single value, because it grows as the loss falls."
        )
        text = _("{title}; all numbers are in the tables.", title=title)
        y = amount("noise_scale", _("gradient noise scale"), measured["noise_scale"])
        yield line_figure("noise-scale", title, caption, text, measured, layout, x, y)


def reached_figures(study: Study, runs: pd.DataFrame, layout: Layout) -> Iterator[Figure]:
    """Yield the share of the runs below the threshold by every epoch, if a configuration has several runs."""
    ends = finished(study)
    counts = ends.groupby("configuration").size()
    if not (counts > 1).any() or ends["first_epoch_below_threshold"].isna().all():
        return
    rows: list[Spec] = []
    last = int(ends["epochs"].max())
    for name, own in ends.groupby("configuration", sort=False):
        epochs = sorted(int(epoch) for epoch in own["first_epoch_below_threshold"].dropna())
        steps = [(0, 0.0), *((epoch, (rank + 1) / len(own)) for rank, epoch in enumerate(epochs))]
        rows += [
            {"run": None, "configuration": name, "kind": "median", "epoch": epoch, "share": share}
            for epoch, share in (*steps, (last, steps[-1][1]))
        ]
    y = amount("share", _("share of the runs"), form="%")
    text = _("The share of the runs below the threshold by every epoch; all numbers are in the tables.")
    caption = _("The share of the runs that have been below the threshold by an epoch.")
    yield line_figure("reached", _("Runs below the threshold"), caption, text, layout.join(pd.DataFrame(rows)), layout,
                      epochs_axis(last), y, interpolate="step-after")  # fmt: skip


def prediction_figures(study: Study, runs: pd.DataFrame) -> Iterator[Figure]:
    """Yield what the runs that missed the threshold predict, if any did."""
    ends = finished(study)
    missed = ends.loc[ends["first_epoch_below_threshold"].isna() & (ends["status"] != Status.DIVERGED.value), "run_dir"]
    predictions = study.predictions[study.predictions.index.isin(missed)]
    if predictions.empty:
        return
    shown = predictions.head(MOST_MISSES)
    table = shown.rename_axis("run").reset_index().melt("run", var_name="class", value_name="count").dropna()
    table = table.assign(kind="cell", never=table["count"] == 0, **{"class": table["class"].astype(str)})
    classes = [str(each) for each in shown.columns]
    x = {"field": "class", "type": "ordinal", "title": _("predicted class, and number of test digits"),
         "sort": classes, "axis": {"labelAngle": 0}}  # fmt: skip
    y = {"field": "run", "type": "nominal", "title": None, "sort": list(shown.index), "axis": {"labelLimit": 170}}
    shade = {"field": "count", "type": "quantitative", "legend": None, "scale": {"type": "quantize", "range": HEAT}}
    frame = {"condition": {"test": "datum.never", "value": SERIES[1]}, "value": None}
    layers = [
        layer("rect", "cell", {"x": x, "y": y, "color": shade, "stroke": frame}, strokeWidth=2),
        layer("text", "cell", {"x": x, "y": y, "text": {"field": "count"}}),
    ]
    caption = _("Predictions on the test digits; framed: a digit that is never predicted.")
    if len(predictions) > MOST_MISSES:
        caption += " " + _("The first {count} of {all}.", count=MOST_MISSES, all=len(predictions))
    never = {str(name): never_predicted(counts.dropna()) for name, counts in shown.iterrows()}
    text = "; ".join(
        _("{run} never predicts {classes}", run=name, classes=listed(found))
        if found
        else _("{run} predicts every class", run=name)
        for name, found in never.items()
    )
    title = _("Predictions of the runs that missed the threshold")
    yield Figure("misses", title, caption, f"{text}.", table, spec_of(layers, None, max(30 * len(shown), 60)))
