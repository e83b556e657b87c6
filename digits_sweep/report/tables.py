"""The report's tables: the two questions, several sweeps side by side, and every run; as cells and as Markdown."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from digits_sweep.report.analysis.comparison import Combined, Contrast, compare
from digits_sweep.report.analysis.formatting import cell, interval, number, seconds, share
from digits_sweep.report.analysis.lesson import Stated, is_the_lesson, stated_for
from digits_sweep.report.analysis.replicates import Estimate, Replicates
from digits_sweep.report.analysis.study import labels, settings
from digits_sweep.results.disk.harmless import one_line


@dataclass(frozen=True)
class Cell:
    """One cell of a table: a figure, and in small print how certain it is."""

    text: str
    note: str = ""

    def __str__(self) -> str:
        return f"{self.text} ({self.note})" if self.note else self.text


@dataclass(frozen=True)
class Table:
    """A header and rows of cells."""

    header: list[str]
    rows: list[list[Cell]]

    def as_text(self) -> list[list[str]]:
        """Return rows of text, the header first, the small print in brackets."""
        return [self.header, *([str(cell) for cell in row] for row in self.rows)]


def questions(runs: pd.DataFrame, groups: list[Replicates]) -> Table:
    """Make a row for every configuration: what was measured, beside what the lesson states if that is comparable."""
    columns: list[tuple[str, Callable[[Replicates], Cell]]] = [
        ("configuration", _configuration),
        ("s/epoch", lambda group: _estimate(group.seconds_per_epoch, lambda value: f"{value:.3g}")),
        (_first_epoch_title(runs), lambda group: _estimate(group.epochs_to_threshold, number)),
        ("reached", _reached),
        ("seconds to threshold", lambda group: _estimate(group.seconds_to_threshold, seconds)),
        ("final loss", lambda group: _estimate(group.final_loss, lambda value: number(value, ".4f"))),
        ("test accuracy", lambda group: _estimate(group.test_accuracy, lambda value: number(value, ".2%"))),
    ]
    if is_the_lesson(runs) and any(map(stated_for, groups)):
        columns.insert(2, ("lesson: s/epoch", lambda group: _stated_seconds(group, stated_for(group))))
        columns.insert(4, ("lesson: first epoch", lambda group: _stated_epoch(stated_for(group))))
    return Table([title for title, _ in columns], [[make(group) for _, make in columns] for group in groups])


def _first_epoch_title(runs: pd.DataFrame) -> str:
    thresholds = runs["loss_threshold"].dropna().unique()
    return f"first epoch < {thresholds[0]:g}" if len(thresholds) == 1 else "first epoch below threshold"


def _configuration(group: Replicates) -> Cell:
    return Cell(group.configuration, f"lr {cell(group.lr)}, weight decay {cell(group.weight_decay)}")


def _estimate(estimate: Estimate, write: Callable[[float], str]) -> Cell:
    return Cell(write(estimate.median), interval(estimate, write))


def _reached(group: Replicates) -> Cell:
    note = f"{group.reached_low:.0%} to {group.reached_high:.0%}" if group.runs > 1 else ""
    return Cell(share(group.reached, group.runs), note)


def _stated_seconds(group: Replicates, stated: Stated | None) -> Cell:
    if stated is None or math.isnan(stated.seconds_per_epoch):
        return Cell("not stated" if stated else "-")
    ratio = stated.seconds_per_epoch / group.seconds_per_epoch.median
    return Cell(f"{stated.seconds_per_epoch:g}", f"{ratio:.1f} times as long")


def _stated_epoch(stated: Stated | None) -> Cell:
    if stated is None:
        return Cell("-")
    if math.isnan(stated.first_epoch):
        return Cell('"better"')
    return Cell(number(stated.first_epoch))


def comparison(combined: Combined) -> Table:
    """Make a row for every configuration and sweep, each figure compared with the first sweep's."""
    header = ["configuration", "sweep", "s/epoch", "against A", "seconds to threshold", "against A"]
    rows = [
        [
            Cell(row.configuration),
            Cell(row.sweep),
            Cell(seconds(row.seconds_per_epoch)),
            _contrast(row.per_epoch),
            Cell(seconds(row.seconds_to_threshold)),
            _contrast(row.to_threshold),
        ]
        for row in compare(combined)
    ]
    return Table(header, rows)


def _contrast(contrast: Contrast | None) -> Cell:
    """Write `1.23 times as fast`, and whether that is more than the noise between runs."""
    if contrast is None:
        return Cell("")
    special = {math.inf: "reaches the threshold", 0.0: "does not reach the threshold"}
    text = special.get(contrast.ratio, f"{contrast.ratio:.2f} times as fast")
    if math.isnan(contrast.ratio):
        text = "neither reaches the threshold"
    if contrast.p_value is None:
        return Cell(text, "too few runs to tell from noise")
    return Cell(text, f"{'more than' if contrast.is_significant else 'within'} the noise, p = {contrast.p_value:.2g}")


def short_table(runs: pd.DataFrame) -> list[list[str]]:
    """Make rows of text, the header first, then one for every run of a study's `runs`, in its order.

    Settings that differ between the runs have a column besides those that every table has.
    """
    fixed = ("batch_size", "lr", "weight_decay")
    others = ["seed", *(name for name in settings(runs) if name not in fixed)]
    varying = [name for name in others if runs[name].nunique() > 1]
    header = ["batch size", "lr", "weight decay", "s/epoch", _first_epoch_title(runs), "final loss", "test accuracy"]
    header += [*labels(varying).values(), "status"]
    return [header, *(_cells(run, [*fixed], varying) for _, run in runs.iterrows())]


def _cells(run: pd.Series, fixed: list[str], varying: list[str]) -> list[str]:
    return [
        *(cell(run[name]) for name in fixed),
        cell(run["seconds_per_epoch"], ".2f") + _concurrent(run["concurrent_runs"]),
        _first_epoch(run),
        cell(run["final_loss"], ".4f"),
        cell(run["test_accuracy"], ".2%"),
        *(cell(run[name]) for name in varying),
        cell(run["status"]) + ("" if pd.isna(run["error"]) else f": {run['error']}"),
    ]


def _first_epoch(run: pd.Series) -> str:
    """Write the epoch, or that it was not reached, which is not the same as no figure at all."""
    if not pd.isna(run["first_epoch_below_threshold"]):
        return str(run["first_epoch_below_threshold"])
    if pd.isna(run["epochs"]) or run["epochs"] == 0:
        return "-"
    return f"not reached in {run['epochs']} epoch{'s' if run['epochs'] != 1 else ''}"


def _concurrent(runs: Any) -> str:
    """Runs at the same time share cores and caches: their seconds are not those of a run alone."""
    return "" if pd.isna(runs) or runs < 2 else f" ({runs} at once)"


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """Write rows of text, the header first, in Markdown, with aligned columns that read well on a terminal too."""
    escaped = [[one_line(cell).replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*escaped, strict=True)]
    escaped.insert(1, ["-" * width for width in widths])
    return "".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |\n"
        for row in escaped
    )
