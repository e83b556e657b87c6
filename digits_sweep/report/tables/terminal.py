"""The tables as a terminal shows them: short titles, the name first, and below it what has to be said in words."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from digits_sweep.report.analysis.configurations import labels, shortened
from digits_sweep.report.analysis.sentences.formatting import cell, listed, noun_of, rounded, seconds, setting, share
from digits_sweep.report.analysis.statistics.replicates import Estimate, Replicates
from digits_sweep.report.language import said
from digits_sweep.report.tables.table_of_runs import FIXED, differing, outcome

MISSED = ">30: not reached in 30 epochs, and so on"
TOGETHER = "*: together with other runs on one machine"
INTERVALS = "second lines: the interval that contains the median, see the page"


@dataclass(frozen=True)
class ForTerminal:
    """A table of text: `optional` are the titles that give way on a narrow terminal, the first one first."""

    header: list[str]
    rows: list[list[str]]
    notes: list[str]
    optional: list[str]


def runs_for_terminal(runs: pd.DataFrame) -> ForTerminal:
    """Make a row for every run of a study's `runs`."""
    varying, noun = differing(runs), noun_of(runs)
    names = list(labels(varying).values())
    lr, decay, loss, test, status = map(said, ("lr", "decay", "loss", "test", "status"))
    header = [said("run"), said("batch"), lr, decay, said("s/epoch"), _below(runs), noun, loss, test, *names, status]
    rows = [_row(run, varying) for _, run in runs.iterrows()]
    # First what is the same for all runs, then what a run's name has.
    titles = {decay: "weight_decay", lr: "lr"}
    alike = [title for title, name in titles.items() if runs[name].nunique() < 2]
    optional = list(dict.fromkeys([*alike, *titles, *reversed(names), test, noun, loss, status]))
    return ForTerminal(header, rows, list(_notes(runs, rows)), optional)


def _row(run: pd.Series, varying: list[str]) -> list[str]:
    together = not pd.isna(run["concurrent_runs"]) and run["concurrent_runs"] > 1
    return [
        str(run["run_dir"]),
        *(setting(name, run[name]) for name in FIXED),
        cell(run["seconds_per_epoch"], ".3g") + ("*" if together else ""),
        _epoch(run["first_epoch_below_threshold"], run["epochs"]),
        "-" if pd.isna(run["examples_to_goal"]) else rounded(run["examples_to_goal"]),
        cell(run["final_loss"], ".4f"),
        cell(run["test_accuracy"], ".2%"),
        *(setting(name, run[name]) for name in varying),
        said(cell(run["status"])),
    ]


def _epoch(first: Any, epochs: Any) -> str:
    """Write the first epoch below the threshold, `>30` if it was not reached in 30, a dash if there was no epoch."""
    if not pd.isna(first):
        return str(first)
    return "-" if pd.isna(epochs) or epochs == 0 else f">{epochs}"


def _below(runs: pd.DataFrame) -> str:
    thresholds = runs["loss_threshold"].dropna().unique()
    return said("epoch<{threshold:g}", threshold=thresholds[0]) if len(thresholds) == 1 else said("epoch")


def _notes(runs: pd.DataFrame, rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if any(text.startswith(">") for row in rows for text in row):
        yield said(MISSED)
    if runs["concurrent_runs"].fillna(1).gt(1).any():
        yield said(TOGETHER)
    ended: dict[str, list[str]] = {}
    for _, run in runs.iterrows():
        if not (pd.isna(run["ended"]) and pd.isna(run["error"])):
            ended.setdefault(outcome(run), []).append(str(run["run_dir"]))
    for words, names in ended.items():
        yield f"{listed(names)}: {words}"


def configurations_for_terminal(runs: pd.DataFrame, groups: "Sequence[Replicates]") -> ForTerminal:
    """Make two rows for every configuration of several seeds: the medians, and their intervals."""
    noun = noun_of(runs)
    iterations, took, reached = map(said, ("iterations", "seconds", "reached"))
    per_epoch, loss, test = map(said, ("s/epoch", "loss", "test"))
    header = [said("batch size"), noun, iterations, took, reached, _below(runs), per_epoch, loss, test]
    rows = [row for group in groups for row in _rows(group)]
    missed = [said(MISSED)] if any(text.startswith(">") for row in rows for text in row) else []
    return ForTerminal(header, rows, [*missed, said(INTERVALS)], [iterations, test, loss, per_epoch, reached, took])


def _rows(group: Replicates) -> Iterator[list[str]]:
    def epochs(value: float) -> str:
        return f">{group.epochs}" if math.isinf(value) else f"{value:g}"

    columns: list[tuple[Estimate, Callable[[float], str]]] = [
        (group.examples_to_goal, rounded),
        (group.iterations_to_goal, rounded),
        (group.seconds_to_goal, seconds),
        (group.epochs_to_threshold, epochs),
        (group.seconds_per_epoch, lambda value: f"{value:.3g}"),
        (group.final_loss, lambda value: f"{value:.4f}"),
        (group.test_accuracy, lambda value: f"{value:.2%}"),
    ]
    medians = [_dashed(write(estimate.median)) for estimate, write in columns]
    yield [
        shortened(group.configuration),
        *medians[:3],
        share(group.reached, group.runs),
        *medians[3:],
    ]
    if group.runs > 1:
        ends = [_interval(estimate, write) for estimate, write in columns]
        yield ["", *ends[:3], f"{group.reached_low:.0%}-{group.reached_high:.0%}", *ends[3:]]


def _interval(estimate: Estimate, write: Callable[[float], str]) -> str:
    low, high = (_dashed(write(value)).removesuffix(" s") for value in (estimate.low, estimate.high))
    return "" if estimate.runs < 2 or low == high else f"{low}-{high}" if high != "-" else f">{low}"


def _dashed(text: str) -> str:
    return "-" if text in (said("not reached"), "nan", "nan%") else text
