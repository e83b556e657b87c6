"""The report's tables: the two questions, and several sweeps side by side."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from digits_sweep.report.analysis.goal import Goal
from digits_sweep.report.analysis.sentences.formatting import (
    counted,
    interval,
    listed,
    noun_of,
    number,
    rounded,
    seconds,
    setting,
    share,
)
from digits_sweep.report.analysis.sentences.lesson import Stated, is_the_lesson, stated_for
from digits_sweep.report.analysis.statistics.comparison import Combined, Contrast, compare
from digits_sweep.report.analysis.statistics.pairs import Paired
from digits_sweep.report.analysis.statistics.replicates import Estimate, Replicates
from digits_sweep.report.tables.table_of_runs import first_epoch_title


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


def questions(runs: pd.DataFrame, groups: list[Replicates], goal: Goal) -> Table:
    """Make a row for every configuration: what was measured, beside what the lesson states if that is comparable."""
    columns: list[tuple[str, Callable[[Replicates], Cell]]] = [
        ("configuration", _configuration),
        (f"{noun_of(runs)} to {goal}", lambda group: _estimate(group.examples_to_goal, rounded)),
        ("iterations", lambda group: _estimate(group.iterations_to_goal, rounded)),
        ("seconds", lambda group: _estimate(group.seconds_to_goal, seconds)),
        ("reached", _reached),
        (first_epoch_title(runs), lambda group: _estimate(group.epochs_to_threshold, number)),
        ("s/epoch", lambda group: _estimate(group.seconds_per_epoch, lambda value: f"{value:.3g}")),
        ("final loss", lambda group: _at_the_stop(group, group.final_loss, ".4f")),
        ("test accuracy", lambda group: _at_the_stop(group, group.test_accuracy, ".2%")),
    ]
    if is_the_lesson(runs) and any(map(stated_for, groups)):
        columns.insert(6, ("lesson: first epoch", lambda group: _stated_epoch(stated_for(group))))
        columns.insert(8, ("lesson: s/epoch", lambda group: _stated_seconds(group, stated_for(group))))
    return Table([title for title, _ in columns], [[make(group) for _, make in columns] for group in groups])


def _configuration(group: Replicates) -> Cell:
    rules = f", rule {listed(group.rules)}" if group.rules else ""
    return Cell(
        group.configuration,
        f"lr {setting('lr', group.lr)}, weight decay {setting('weight_decay', group.weight_decay)}{rules}",
    )


def _estimate(estimate: Estimate, write: Callable[[float], str]) -> Cell:
    return Cell(write(estimate.median), interval(estimate, write))


def _at_the_stop(group: Replicates, estimate: Estimate, form: str) -> Cell:
    """Write a figure of the end of the runs, and that they ended before their last epoch if they did."""
    figure = _estimate(estimate, lambda value: number(value, form))
    stopped = f"at the stop of {share(group.stopped, group.runs)}" if group.stopped else ""
    return Cell(figure.text, "; ".join(filter(None, [figure.note, stopped])))


def _reached(group: Replicates) -> Cell:
    notes = [f"{group.reached_low:.0%} to {group.reached_high:.0%}"] if group.runs > 1 else []
    notes += [f"{group.dead} with a class never predicted"] if group.dead else []
    return Cell(share(group.reached, group.runs), "; ".join(notes))


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
    header = ["configuration", "sweep", "s/epoch", "against A", f"seconds to {combined.goal}", "against A"]
    header += [f"{noun_of(combined.runs)} to {combined.goal}", "against A"]
    rows = [
        [
            Cell(row.configuration),
            Cell(row.sweep),
            Cell(seconds(row.seconds_per_epoch)),
            _contrast(row.per_epoch),
            Cell(seconds(row.seconds_to_goal)),
            _contrast(row.to_goal),
            Cell(rounded(row.examples_to_goal)),
            _paired(row.examples),
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


def _paired(found: Paired | None) -> Cell:
    """Write `1.14 times as many`, and in how many pairs of runs with the same seed."""
    if found is None:
        return Cell("")
    if found.smaller == found.larger == 0:
        return Cell("the same", f"in {counted(found.pairs, 'seed')}")
    many = "not reached" if math.isinf(found.ratio.median) else f"{found.ratio.median:.2f} times as many"
    return Cell(many, f"fewer in {share(found.larger, found.pairs)} seeds, p = {found.p_value:.2g}")
