"""The summary as a short table: the columns that answer the question, in words."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from digits_sweep.report.analysis.formatting import rate
from digits_sweep.report.analysis.study import settings_of

# Shown too where the runs of a sweep differ in them.
TELLING_APART = (
    "seed", "loss_threshold", "dataset", "model", "hidden_size", "optimizer", "engine", "device", "num_threads",
)  # fmt: skip


def short_table(summary: pd.DataFrame) -> list[list[str]]:
    """Rows of text, the header first, then one for every run of `summary`, in its order.

    Columns of a `Study`'s runs that are keys of their configuration are shown where they differ.
    """
    varying = [name for name in (*TELLING_APART, *settings_of(summary)) if summary[name].nunique(dropna=False) > 1]
    thresholds = summary["loss_threshold"].dropna().unique()
    first_epoch = f"first epoch < {thresholds[0]:g}" if len(thresholds) == 1 else "first epoch below threshold"
    header = ["batch size", "lr", "weight decay", "s/epoch", first_epoch, "final loss", "test accuracy"]
    header += [name.rpartition(".")[2].replace("_", " ") for name in varying]
    return [[*header, "status"], *(_cells(run, varying) for _, run in summary.iterrows())]


def _cells(run: pd.Series, varying: list[str]) -> list[str]:
    return [
        _text(run["batch_size"]),
        _rate(run["lr"]),
        _rate(run["weight_decay"]),
        _text(run["seconds_per_epoch"], ".2f") + _company(run["concurrent_runs"]),
        _first_epoch(run),
        _text(run["final_loss"], ".4f"),
        _text(run["test_accuracy"], ".2%"),
        *(_text(run[name]) for name in varying),
        _text(run["status"]) + ("" if pd.isna(run["error"]) else f": {run['error']}"),
    ]


def _first_epoch(run: pd.Series) -> str:
    """The epoch, or that it was not reached, which is never the same as no figure at all."""
    if not pd.isna(run["first_epoch_below_threshold"]):
        return str(run["first_epoch_below_threshold"])
    if pd.isna(run["epochs"]) or run["epochs"] == 0:
        return "-"
    return f"not reached in {run['epochs']} epoch{'s' if run['epochs'] != 1 else ''}"


def _company(concurrent_runs: Any) -> str:
    """Runs side by side share cores and caches: their seconds are not those of a run alone."""
    return "" if pd.isna(concurrent_runs) or concurrent_runs < 2 else f" ({concurrent_runs} at once)"


def _rate(value: Any) -> str:
    return "-" if pd.isna(value) else rate(value)


def _text(value: Any, form: str = "") -> str:
    return "-" if pd.isna(value) else format(value, form)


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text, the header first, in Markdown, the columns aligned so that it reads well on a terminal too."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*escaped, strict=True)]
    escaped.insert(1, ["-" * width for width in widths])
    return "".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |\n"
        for row in escaped
    )
