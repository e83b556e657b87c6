"""How certain a share, a median or a difference is, as text and as a figure; what the three analyses here share."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import vl_convert
from scipy.stats import binom, binomtest

from digits_sweep import DigitsSweepError, load_sweep
from digits_sweep.results.record import Status

CONFIDENCE = 0.95
BLUE, ORANGE, INK, GRID = "#0072b2", "#c44e00", "#1b1b1b", "#d9d9d6"
CONFIG = {
    "background": None, "font": "sans-serif", "view": {"stroke": None},
    "axis": {"labelColor": INK, "titleColor": INK, "titleFontWeight": "normal", "gridColor": GRID, "labelLimit": 400},
    "header": {"labelColor": INK, "labelAnchor": "start"},
}  # fmt: skip

Spec = dict[str, Any]


@dataclass(frozen=True)
class Share:
    """Something holds for `hits` of `runs`, at least one."""

    hits: int
    runs: int

    @property
    def interval(self) -> tuple[float, float]:
        """The exact 95 % interval of the true share (Clopper and Pearson 1934)."""
        low, high = binomtest(self.hits, self.runs).proportion_ci(CONFIDENCE, method="exact")
        return float(low), float(high)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.hits} of {self.runs} ({100 * low:.0f} to {high:.0%})".replace("%", " %")


@dataclass(frozen=True)
class Median:
    """The median of some values, and the interval between two of them that contains the true median."""

    value: float
    low: float
    high: float


def median_of(values: Sequence[float]) -> Median:
    """Return the median of `values`, at least one, with a 95 % interval; below 6 values their whole range.

    The interval from the k-th smallest to the k-th largest of n values contains the true median with probability
    1 - 2 P(X < k), X ~ B(n, 1/2) (David and Nagaraja, Order Statistics, 2003, section 7.1): the largest such k.
    """
    ordered, count = sorted(values), len(values)
    ranks = [rank for rank in range(1, count // 2 + 1) if 1 - 2 * binom.cdf(rank - 1, count, 0.5) >= CONFIDENCE]
    rank = max(ranks, default=1)
    return Median(float(pd.Series(ordered).median()), ordered[rank - 1], ordered[count - rank])


def rate_text(rate: float) -> str:
    """Return a learning rate or a weight decay as text: `1e-3`, `2.2361e-5`."""
    mantissa, exponent = f"{rate:.4e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def read_arguments(description: str) -> tuple[Path, Path | None]:
    """Return the sweep's folder, and the file for the figure if the command line names one."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("sweep", type=Path, help="the folder of a recorded sweep")
    parser.add_argument("figure", type=Path, nargs="?", help="the SVG file to draw the figure into")
    arguments = parser.parse_args()
    return arguments.sweep, arguments.figure


def ended_runs(sweep: Path) -> pd.DataFrame:
    """Return `load_sweep`'s table of the runs that ended: of the others it is unknown what they would have reached.

    Raises SystemExit with the reason if the folder is no sweep's.
    """
    try:
        runs = load_sweep(sweep)
    except DigitsSweepError as error:
        sys.exit(str(error))
    return runs[runs["status"].isin([status.value for status in Status if status.has_ended])]


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table in Markdown."""
    for cells in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(map(str, cells))} |")


def intervals(rows: Sequence[tuple[str, Median]], title: str, zero: bool) -> Spec:
    """Draw a row for every named median or share with its interval.

    With `zero` there is a line at 0, and an interval that is clear of it has another color.
    """
    names, medians = zip(*rows, strict=True)
    values = [{"row": place, **vars(median)} for place, median in enumerate(medians)]
    # By its place, because two rows may have one name.
    axis = {"grid": False, "labelExpr": f"{json.dumps(names)}[datum.value]"}
    contains_zero = "datum.low <= 0 && datum.high >= 0" if zero else "true"
    x = {"field": "low", "type": "quantitative", "title": title}
    encoding = {
        "y": {"field": "row", "type": "ordinal", "title": None, "axis": axis},
        "color": {"condition": {"test": contains_zero, "value": BLUE}, "value": ORANGE},
    }
    layers: list[Spec] = [
        {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": encoding | {"x": x, "x2": {"field": "high"}}},
        {
            "mark": {"type": "point", "filled": True, "opacity": 1, "size": 60},
            "encoding": encoding | {"x": {**x, "field": "value"}},
        },
    ]
    if zero:
        layers.append({"mark": {"type": "rule", "color": INK}, "encoding": {"x": {"datum": 0}}})
    return {"width": 380, "height": {"step": 24}, "data": {"values": values}, "layer": layers}


def draw(spec: Spec, path: Path) -> None:
    """Write the figure of a Vega-Lite specification as SVG. Raises ValueError if it is no specification."""
    path.write_text(vl_convert.vegalite_to_svg(json.dumps(spec | {"config": CONFIG})), encoding="utf-8")
