"""How certain a share or a difference is, as text and as a figure; what the three analyses here share."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from digits_sweep import DigitsSweepError, load_sweep
from digits_sweep.report.statistics import Estimate, share_interval
from digits_sweep.report.vega import INK, SERIES, Figure, layer, spec_of
from digits_sweep.report.words import setting
from digits_sweep.results.record import Status


@dataclass(frozen=True)
class Share:
    """Something holds for `hits` of `runs`, at least one."""

    hits: int
    runs: int

    @property
    def interval(self) -> tuple[float, float]:
        """The exact 95 % interval of the true share (Clopper and Pearson 1934)."""
        return share_interval(self.hits, self.runs)

    @property
    def estimate(self) -> Estimate:
        """The share with its interval, as a figure draws it."""
        return Estimate(self.hits / self.runs, *self.interval, 0.95, self.runs)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.hits} of {self.runs} ({100 * low:.0f} to {100 * high:.0f} %)"


def rate_text(rate: float) -> str:
    """Return a learning rate or a weight decay as text: `1e-3`, `2.2361e-5`."""
    return setting("lr", float(f"{rate:.5g}"))


def read_arguments(description: str) -> tuple[Path, Path | None]:
    """Return the sweep's folder, and the file for the figure if the command line names one."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("sweep", type=Path, help="the folder of a recorded sweep")
    parser.add_argument("figure", type=Path, nargs="?", help="the .svg, .png or .pdf file to draw the figure into")
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


def intervals(name: str, title: str, rows: Sequence[tuple[str, Estimate]], label: str, zero: bool = False) -> Figure:
    """Draw a row for every named median or share with its interval, `label` below.

    With `zero` there is a line at 0, and an interval that is clear of it has another color.
    """
    names = [text for text, _estimate in rows]
    table = pd.DataFrame(
        {"kind": "row", "row": place, "label": text, "value": each.median, "low": each.low, "high": each.high,
         "clear": zero and not each.low <= 0 <= each.high}
        for place, (text, each) in enumerate(rows)
    )  # fmt: skip
    # By its place, because two rows may have one name.
    axis = {"grid": False, "labelExpr": f"{json.dumps(names)}[datum.value]", "labelLimit": 400}
    x = {"field": "low", "type": "quantitative", "title": label, "axis": {"tickCount": 6}}
    both = {
        "y": {"field": "row", "type": "ordinal", "title": None, "axis": axis},
        "color": {"condition": {"test": "datum.clear", "value": SERIES[1]}, "value": SERIES[0]},
    }
    layers = [
        layer("rule", "row", {**both, "x": x, "x2": {"field": "high"}}, strokeWidth=2),
        layer("point", "row", {**both, "x": {**x, "field": "value"}}, filled=True, opacity=1, size=60),
    ]
    if zero:
        layers.append({"mark": {"type": "rule", "color": INK}, "encoding": {"x": {"datum": 0}}})
    return Figure(name, title, "Bars: 95 % intervals.", table, spec_of(layers, None, 24 * len(rows)))
