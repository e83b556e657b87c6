"""Compute what the figures draw against the epoch: losses, the share of runs below the threshold, and predictions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from digits_sweep.config.schema import softmax_floor
from digits_sweep.report.analysis.statistics.replicates import ended

CLASSES = 10
FLAT, FEWEST_FLAT = 0.01, 5


@dataclass(frozen=True)
class LossCurve:
    """The losses of one configuration.

    `seeds` has a row for every run and epoch: `run_dir, epoch, seconds, loss`, where `seconds` counts from the start of
    training. `median` has a row for every epoch that all runs have: `epoch, seconds, loss, low, high`, the medians over
    the runs and one standard deviation of the iterations' losses below and above. Both are empty without a history.
    """

    configuration: str
    seeds: pd.DataFrame
    median: pd.DataFrame


@dataclass(frozen=True)
class Losses:
    """The losses of all configurations, the thresholds they are held against, and the least loss that is possible."""

    curves: list[LossCurve]
    thresholds: list[float]
    floor: float


@dataclass(frozen=True)
class ReachedShare:
    """The share of a configuration's runs that are below the threshold by an epoch: a step at each of `epochs`."""

    configuration: str
    epochs: list[int]
    shares: list[float]


def losses(runs: pd.DataFrame, history: pd.DataFrame) -> Losses:
    """Compute the loss curves of a study's `runs`; `history` has a row an epoch."""
    floor = loss_floor(runs)
    seeds = history.assign(seconds=history.groupby("run_dir")["seconds"].cumsum(), loss=history["loss_mean"])
    by = ["configuration", "epoch"]
    counts = seeds.groupby("configuration")["run_dir"].nunique()
    grouped = seeds.groupby(by, sort=True)
    median = grouped[["seconds", "loss", "loss_std"]].median()
    # After the last epoch of the shortest run, the median of the others would be another configuration's.
    complete = grouped.size().to_numpy() == counts.reindex(median.index.get_level_values("configuration")).to_numpy()
    median = median[complete].reset_index()
    low, high = (median["loss"] - median["loss_std"]).clip(lower=floor), median["loss"] + median["loss_std"]
    median = median.assign(low=low, high=high).drop(columns="loss_std")
    of_seeds, of_medians = ["run_dir", "epoch", "seconds", "loss"], ["epoch", "seconds", "loss", "low", "high"]
    own = dict(iter(seeds.groupby("configuration")[of_seeds]))
    medians = dict(iter(median.groupby("configuration")[of_medians]))
    curves = [
        LossCurve(
            str(name),
            seeds=own.get(name, seeds[of_seeds].head(0)),
            median=medians.get(name, median[of_medians].head(0)),
        )
        for name in dict.fromkeys(runs["configuration"])
    ]
    return Losses(curves, [float(loss) for loss in runs["loss_threshold"].dropna().unique()], floor)


def loss_floor(runs: pd.DataFrame) -> float:
    """Return what the loss of these runs cannot fall below: 1.4612 behind a softmax of ten classes, 0 without one.

    Runs with several numbers of classes have that of the fewest.
    """
    if runs["model"].dropna().str.endswith("logits").any():
        return 0.0
    column = runs.get("model.num_classes", pd.Series(dtype=str))
    classes = [int(each) for each in column.dropna().unique() if str(each).isdigit() and int(each) > 1]
    return softmax_floor(min(classes, default=CLASSES))


def reached_shares(runs: pd.DataFrame) -> list[ReachedShare]:
    """Compute the share of the runs below the threshold by every epoch; a run that was not trained to its end is out.

    A configuration without a run that ended has no step.
    """
    finished = ended(runs)
    names = list(dict.fromkeys(runs["configuration"]))
    return [_share(str(name), finished[finished["configuration"] == name], finished["epochs"].max()) for name in names]


def _share(configuration: str, runs: pd.DataFrame, last: int) -> ReachedShare:
    if runs.empty:
        return ReachedShare(configuration, [], [])
    reached = sorted(int(epoch) for epoch in runs["first_epoch_below_threshold"].dropna())
    shares = [(index + 1) / len(runs) for index in range(len(reached))]
    return ReachedShare(configuration, [0, *reached, int(last)], [0.0, *shares, shares[-1] if shares else 0.0])


def predictions_of_misses(runs: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `predictions` of the runs that were trained to their end and did not reach the threshold."""
    finished = ended(runs)
    missed = finished.loc[finished["first_epoch_below_threshold"].isna(), "run_dir"]
    return predictions[predictions.index.isin(missed)]


def never_predicted(predictions: pd.Series, classes: int | None = None) -> list[str]:
    """Return the classes that a run never predicts; `predictions` has the number of predictions of every class.

    A network may have more outputs than its data has `classes`: none of the others is missing.
    """
    existing = predictions if classes is None else predictions.head(classes)
    return [str(label) for label in existing.index[existing == 0]]


def is_flat(losses: Sequence[float]) -> bool:
    """Return whether losses, one an epoch, stand still: the last third, at least five, spread over less than 1 %."""
    last = losses[-max(len(losses) // 3, FEWEST_FLAT) :]
    if len(last) < FEWEST_FLAT or not all(math.isfinite(loss) for loss in last):
        return False
    return max(last) - min(last) < FLAT * min(last)
