"""What a tracker is asked to do: begin a run, take its epochs, end it."""

from pathlib import Path
from typing import Protocol

from digits_sweep.results.history import EpochRow
from digits_sweep.results.record import Record


class Tracker(Protocol):
    """One place that runs are told to. Any exception turns it off for the rest of the sweep."""

    def begin(self, run_dir: Path, record: Record, known_as: str | None) -> str:
        """Open the run; `known_as` is what this returned when the run was opened before, to be gone on with."""

    def epoch(self, known_as: str, row: EpochRow) -> None:
        """Take the mean and the deviation of an epoch's losses and its seconds."""

    def end(self, known_as: str, run_dir: Path, record: Record) -> None:
        """Take the figures that `record` ends with and the run's folder, and close the run."""


def metrics_of(row: EpochRow) -> dict[str, float]:
    """An epoch's figures, as every tracker names them."""
    return {"loss_mean": row.loss_mean, "loss_std": row.loss_std, "seconds": row.seconds}


def final_metrics(record: Record) -> dict[str, float]:
    """The figures of a run that has ended: those of its row in the summary that are numbers."""
    names = ("seconds_per_epoch", "first_epoch_below_threshold", "seconds_to_threshold", "final_loss", "test_accuracy")
    return {name: float(record.summary[name]) for name in names if record.summary.get(name) is not None}
