"""The two questions as a table: how long an epoch takes, and in which one the loss is below the threshold."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from digits_sweep.report.analysis.formatting import interval, number, rate, seconds, share
from digits_sweep.report.analysis.lesson import Stated, is_the_lesson, stated_for
from digits_sweep.report.analysis.replicates import Middle, Replicates


@dataclass(frozen=True)
class Cell:
    """What stands in a table: a figure, and in smaller print how sure it is."""

    text: str
    note: str = ""

    def __str__(self) -> str:
        return f"{self.text} ({self.note})" if self.note else self.text


@dataclass(frozen=True)
class Table:
    """A header and rows of cells under it."""

    header: list[str]
    rows: list[list[Cell]]

    def as_text(self) -> list[list[str]]:
        """The same, the small print in brackets, the header first."""
        return [self.header, *([str(cell) for cell in row] for row in self.rows)]


def questions(runs: pd.DataFrame, groups: list[Replicates]) -> Table:
    """A row for every configuration: what was measured, and beside it what the lesson states where that compares."""
    thresholds = runs["loss_threshold"].dropna().unique()
    below = f"first epoch < {thresholds[0]:g}" if len(thresholds) == 1 else "first epoch below threshold"
    columns: list[tuple[str, Callable[[Replicates], Cell]]] = [
        ("configuration", _configuration),
        ("s/epoch", lambda group: _of(group.seconds_per_epoch, lambda value: f"{value:.3g}")),
        (below, lambda group: _of(group.epochs_to_threshold, number)),
        ("reached", _reached),
        ("seconds to threshold", lambda group: _of(group.seconds_to_threshold, seconds)),
        ("final loss", lambda group: _of(group.final_loss, lambda value: number(value, ".4f"))),
        ("test accuracy", lambda group: _of(group.test_accuracy, lambda value: number(value, ".2%"))),
    ]
    if is_the_lesson(runs) and any(map(stated_for, groups)):
        columns.insert(2, ("lesson: s/epoch", lambda group: _stated_seconds(group, stated_for(group))))
        columns.insert(4, ("lesson: first epoch", lambda group: _stated_epoch(stated_for(group))))
    return Table([name for name, _ in columns], [[make(group) for _, make in columns] for group in groups])


def _configuration(group: Replicates) -> Cell:
    return Cell(group.configuration, f"lr {rate(group.lr)}, weight decay {rate(group.weight_decay)}")


def _of(middle: Middle, write: Callable[[float], str]) -> Cell:
    return Cell(write(middle.median), interval(middle, write))


def _reached(group: Replicates) -> Cell:
    sure = f"{group.reached_low:.0%} to {group.reached_high:.0%}" if group.runs > 1 else ""
    return Cell(share(group.reached, group.runs), sure)


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
    return Cell("not reached" if math.isinf(stated.first_epoch) else f"{stated.first_epoch:g}")
