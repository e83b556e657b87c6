"""Figures along runs: a thin line a seed, a thick one a configuration, named at its end; levels across."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from digits_sweep.report.layout import Layout
from digits_sweep.report.study import shortened
from digits_sweep.report.vega import DASHES, HEIGHT, Figure, Spec, color, layer, of_kind, spec_of, told_apart

# Lines of more configurations, or with longer names, have no names; a letter's width and height.
MOST_NAMED, LONGEST_NAME, LETTER, LINE = 6, 14, 6.5, 14
MOST_POINTS = 120
# A line across, with its name.
Level = tuple[float, str]


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
    longest = max(len(shortened(name)) for name in table["configuration"].unique())
    named = table["configuration"].nunique() <= MOST_NAMED and longest <= LONGEST_NAME and len(layout.panels) < 2
    single = table.groupby("configuration")[x["field"]].transform("size") == 1
    table = pd.concat([table, table[single].assign(kind="point")]) if single.any() else table
    kinds = [each for each in ("median", "seed", "point") if (table["kind"] == each).any()]
    log = [channel for channel, axis in (("x", x), ("y", y)) if (table[axis["field"]].astype(float) > 0).all()]
    layers = _lines(table, layout, x, y, color(layout.sizes, legend=not named), named, interpolate)
    if named:
        names = _names_of(table[table["kind"] == kinds[0]], table, x["field"], y, levels)
        words = {"x": {"value": "width"}, "y": y, "text": {"field": "label"}}
        beside = {"align": "left", "dx": 5, "clip": False}
        layers.append(layer("text", "name", {**words, "color": color(layout.sizes)}, **beside, fontSize=12))
        layers.append(layer("text", "level", words, **beside))
        table = pd.concat([table, names])
    layers += _levels(levels, y, has_names=not named)
    spec = spec_of(layers, layout, x=x["field"], y=y["field"], log=log, kinds=kinds)
    if named:
        spec["width"] -= LETTER * max(map(len, names["label"]))
    return Figure(name, title, caption, table, spec)


def _lines(
    table: pd.DataFrame, layout: Layout, x: Spec, y: Spec, colors: Spec, named: bool, interpolate: str
) -> list[Spec]:
    dashes = told_apart(layout, "strokeDash", DASHES, **({"legend": None} if named else {}))
    detail = [{"field": name} for name in ("run", "configuration", "kind") if name in table]
    lines = {"x": x, "y": y, "color": colors, **dashes, "detail": detail}
    lines |= {"strokeWidth": of_kind("median", 2, 0.7), "opacity": of_kind("median", 1, 0.6)}
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
    at = spread([height(row[field]) for row in names], (max(heights) - min(heights)) * LINE / HEIGHT)
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
