"""A run's epochs: `history.csv`, and what they amount to."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median

from digits_sweep.errors import UnreadableRecord
from digits_sweep.results.files import latest_readable, replace_file


@dataclass(frozen=True)
class EpochRow:
    """One row of `history.csv`: mean and standard deviation of the iterations' losses, and the time in seconds."""

    epoch: int
    loss_mean: float
    loss_std: float
    seconds: float
    examples_per_second: float


def write_history(folder: Path, history: Sequence[EpochRow]) -> None:
    """Replace `history.csv` in `folder`. Raises OSError if it cannot be written."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [each.name for each in fields(EpochRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in history)
    replace_file(folder / "history.csv", text.getvalue(), keep_previous=True)


def read_history(folder: Path) -> list[EpochRow]:
    """Read the epochs in `history.csv`, from the first; if it is damaged, those of the file before it.

    Raises `UnreadableRecord` if neither can be read.
    """
    history, _ = latest_readable(folder / "history.csv", _read_history)
    return history


def _read_history(path: Path) -> list[EpochRow]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            history = [
                EpochRow(
                    epoch=int(row["epoch"]),
                    loss_mean=float(row["loss_mean"]),
                    loss_std=float(row["loss_std"]),
                    seconds=float(row["seconds"]),
                    examples_per_second=float(row["examples_per_second"]),
                )
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UnreadableRecord(f"{path.name}: {one_line(error)}") from error
    if [row.epoch for row in history] != list(range(1, len(history) + 1)):
        raise UnreadableRecord(f"{path.name}: its epochs do not count up from 1")
    return history


def one_line(error: Exception) -> str:
    """Return the first line of an error, without the path of the file."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.splitlines() or [type(error).__name__])[0]


def seconds_per_epoch(history: Sequence[EpochRow], resumed_after: Sequence[int]) -> float | None:
    """Return the median seconds of the epochs that are not the first of their process; of all if there are no others.

    The run's first epoch, and those that follow an epoch in `resumed_after`, pay for warming up.
    """
    first = {1} | {epoch + 1 for epoch in resumed_after}
    seconds = [row.seconds for row in history if row.epoch not in first] or [row.seconds for row in history]
    return median(seconds) if seconds else None


def first_epoch_below(history: Sequence[EpochRow], threshold: float) -> int | None:
    """Return the first epoch whose mean loss is below `threshold`; None if there is none. It is never guessed."""
    return next((row.epoch for row in history if row.loss_mean < threshold), None)


def seconds_below(history: Sequence[EpochRow], threshold: float) -> float | None:
    """Return the seconds of training up to the end of the first epoch below `threshold`; None if there is none."""
    reached = first_epoch_below(history, threshold)
    return math.fsum(row.seconds for row in history[:reached]) if reached else None


def softmax_floor(num_classes: int) -> float:
    """Return the least cross-entropy of a softmax's output: -ln(e / (e + C - 1)), 1.4612 for C = 10 classes.

    Cross-entropy applies its own log-softmax; probabilities are at most 1 and at least 0, so the right class gets at
    most e / (e + C - 1) there.
    """
    return -math.log(math.e / (math.e + num_classes - 1))
