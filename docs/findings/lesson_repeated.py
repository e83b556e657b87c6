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
from evidence import Share, ended_runs, print_table, rate_text, read_arguments

from digits_sweep.report.vega import SERIES, Figure, Layout, layer, spec_of

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


def figure(runs: pd.DataFrame) -> Figure:
    """Draw a bar for each first epoch with the number of its runs, a panel a batch size; framed: the lesson's epoch."""
    runs = runs.dropna(subset=["stated"])
    runs = runs.assign(panel="batch size " + runs["batch_size"].astype(str), epoch=runs["first_epoch"].map(_tick))
    bars = runs.groupby(["panel", "epoch"], sort=False).size().reset_index(name="runs").assign(kind="bar")
    frames = runs.drop_duplicates("panel").assign(kind="frame", epoch=lambda own: own["stated"].map(_tick))
    table = pd.concat([bars, frames[["panel", "epoch", "kind"]]])
    ticks = [*map(str, range(1, EPOCHS + 1)), "none"]
    x = {"field": "epoch", "type": "ordinal", "scale": {"domain": ticks}, "title": "first epoch below the threshold"}
    x |= {"axis": {"labelAngle": 0, "values": [*map(str, range(5, EPOCHS, 5)), "none"]}}
    both = {"x": x, "y": {"field": "runs", "type": "quantitative", "axis": None}}
    frame = {"x": x, "y": {"value": -10}, "y2": {"value": "height"}}
    layers = [
        layer("bar", "bar", both, color=SERIES[0]),
        layer("text", "bar", {**both, "text": {"field": "runs"}}, dy=-6, fontSize=9),
        layer("bar", "frame", frame, filled=False, stroke=SERIES[1], strokeWidth=1.5),
    ]
    panels = list(dict.fromkeys(runs["panel"]))
    spec = spec_of(layers, Layout(runs, [], panels, 1, [""], {}), 60)
    spec.get("spec", spec)["width"] = 620
    return Figure("lesson-repeated", "First epochs below the threshold", "Framed: the lesson's.", table, spec)


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
        figure(runs).save(svg)


if __name__ == "__main__":
    main(*read_arguments(__doc__.partition("\n")[0]))
