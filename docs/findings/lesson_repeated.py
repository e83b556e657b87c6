"""How often do the lesson's figures come out?

    python docs/findings/lesson_repeated.py outputs/sweeps/<date_time> [FIGURE.svg]

The lesson trained each of its rows once. `experiment=lesson_replicated` repeats them with many seeds at every choice
that the lesson does not state. Of the sweep's runs those count that train what the lesson trains.
"""

import math
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
from evidence import BLUE, INK, ORANGE, Share, Spec, draw, ended_runs, print_table, rate_text, read_arguments

EPOCHS = 30
# The lesson's rows: the first epoch below 1.6 is infinite if it is not reached in 30, NaN if it is not stated.
LESSON = pd.DataFrame(
    [(100, 1e-4, 5e-4, 7), (20, 1e-4, 5e-4, 5), (5, 1e-4, 5e-4, math.inf), (5, 1e-6, 5e-6, math.nan)],
    columns=["batch_size", "lr", "weight_decay", "stated"],
)
STATED = {
    **{"dataset": "mnist", "model": "mlp", "head": "softmax", "loss_threshold": 1.6},
    **{"optimizer": "adam", "beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
}
UNSTATED = ("scale", "hidden_size", "hidden_layers", "activation")
HEADER = ("batch size", "lr", "choice", "first epoch below 1.6, in runs", "as in the lesson", "a digit never predicted")


def lesson_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that train a row of the lesson, row by row, with its first epoch (`stated`) and their own.

    `first_epoch` is infinite if 30 epochs did not reach the threshold. A run that ended before it could tell is left
    out. `choice` names what the lesson does not state, as far as the sweep varies it.
    """
    for name, value in STATED.items():
        runs = runs[runs[name].eq(value).fillna(False)]
    runs = LESSON.merge(runs, on=["batch_size", "lr", "weight_decay"])
    reached = runs["first_epoch_below_threshold"]
    runs = runs.assign(first_epoch=reached.astype("Float64").fillna(math.inf).astype(float))
    runs = runs[reached.notna() | runs["epochs"].ge(EPOCHS)]
    varied = [name for name in UNSTATED if runs[name].nunique() > 1]
    choices = [", ".join(f"{name.replace('_', ' ')} {run[name]}" for name in varied) for _, run in runs.iterrows()]
    return runs.assign(choice=choices, as_stated=runs["first_epoch"] == runs["stated"])


def rows_of(runs: pd.DataFrame) -> list[list[object]]:
    """Return the table's rows: for each row of the lesson all of its runs, then those at each of several choices."""
    rows: list[list[object]] = []
    for (size, lr), own in runs.groupby(["batch_size", "lr"], sort=False):
        parts = [("all", own), *(own.groupby("choice", sort=False) if runs["choice"].nunique() > 1 else ())]
        rows += [[size, rate_text(lr), choice, *_counts(part)] for choice, part in parts]
    return rows


def _counts(runs: pd.DataFrame) -> list[object]:
    often = Counter(runs["first_epoch"]).most_common()
    is_stated = runs["stated"].notna().all()
    dead = runs["classes_never_predicted"].dropna().gt(0)
    return [
        ", ".join(f"{_tick(epoch)}: {count}" for epoch, count in often),
        Share(int(runs["as_stated"].sum()), len(runs)) if is_stated else "not stated",
        Share(int(dead.sum()), len(dead)) if len(dead) else "-",
    ]


def all_rows_together(runs: pd.DataFrame) -> Share | None:
    """Count the seeds at one choice in which each of the lesson's first epochs came out; None if none trained all."""
    stated = runs.dropna(subset=["stated"])
    by_seed = stated.pivot_table("as_stated", ["choice", "seed"], ["batch_size", "lr"], aggfunc="first").dropna()
    if by_seed.empty or by_seed.shape[1] < LESSON["stated"].count():
        return None
    return Share(int(by_seed.all(axis="columns").sum()), len(by_seed))


def figure(runs: pd.DataFrame) -> Spec:
    """Draw a bar for each first epoch with the number of its runs, a panel a batch size; framed: the lesson's epoch."""
    stated = runs.dropna(subset=["stated"])
    counts = stated.groupby(["batch_size", "stated", "first_epoch"], sort=False).size().reset_index(name="runs")
    values = [
        {"panel": f"batch size {row.batch_size}", "runs": int(row.runs), "epoch": _tick(row.first_epoch)}
        for row in counts.itertuples()
    ]
    values += [
        {"panel": f"batch size {row.batch_size}", "framed": _tick(row.stated)}
        for row in counts.drop_duplicates("batch_size").itertuples()
    ]
    ticks = [*map(str, range(1, EPOCHS + 1)), "none"]
    x = {"type": "ordinal", "scale": {"domain": ticks}, "title": "first epoch below the threshold"}
    x |= {"axis": {"labelAngle": 0, "values": [*map(str, range(5, EPOCHS, 5)), "none"]}}
    y = {"field": "runs", "type": "quantitative", "axis": None}
    bars = {"x": {"field": "epoch", **x}, "y": y}
    only_bars, only_frame = ([{"filter": f"isValid(datum.{name})"}] for name in ("epoch", "framed"))
    layers: list[Spec] = [
        {"transform": only_bars, "mark": {"type": "bar", "color": BLUE}, "encoding": bars},
        {
            "transform": only_bars,
            "mark": {"type": "text", "dy": -6, "color": INK, "fontSize": 9},
            "encoding": bars | {"text": {"field": "runs"}},
        },
        {
            "transform": only_frame,
            "mark": {"type": "bar", "filled": False, "stroke": ORANGE, "strokeWidth": 1.5},
            "encoding": {"x": {"field": "framed", **x}, "y": {"value": -10}, "y2": {"value": "height"}},
        },
    ]
    facet = {"field": "panel", "type": "nominal", "sort": None, "title": None, "header": {"labelOrient": "top"}}
    spec = {"width": 620, "height": 60, "layer": layers}
    return {"data": {"values": values}, "facet": {"row": facet}, "spec": spec}


def _tick(epoch: float) -> str:
    return "none" if math.isinf(epoch) else f"{epoch:.0f}"


def main(sweep: Path, svg: Path | None) -> None:
    """Print the table of a sweep, and draw its figure into `svg`."""
    runs = lesson_runs(ended_runs(sweep))
    if runs.empty:
        sys.exit(f"{sweep}: no run here trains what the lesson trains; run experiment=lesson_replicated")
    print_table(HEADER, rows_of(runs))
    if together := all_rows_together(runs):
        print(f"\nAll of the lesson's first epochs in one seed at one choice: {together}.")
    if svg:
        draw(figure(runs), svg)


if __name__ == "__main__":
    main(*read_arguments(__doc__.partition("\n")[0]))
