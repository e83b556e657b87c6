"""A run's epochs: `history.csv`, and what they amount to."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

from digits_sweep.errors import UnreadableRecord
from digits_sweep.results.disk.files import replace_file
from digits_sweep.results.disk.growing_file import read_rows
from digits_sweep.results.disk.reading import parse_csv, reason_of

NAME = "history.csv"


@dataclass(frozen=True)
class EpochRow:
    """One row of `history.csv`: mean and standard deviation of the iterations' losses, and the time in seconds.

    The last epoch of a run that ended within it is not `complete`.
    """

    epoch: int
    loss_mean: float
    loss_std: float
    seconds: float
    examples_per_second: float
    complete: bool = True


def as_csv(rows: Sequence[Any], kind: type) -> bytes:
    """Return rows of the dataclass `kind` as lines of a CSV file, without its header."""
    text = io.StringIO()
    csv.DictWriter(text, [each.name for each in fields(kind)], lineterminator="\n").writerows(map(asdict, rows))
    return text.getvalue().encode()


def header_of(kind: type) -> bytes:
    """Return the first line of a CSV file of rows of the dataclass `kind`."""
    return (",".join(each.name for each in fields(kind)) + "\n").encode()


def write_history(folder: Path, history: Sequence[EpochRow]) -> None:
    """Replace `history.csv` in `folder`. Raises OSError if it cannot be written."""
    replace_file(folder / NAME, header_of(EpochRow) + as_csv(history, EpochRow))


def read_history(folder: Path, signature: dict[str, Any] | None = None) -> list[EpochRow]:
    """Read the epochs in `history.csv`, from the first; with a record's `signature`, those that it says are there.

    Raises `UnreadableRecord` if they cannot be read, or are others.
    """
    return read_rows(folder / NAME, signature, history_from)


def history_from(content: bytes, name: str) -> list[EpochRow]:
    """Return the epochs of a CSV file's `content`. Raises `UnreadableRecord`, which names the file `name`."""
    names = [each.name for each in fields(EpochRow)]
    # Before format 3 of the record every epoch was complete.
    is_new = content.startswith(header_of(EpochRow))
    rows = parse_csv(content, name, names if is_new else names[:-1])
    try:
        history = [_row(**row) for row in rows]
    except (ValueError, KeyError) as error:
        raise UnreadableRecord(f"{name}: {reason_of(error)}") from error
    if [row.epoch for row in history] != list(range(1, len(history) + 1)):
        raise UnreadableRecord(f"{name}: its epochs do not count up from 1")
    return history


def _row(epoch: str, complete: str = "True", **figures: str) -> EpochRow:
    numbers = {name: float(text) for name, text in figures.items()}
    return EpochRow(int(epoch), **numbers, complete={"True": True, "False": False}[complete])


def seconds_per_epoch(history: Sequence[EpochRow], resumed_after: Sequence[int]) -> float | None:
    """Return the median seconds of the epochs that are not the first of their process; of all if there are no others.

    The run's first epoch, and those that follow an epoch in `resumed_after`, pay for warming up. Only complete epochs
    count; None if there is none.
    """
    first = {1} | {epoch + 1 for epoch in resumed_after}
    complete = [row for row in history if row.complete]
    seconds = [row.seconds for row in complete if row.epoch not in first] or [row.seconds for row in complete]
    return median(seconds) if seconds else None


def first_epoch_below(history: Sequence[EpochRow], threshold: float) -> int | None:
    """Return the first epoch whose mean loss is below `threshold`; None if there is none. It is never guessed."""
    return next((row.epoch for row in history if row.complete and row.loss_mean < threshold), None)


def seconds_until(history: Sequence[EpochRow], iterations: int, iterations_per_epoch: int, trained: int) -> float:
    """Return the seconds of training up to an iteration, counted from 1, of a run that has `trained` so many.

    An epoch's seconds are shared out evenly over its iterations.
    """
    epochs, rest = divmod(iterations, iterations_per_epoch)
    whole = math.fsum(row.seconds for row in history[:epochs])
    of_epoch = min(iterations_per_epoch, trained - epochs * iterations_per_epoch)
    return whole + (history[epochs].seconds * rest / of_epoch if rest else 0.0)


def softmax_floor(num_classes: int) -> float:
    """Return the least cross-entropy of a softmax's output: -ln(e / (e + C - 1)), 1.4612 for C = 10 classes.

    Cross-entropy applies its own log-softmax; probabilities are at most 1 and at least 0, so the right class gets at
    most e / (e + C - 1) there.
    """
    return -math.log(math.e / (math.e + num_classes - 1))
