"""Compute what the figures draw against the batch size: one mark a run, perfect scaling, and the cost of an epoch."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from digits_sweep.report.analysis.study import settings


@dataclass(frozen=True)
class Marks:
    """The runs of one configuration, three numbers a run: `reached` is NaN for a miss, `missed` for every other run.

    A run that did not reach the threshold is in `missed`, with the amount of training that it had; it is never left
    out.
    """

    configuration: str
    batch_sizes: list[float]
    reached: list[float]
    missed: list[float]


@dataclass(frozen=True)
class Costs:
    """A fit of seconds per epoch = a x iterations + b x examples.

    `parts` has a row for every batch size (its index) and the columns `examples` and `iterations`, the two parts of the
    fit in seconds, and `measured`, the median over the runs.
    """

    seconds_per_iteration: float
    seconds_per_example: float
    parts: pd.DataFrame


def seconds_per_epoch(runs: pd.DataFrame) -> list[Marks]:
    """Return the seconds that every run takes for an epoch."""
    return _marks(runs, runs["seconds_per_epoch"])


def epochs_to_threshold(runs: pd.DataFrame) -> list[Marks]:
    """Return the first epoch of every run below the threshold; for a miss, the last epoch trained."""
    return _marks(runs, runs["first_epoch_below_threshold"], runs["epochs"])


def iterations_to_threshold(runs: pd.DataFrame) -> list[Marks]:
    """Return the iterations of every run to the threshold; for a miss, all of its iterations."""
    return _marks(runs, _iterations(runs), runs["epochs"] * runs["iterations_per_epoch"])


def seconds_to_threshold(runs: pd.DataFrame) -> list[Marks]:
    """Return the seconds of every run to the threshold; for a miss, the seconds of all of its epochs."""
    return _marks(runs, runs["seconds_to_threshold"], runs["seconds_per_epoch"] * runs["epochs"])


def _iterations(runs: pd.DataFrame) -> pd.Series:
    return runs["first_epoch_below_threshold"] * runs["iterations_per_epoch"]


def _marks(runs: pd.DataFrame, reached: pd.Series, otherwise: pd.Series | None = None) -> list[Marks]:
    none = pd.Series(np.nan, index=runs.index)
    table = pd.DataFrame(
        {
            "batch_size": runs["batch_size"].astype(float),
            "reached": reached.astype(float),
            "missed": none if otherwise is None else otherwise.astype(float).where(reached.isna()),
        }
    )
    groups = table.groupby(runs["configuration"], sort=False)
    return [Marks(str(name), *(own[column].tolist() for column in table)) for name, own in groups]


def perfect_scaling(runs: pd.DataFrame) -> pd.DataFrame:
    """Return `batch_size, iterations`: the line along which twice the batch size needs half the iterations.

    It starts at the median of the smallest batch size that reached the threshold, and ends at the largest. It has no
    row if fewer than two batch sizes reached it. (Shallue et al. 2019, Measuring the Effects of Data Parallelism.)
    """
    reached = runs.assign(iterations=_iterations(runs)).dropna(subset=["iterations"])
    if reached["batch_size"].nunique() < 2:
        return pd.DataFrame({"batch_size": [], "iterations": []})
    smallest, largest = reached["batch_size"].min(), reached["batch_size"].max()
    start = float(reached.loc[reached["batch_size"] == smallest, "iterations"].median())
    sizes = np.array([smallest, largest], dtype=float)
    return pd.DataFrame({"batch_size": sizes, "iterations": start * sizes[0] / sizes})


def costs(runs: pd.DataFrame) -> Costs | None:
    """Fit the cost of an iteration and of an example, by non-negative least squares on relative errors over the runs.

    Return None if fewer than two batch sizes were timed, or if the runs differ in more than their batch size, their
    rates and their number of threads: two networks or two engines do not share their costs.
    """
    timed = runs.dropna(subset=["seconds_per_epoch", "iterations_per_epoch", "train_samples"])
    if timed["iterations_per_epoch"].nunique() < 2 or not _timed_alike(timed):
        return None
    seconds = timed["seconds_per_epoch"].to_numpy(float)
    terms = timed[["iterations_per_epoch", "train_samples"]].to_numpy(float)
    (iteration, example), _ = nnls(terms / seconds[:, None], np.ones(len(seconds)))
    sizes = timed.groupby("batch_size", sort=True)
    first = sizes.first()
    parts = pd.DataFrame(
        {
            "examples": first["train_samples"].astype(float) * example,
            "iterations": first["iterations_per_epoch"].astype(float) * iteration,
            "measured": sizes["seconds_per_epoch"].median().astype(float),
        }
    )
    return Costs(float(iteration), float(example), parts)


def _timed_alike(runs: pd.DataFrame) -> bool:
    """Whether the runs have one network, optimizer, engine and device: a rate costs no time, whatever its value."""
    choices = [name for name in settings(runs) if runs[name].dtype != "Float64" and name != "num_threads"]
    return all(runs[name].nunique() <= 1 for name in choices)
