"""What a tracker must do: open a run, take its epochs, close it."""

from typing import Protocol

from digits_sweep.results.columns import COLUMNS, ColumnRole
from digits_sweep.results.record import EpochRow
from digits_sweep.results.run import RecordedRun


class Tracker(Protocol):
    """A service or a file format that runs are reported to.

    The constructor's parameters are the tracker's settings. It imports the tracker's library, so that the module of a
    tracker can be imported without it. Any exception turns the tracker off for the rest of the sweep. A tracker that
    accepts only some values may have a static method `refusal(settings) -> str | None`, which returns what is wrong
    as `key=value: what would be right`.
    """

    def begin(self, run: RecordedRun, known_as: str | None) -> str:
        """Open a run and return the tracker's name for it.

        `known_as` is that name if the run was opened before, perhaps by another process; the same run continues then.
        It comes from a file in the run's folder, which somebody else may have sent: a tracker makes sure that it is
        this folder's run, and opens a new one under another name if it is not. All epochs are then reported to that.
        """
        ...

    def epoch(self, known_as: str, row: EpochRow) -> None:
        """Report the mean and the standard deviation of an epoch's losses, and its seconds."""
        ...

    def end(self, known_as: str, run: RecordedRun) -> None:
        """Report the figures of a run that has ended and the files in its folder, and close the run."""
        ...


def metrics_of(row: EpochRow) -> dict[str, float]:
    """Return an epoch's figures by the names that every tracker uses."""
    return {"loss_mean": row.loss_mean, "loss_std": row.loss_std, "seconds": row.seconds}


def final_metrics(run: RecordedRun) -> dict[str, float]:
    """Return the figures of a run that has ended: the outcomes in its row of the summary that are numbers."""
    names = [column.name for column in COLUMNS if column.role is ColumnRole.OUTCOME and column.dtype != "string"]
    return {name: float(run.row[name]) for name in names if run.row[name] is not None}
