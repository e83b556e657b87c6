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
    of_shares,
    rounded,
    seconds,
    setting,
    share,
    up_to,
)
from digits_sweep.report.analysis.sentences.lesson import Stated, is_the_lesson, stated_for
from digits_sweep.report.analysis.statistics.comparison import Combined, Contrast, compare
from digits_sweep.report.analysis.statistics.pairs import Paired
from digits_sweep.report.analysis.statistics.replicates import Estimate, Replicates
from digits_sweep.report.language import said
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
        (said("configuration"), _configuration),
        (up_to(noun_of(runs), goal), lambda group: _estimate(group.examples_to_goal, rounded)),
        (said("iterations"), lambda group: _estimate(group.iterations_to_goal, rounded)),
        (said("seconds"), lambda group: _estimate(group.seconds_to_goal, seconds)),
        (said("reached"), _reached),
        (first_epoch_title(runs), lambda group: _estimate(group.epochs_to_threshold, number)),
        (said("s/epoch"), lambda group: _estimate(group.seconds_per_epoch, lambda value: f"{value:.3g}")),
        (said("final loss"), lambda group: _at_the_stop(group, group.final_loss, ".4f")),
        (said("test accuracy"), lambda group: _at_the_stop(group, group.test_accuracy, ".2%")),
    ]
    if is_the_lesson(runs) and any(map(stated_for, groups)):
        columns.insert(6, (said("lesson: first epoch"), lambda group: _stated_epoch(stated_for(group))))
        columns.insert(8, (said("lesson: s/epoch"), lambda group: _stated_seconds(group, stated_for(group))))
    return Table([title for title, _ in columns], [[make(group) for _, make in columns] for group in groups])


def _configuration(group: Replicates) -> Cell:
    rates = {"lr": setting("lr", group.lr), "decay": setting("weight_decay", group.weight_decay)}
    note = said("lr {lr}, weight decay {decay}", **rates)
    return Cell(group.configuration, note + (said(", rule {rules}", rules=listed(group.rules)) if group.rules else ""))


def _estimate(estimate: Estimate, write: Callable[[float], str]) -> Cell:
    return Cell(write(estimate.median), interval(estimate, write))


def _at_the_stop(group: Replicates, estimate: Estimate, form: str) -> Cell:
    """Write a figure of the end of the runs, and that they ended before their last epoch if they did."""
    figure = _estimate(estimate, lambda value: number(value, form))
    stopped = said("at the stop of {share}", share=share(group.stopped, group.runs)) if group.stopped else ""
    return Cell(figure.text, "; ".join(filter(None, [figure.note, stopped])))


def _reached(group: Replicates) -> Cell:
    notes = [of_shares(group.reached_low, group.reached_high)] if group.runs > 1 else []
    notes += [said("{count} with a class never predicted", count=group.dead)] if group.dead else []
    return Cell(share(group.reached, group.runs), "; ".join(notes))


def _stated_seconds(group: Replicates, stated: Stated | None) -> Cell:
    if stated is None or math.isnan(stated.seconds_per_epoch):
        return Cell(said("not stated") if stated else "-")
    ratio = stated.seconds_per_epoch / group.seconds_per_epoch.median
    return Cell(f"{stated.seconds_per_epoch:g}", said("{ratio:.1f} times as long", ratio=ratio))


def _stated_epoch(stated: Stated | None) -> Cell:
    if stated is None:
        return Cell("-")
    if math.isnan(stated.first_epoch):
        return Cell(said('"better"'))
    return Cell(number(stated.first_epoch))


def comparison(combined: Combined) -> Table:
    """Make a row for every configuration and sweep, each figure compared with the first sweep's."""
    header = [said("configuration"), said("sweep"), said("s/epoch"), said("against A")]
    header += [up_to(said("seconds"), combined.goal), said("against A")]
    header += [up_to(noun_of(combined.runs), combined.goal), said("against A")]
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
    special = {math.inf: said("reaches the threshold"), 0.0: said("does not reach the threshold")}
    text = special.get(contrast.ratio, said("{ratio:.2f} times as fast", ratio=contrast.ratio))
    if math.isnan(contrast.ratio):
        text = said("neither reaches the threshold")
    if contrast.p_value is None:
        return Cell(text, said("too few runs to tell from noise"))
    noise = said(
        "more than the noise, p = {p:.2g}" if contrast.is_significant else "within the noise, p = {p:.2g}",
        p=contrast.p_value,
    )
    return Cell(text, noise)


def _paired(found: Paired | None) -> Cell:
    """Write `1.14 times as many`, and in how many pairs of runs with the same seed."""
    if found is None:
        return Cell("")
    if found.smaller == found.larger == 0:
        return Cell(said("the same"), said("in {seeds}", seeds=counted(found.pairs, "seed")))
    ratio = found.ratio.median
    many = said("not reached") if math.isinf(ratio) else said("{ratio:.2f} times as many", ratio=ratio)
    often = said("fewer in {share} seeds, p = {p:.2g}", share=share(found.larger, found.pairs), p=found.p_value)
    return Cell(many, often)
