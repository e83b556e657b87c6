"""What an iteration costs on this machine, and what an example costs: from the seconds of the epochs."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from digits_sweep.report.analysis.configurations import settings


@dataclass(frozen=True)
class Costs:
    """A fit of seconds per epoch = a x iterations + b x examples.

    `parts` has a row for every batch size (its index) and the columns `examples` and `iterations`, the two parts of the
    fit in seconds, and `measured`, the median over the runs.
    """

    seconds_per_iteration: float
    seconds_per_example: float
    parts: pd.DataFrame


def seconds_per_iteration(runs: pd.DataFrame) -> pd.Series:
    """Return what an iteration of every run costs, in seconds; missing if no epoch of such a run was timed.

    It is the median over all runs that do the same work in an iteration: neither the seed nor a rate costs time, so a
    difference of their seconds at equal iterations is noise. Runs of two sweeps have costs of their own.
    """
    own = runs["seconds_per_epoch"].astype("Float64") / runs["iterations_per_epoch"]
    sweep = [name for name in ("sweep",) if name in runs]
    work = [runs[name].astype("string").fillna("") for name in (*sweep, "batch_size", *_work(runs))]
    return own.groupby(work).transform("median")


def _work(runs: pd.DataFrame) -> list[str]:
    """Return the settings that may make an iteration longer: all but rates, which are numbers with a fraction."""
    return [name for name in settings(runs) if runs[name].dtype != "Float64"]


def costs(runs: pd.DataFrame) -> Costs | None:
    """Fit the cost of an iteration and of an example, by non-negative least squares on relative errors over the runs.

    Return None if fewer than two batch sizes were timed, or if the runs differ in more than their batch size, their
    rates and their number of threads: two networks or two engines do not share their costs.
    """
    timed = runs.dropna(subset=["seconds_per_epoch", "iterations_per_epoch", "train_samples"])
    alike = all(timed[name].nunique() <= 1 for name in _work(timed) if name != "num_threads")
    if timed["iterations_per_epoch"].nunique() < 2 or not alike:
        return None
    iteration, example = fitted_costs(
        *(timed[name].to_numpy(float) for name in ("iterations_per_epoch", "train_samples", "seconds_per_epoch"))
    )
    sizes = timed.groupby("batch_size", sort=True)
    first = sizes.first()
    parts = pd.DataFrame(
        {
            "examples": first["train_samples"].astype(float) * example,
            "iterations": first["iterations_per_epoch"].astype(float) * iteration,
            "measured": sizes["seconds_per_epoch"].median().astype(float),
        }
    )
    return Costs(iteration, example, parts)


def fitted_costs(iterations: np.ndarray, examples: np.ndarray, seconds: np.ndarray) -> tuple[float, float]:
    """Return a and b of seconds = a x iterations + b x examples; each argument is (n,), of two batch sizes or more.

    By non-negative least squares on relative errors.
    """
    terms = np.stack([iterations, examples], axis=1) / seconds[:, None]
    both = np.linalg.lstsq(terms, np.ones(len(seconds)))[0]
    if (both >= 0).all():
        return float(both[0]), float(both[1])
    # One of them is 0 then, and the other is fitted alone: whichever leaves the smaller error.
    alone = terms.sum(axis=0) / (terms**2).sum(axis=0)
    errors = ((terms * alone - 1) ** 2).sum(axis=0)
    return (float(alone[0]), 0.0) if errors[0] <= errors[1] else (0.0, float(alone[1]))
