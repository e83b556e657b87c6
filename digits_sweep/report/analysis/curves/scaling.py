"""Compute what the figures draw against the batch size: one mark a run, and perfect scaling."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from digits_sweep.report.analysis.statistics.replicates import Estimate, ended, estimate


@dataclass(frozen=True)
class Marks:
    """The runs of one configuration, three numbers a run: `reached` is NaN for a miss, `missed` for every other run.

    A run that did not reach the goal is in `missed`, with the amount of training that it had; it is never left out. One
    that was interrupted before it is no miss, and in neither. `middle` is the median over the runs, with its interval
    from `low` to `high`; a median or an end that is not reached is the largest amount that a miss had, and
    `middle_missed` or `high_missed`.
    """

    configuration: str
    runs: list[str]
    batch_sizes: list[float]
    reached: list[float]
    missed: list[float]
    middle: float
    low: float
    high: float
    middle_missed: bool
    high_missed: bool

    @property
    def count(self) -> int:
        """Return how many of the runs have a mark."""
        return sum(math.isfinite(value) for value in (*self.reached, *self.missed))


def seconds_per_epoch(runs: pd.DataFrame) -> list[Marks]:
    """Return the seconds that every run takes for an epoch."""
    return _marks(runs, runs["seconds_per_epoch"])


def epochs_to_threshold(runs: pd.DataFrame) -> list[Marks]:
    """Return the first epoch of every run below the threshold; for a miss, the last epoch trained."""
    return _marks(runs, runs["first_epoch_below_threshold"], runs["epochs"])


def examples_to_goal(runs: pd.DataFrame) -> list[Marks]:
    """Return the examples of every run to the goal; for a miss, all that it has trained on."""
    return _marks(runs, runs["examples_to_goal"], runs["epochs"] * runs["train_samples"])


def iterations_to_goal(runs: pd.DataFrame) -> list[Marks]:
    """Return the iterations of every run to the goal; for a miss, all of its iterations."""
    return _marks(runs, runs["iterations_to_goal"], runs["epochs"] * runs["iterations_per_epoch"])


def seconds_to_goal(runs: pd.DataFrame) -> list[Marks]:
    """Return the seconds of every run to the goal; for a miss, the seconds of all of its epochs."""
    return _marks(runs, runs["seconds_to_goal"], runs["seconds_per_epoch"] * runs["epochs"])


def _marks(runs: pd.DataFrame, reached: pd.Series, otherwise: pd.Series | None = None) -> list[Marks]:
    none = pd.Series(np.nan, index=runs.index)
    missed = reached.isna() & runs.index.isin(ended(runs).index)
    table = pd.DataFrame(
        {
            "batch_size": runs["batch_size"].astype(float),
            "reached": reached.astype(float),
            "missed": none if otherwise is None else otherwise.astype(float).where(missed),
        }
    )
    columns = {name: own.tolist() for name, own in table.items()}
    names, runs_of = runs["configuration"].tolist(), runs["run_dir"].astype(str).tolist()
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(str(name), []).append(place)

    def taken(values: list[Any], own: list[int]) -> list[Any]:
        return [values[place] for place in own]

    return [
        _marks_of(name, taken(runs_of, own), *(taken(values, own) for values in columns.values()))
        for name, own in places.items()
    ]


def _marks_of(name: str, runs: list[str], batch_sizes: list[float], reached: list[float], missed: list[float]) -> Marks:
    got, short = ([value for value in values if math.isfinite(value)] for values in (reached, missed))
    values = [*got, *([math.inf] * len(short))]
    found = estimate(values) if values else Estimate(math.nan, math.nan, math.nan, 0.0, 0)
    # A miss that had less training than the runs that got there is drawn above them all the same.
    most = max([*got, *short], default=math.nan)
    middle, low, high = (most if math.isinf(value) else value for value in (found.median, found.low, found.high))
    return Marks(
        *(name, runs, batch_sizes, reached, missed, middle, low, high),
        middle_missed=math.isinf(found.median),
        high_missed=math.isinf(found.high),
    )


def perfect_scaling(runs: pd.DataFrame) -> pd.DataFrame:
    """Return `batch_size, iterations_to_goal`: the line along which twice the batch size needs half the iterations.

    It starts at the smallest median of the smallest batch size that reached the goal, and ends at the largest. It has
    no row if fewer than two batch sizes reached it. (Shallue et al. 2019, Measuring the Effects of Data Parallelism.)
    """
    reached = runs.dropna(subset=["iterations_to_goal"])
    if reached["batch_size"].nunique() < 2:
        return pd.DataFrame({"batch_size": [], "iterations_to_goal": []})
    smallest, largest = reached["batch_size"].min(), reached["batch_size"].max()
    first = reached[reached["batch_size"] == smallest]
    start = float(first.groupby("configuration")["iterations_to_goal"].median().min())
    sizes = np.array([smallest, largest], dtype=float)
    return pd.DataFrame({"batch_size": sizes, "iterations_to_goal": start * sizes[0] / sizes})
