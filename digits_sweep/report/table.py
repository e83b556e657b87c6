"""The summary as a short table: the columns that answer the question, in words."""

import pandas as pd

HEADER = ["batch size", "lr", "weight decay", "s/epoch", "first epoch below", "final loss", "test accuracy", "status"]


def short_table(summary: pd.DataFrame) -> list[list[str]]:
    """A row of text a run, as wide as `HEADER`, in the summary's order.

    A column is added in front of `status` for everything else that differs between the runs: seed, model, engine ...
    """
    varying = _varying(summary)
    header = [*HEADER[:-1], *(name.replace("_", " ") for name in varying), HEADER[-1]]
    return [header, *(_cells(run, varying) for _, run in summary.iterrows())]


def _varying(summary: pd.DataFrame) -> list[str]:
    candidates = ("seed", "dataset", "model", "hidden_size", "optimizer", "engine", "device", "num_threads")
    return [name for name in candidates if summary[name].nunique(dropna=False) > 1]


def _cells(run: pd.Series, varying: list[str]) -> list[str]:
    return [
        _text(run["batch_size"]),
        _text(run["lr"], "g"),
        _text(run["weight_decay"], "g"),
        _text(run["seconds_per_epoch"], ".2f"),
        _reached(run),
        _text(run["final_loss"], ".4f"),
        _text(run["test_accuracy"], ".2%"),
        *(_text(run[name]) for name in varying),
        _text(run["status"]),
    ]


def _reached(run: pd.Series) -> str:
    threshold = _text(run["loss_threshold"], "g")
    if not pd.isna(run["first_epoch_below_threshold"]):
        return f"{run['first_epoch_below_threshold']} (< {threshold})"
    if pd.isna(run["epochs"]) or run["epochs"] == 0:
        return "-"
    return f"not reached in {run['epochs']} epoch{'s' if run['epochs'] != 1 else ''} (< {threshold})"


def _text(value: object, form: str = "") -> str:
    return "-" if pd.isna(value) else format(value, form)


def as_markdown(summary: pd.DataFrame) -> str:
    """The short table in Markdown, its columns aligned so that it reads well on a terminal too."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in short_table(summary)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines) + "\n"
