"""Compute what the figures draw against the batch size: one mark a run, and perfect scaling."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from digits_sweep.report.analysis.statistics.replicates import ended


@dataclass(frozen=True)
class Marks:
    """The runs of one configuration, three numbers a run: `reached` is NaN for a miss, `missed` for every other run.

    A run that did not reach the goal is in `missed`, with the amount of training that it had; it is never left out. One
    that was interrupted before it is no miss, and in neither.
    """

    configuration: str
    batch_sizes: list[float]
    reached: list[float]
    missed: list[float]


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
    groups = table.groupby(runs["configuration"], sort=False)
    return [Marks(str(name), *(own[column].tolist() for column in table)) for name, own in groups]


def perfect_scaling(runs: pd.DataFrame) -> pd.DataFrame:
    """Return `batch_size, iterations_to_goal`: the line along which twice the batch size needs half the iterations.

    It starts at the median of the smallest batch size that reached the goal, and ends at the largest. It has no
    row if fewer than two batch sizes reached it. (Shallue et al. 2019, Measuring the Effects of Data Parallelism.)
    """
    reached = runs.dropna(subset=["iterations_to_goal"])
    if reached["batch_size"].nunique() < 2:
        return pd.DataFrame({"batch_size": [], "iterations_to_goal": []})
    smallest, largest = reached["batch_size"].min(), reached["batch_size"].max()
    start = float(reached.loc[reached["batch_size"] == smallest, "iterations_to_goal"].median())
    sizes = np.array([smallest, largest], dtype=float)
    return pd.DataFrame({"batch_size": sizes, "iterations_to_goal": start * sizes[0] / sizes})
