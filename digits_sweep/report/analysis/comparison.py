"""Two or more sweeps side by side: how many times faster, and whether that is more than the noise."""

import math
from collections.abc import Sequence
from math import comb
from statistics import median

import pandas as pd

from digits_sweep.report.analysis.formatting import seconds
from digits_sweep.report.analysis.study import CONFIGURATION, Study, settings_of, with_configurations
from digits_sweep.report.questions import Cell, Table

SIGNIFICANT = 0.05


def labels(studies: Sequence[Study]) -> list[str]:
    """What the sweeps are called on a page: A, B and so on, S27 after Z."""
    return [chr(ord("A") + place) if place < 26 else f"S{place + 1}" for place in range(len(studies))]


def side_by_side(studies: Sequence[Study]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs and the histories of all sweeps, each with a column `sweep`; `configuration` is what they share."""
    named = list(zip(labels(studies), studies, strict=True))
    runs = pd.concat([study.runs.assign(sweep=label) for label, study in named], ignore_index=True)
    runs = with_configurations(runs, leave_out=_apart(runs))
    runs["run_dir"] = runs["sweep"].astype("string") + "/" + runs["run_dir"].astype("string")
    history = pd.concat([study.history.assign(sweep=label) for label, study in named], ignore_index=True)
    history["run_dir"] = history["sweep"].astype("string") + "/" + history["run_dir"].astype("string")
    history["configuration"] = history["run_dir"].map(runs.set_index("run_dir")["configuration"])
    return runs, history


def _apart(runs: pd.DataFrame) -> list[str]:
    """What is the same for all runs of a sweep, and another in another sweep: the sweeps stand for it."""
    over_all = [*CONFIGURATION, *settings_of(runs), "torch_version", "git_commit"]
    within = runs.groupby("sweep")
    return [name for name in over_all if within[name].nunique().le(1).all() and runs[name].nunique() > 1]


def differences(runs: pd.DataFrame) -> list[str]:
    """What tells the sweeps apart, a sentence each. `runs` as `side_by_side` gives them."""
    told = []
    for name in _apart(runs):
        values = runs.groupby("sweep")[name].first()
        told.append(
            f"{name.rpartition('.')[2].replace('_', ' ')}: "
            + ", ".join(f"{value} in {sweep}" for sweep, value in values.items())
        )
    return told


def comparison(runs: pd.DataFrame) -> Table:
    """Every configuration of the first sweep and of the others, each figure held against the first sweep's.

    Whether a difference is more than the noise is asked of the runs, not of their epochs, by the two-sided test of
    Mann and Whitney (1947) at 5 %. `runs` as `side_by_side` gives them.
    """
    ended = runs[runs["status"].isin(["completed", "diverged"])]
    first, rows = "A", []
    for name, group in ended.groupby("configuration", sort=False):
        sweeps = dict(list(group.groupby("sweep")))
        for sweep, own in sweeps.items():
            base = sweeps[first] if first in sweeps and sweep != first else None
            rows.append(
                [
                    Cell(str(name)),
                    Cell(f"{sweep}"),
                    *_held(own, base, "seconds_per_epoch"),
                    *_held(own, base, "seconds_to_threshold"),
                ]
            )
    header = ["configuration", "sweep", "s/epoch", f"against {first}", "seconds to threshold", f"against {first}"]
    return Table(header, rows)


def _held(own: pd.DataFrame, base: pd.DataFrame | None, column: str) -> list[Cell]:
    values = _values(own, column)
    against = Cell("") if base is None else faster(values, _values(base, column))
    return [Cell(seconds(median(values))), against]


def _values(runs: pd.DataFrame, column: str) -> list[float]:
    return [math.inf if pd.isna(value) else float(value) for value in runs[column]]


def faster(values: Sequence[float], base: Sequence[float]) -> Cell:
    """`1.23 times as fast`, and whether that is more than the noise between runs. Infinity: never got there."""
    ours, theirs = median(values), median(base)
    if math.isinf(ours) or math.isinf(theirs):
        text = "neither gets there" if ours == theirs else "does not get there" if math.isinf(ours) else "gets there"
    else:
        text = f"{theirs / ours:.2f} times as fast"
    return Cell(text, _noise(values, base))


def _noise(values: Sequence[float], base: Sequence[float]) -> str:
    if 2 / comb(len(values) + len(base), len(base)) >= SIGNIFICANT:
        return "too few runs to tell from noise"
    # Takes a second to import, which a page of one sweep need not wait for.
    from scipy.stats import mannwhitneyu

    p = float(mannwhitneyu(values, base).pvalue)
    return f"{'more than' if p < SIGNIFICANT else 'within'} the noise, p = {p:.2g}"
