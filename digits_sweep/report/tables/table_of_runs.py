"""The table of every run, which a sweep shows at its end too; and tables as Markdown."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from digits_sweep.errors import one_line
from digits_sweep.report.analysis.configurations import labels, settings
from digits_sweep.report.analysis.sentences.formatting import cell, counted, noun_of, rounded, setting
from digits_sweep.report.language import said

# The settings that every table has a column for.
FIXED = ("batch_size", "lr", "weight_decay")


def short_table(runs: pd.DataFrame) -> list[list[str]]:
    """Make rows of text, the header first, then one for every run of a study's `runs`, in its order.

    Settings that differ between the runs have a column besides those that every table has.
    """
    varying = differing(runs)
    header = [said("batch size"), said("lr"), said("weight decay"), said("s/epoch"), first_epoch_title(runs)]
    header += [said("{noun} to it", noun=noun_of(runs)), said("final loss"), said("test accuracy")]
    header += [*labels(varying).values(), said("status")]
    return [header, *(_cells(run, varying) for _, run in runs.iterrows())]


def named_table(runs: pd.DataFrame) -> list[list[str]]:
    """Return the same with the name of every run in its first column."""
    header, *rows = short_table(runs)
    return [[said("run"), *header], *([str(name), *row] for name, row in zip(runs["run_dir"], rows, strict=True))]


def differing(runs: pd.DataFrame) -> list[str]:
    """Return the settings besides batch size and rates that are not the same for all runs."""
    others = ["seed", "rule", *(name for name in settings(runs) if name not in FIXED)]
    return [name for name in others if runs[name].nunique(dropna=name != "rule") > 1]


def _cells(run: pd.Series, varying: list[str]) -> list[str]:
    return [
        *(setting(name, run[name]) for name in FIXED),
        cell(run["seconds_per_epoch"], ".2f") + _concurrent(run["concurrent_runs"]),
        _first_epoch(run),
        "-" if pd.isna(run["examples_to_goal"]) else rounded(run["examples_to_goal"]),
        cell(run["final_loss"], ".4f"),
        cell(run["test_accuracy"], ".2%"),
        *(setting(name, run[name]) for name in varying),
        outcome(run),
    ]


def outcome(run: pd.Series) -> str:
    """Write how a run ended, and why if there is a reason: `failed: OSError: no space left`."""
    return ": ".join(said(cell(run[name])) for name in ("status", "ended", "error") if not pd.isna(run[name]))


def _first_epoch(run: pd.Series) -> str:
    """Write the epoch, or that it was not reached, which is not the same as no figure at all."""
    if not pd.isna(run["first_epoch_below_threshold"]):
        return str(run["first_epoch_below_threshold"])
    if pd.isna(run["epochs"]) or run["epochs"] == 0:
        return "-"
    return said("not reached in {epochs}", epochs=counted(run["epochs"], "epoch"))


def _concurrent(runs: Any) -> str:
    """Runs at the same time share cores and caches: their seconds are not those of a run alone."""
    return "" if pd.isna(runs) or runs < 2 else said(" ({count} at once)", count=runs)


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """Write rows of text, the header first, in Markdown, with aligned columns that read well on a terminal too."""
    escaped = [[one_line(cell).replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*escaped, strict=True)]
    escaped.insert(1, ["-" * width for width in widths])
    return "".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |\n"
        for row in escaped
    )


def first_epoch_title(runs: pd.DataFrame) -> str:
    """Return the title of the column with the first epoch below the threshold."""
    thresholds = runs["loss_threshold"].dropna().unique()
    if len(thresholds) == 1:
        return said("first epoch < {threshold:g}", threshold=thresholds[0])
    return said("first epoch below threshold")
