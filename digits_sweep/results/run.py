"""A run as its folder has it: the record, the epochs, the evaluations, and what follows from them."""

import math
import zlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from digits_sweep.config.keys import value_of
from digits_sweep.errors import UnreadableRecord
from digits_sweep.results.columns import OWN_LOOP, cells_of
from digits_sweep.results.files import HISTORY_BYTES, read_file
from digits_sweep.results.losses import (
    LOSSES_FILE,
    SIZES_FILE,
    Crossing,
    Losses,
    RunningLoss,
    Sizes,
    mean_of_last,
    read_losses,
    read_sizes,
    window_of,
)
from digits_sweep.results.record import (
    EVALUATIONS_FILE,
    HISTORY_FILE,
    MEASURES_FILE,
    MOST_ROWS,
    EpochRow,
    EvaluationRow,
    MeasureRow,
    Record,
    Row,
    Status,
    Written,
    read_record,
    rows_of,
)

# As many examples as a record may name.
MOST_EXAMPLES = 10**9


@dataclass
class RecordedRun:
    """A run's record with its epochs, its evaluations, and what a loop of the user's measured besides.

    `misfits` has the reason for every file beside the record that cannot be read or is not what the record says, by the
    file's name: what would follow from it is not known.
    """

    folder: Path
    record: Record
    history: list[EpochRow] = field(default_factory=list)
    evaluations: list[EvaluationRow] = field(default_factory=list)
    measures: list[MeasureRow] = field(default_factory=list)
    misfits: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.name

    @property
    def misfit(self) -> str | None:
        """The reasons for everything that does not fit its record, in one line; None if all does."""
        return "; ".join(self.misfits.values()) or None

    @property
    def status(self) -> Status:
        """The run's status; unknown if it has ended and its results cannot be read."""
        return Status.UNKNOWN if self.record.status.has_ended and self.misfits else self.record.status

    def number(self, key: str) -> Any:
        """Return the value of a key of its configuration, or None if that is no number."""
        value = value_of(self.record.config, key)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    @property
    def batch_size(self) -> int | None:
        """The examples of an iteration, or None if its configuration does not say them."""
        value = value_of(self.record.config, "data.batch_size")
        return value if type(value) is int and 0 < value <= MOST_EXAMPLES else None

    @property
    def epochs(self) -> int:
        """How many epochs are finished."""
        return sum(row.complete for row in self.history)

    @property
    def iterations(self) -> int:
        """How many iterations it has trained."""
        return self.history[-1].iterations if self.history else 0

    @property
    def iterations_per_epoch(self) -> int | None:
        """The iterations of a whole epoch; None before its data set is known, and if the batch grows."""
        batch_size, samples = None if self.grows else self.batch_size, self.record.train_samples
        return math.ceil(samples / batch_size) if samples and batch_size else None

    @property
    def grows(self) -> bool:
        """Whether its batch grows; `batch_size` is the size that it begins with then."""
        return value_of(self.record.config, "schedule.batch") is not None

    @cached_property
    def final_loss(self) -> float | None:
        """The mean loss of the last epoch; of a loop without epochs, over its last window, or all if it has fewer."""
        read = None if self.has_epochs else self._of_iterations
        if read is None or read[1] is None:
            return self.history[-1].loss_mean if self.history else None
        return mean_of_last(*read, min(self.window or 1, int(read[1].sum())))  # type: ignore[arg-type]

    @property
    def window(self) -> int | None:
        """The examples that its running loss is a mean over; None before its data set is known."""
        own, samples = self.number("trainer.window"), self.record.train_samples
        if own and 1 <= own <= MOST_EXAMPLES:
            return int(own)
        return window_of(samples) if samples or self.record.engine == OWN_LOOP else None

    @property
    def has_epochs(self) -> bool:
        """Whether it trains in epochs: a loop of the user's may have none."""
        is_own = self.record.engine == OWN_LOOP
        return not is_own or self.record.train_samples is not None or any(row.complete for row in self.history)

    @property
    def seconds_per_epoch(self) -> float | None:
        """The median seconds of the epochs that are not the first of their process; of all if there are no others.

        The run's first epoch, and those that follow a resume, pay for warming up. Only complete epochs count; None if
        there is none.
        """
        first = {1} | {epoch + 1 for epoch in self.record.resumed_after}
        complete = [row for row in self.history if row.complete]
        seconds = [row.seconds for row in complete if row.epoch not in first] or [row.seconds for row in complete]
        return median(seconds) if seconds else None

    @property
    def first_epoch_below_threshold(self) -> int | None:
        """The first epoch whose mean loss is below `trainer.loss_threshold`; None if there is none: never guessed."""
        if (threshold := self.number("trainer.loss_threshold")) is None:
            return None
        return next((row.epoch for row in self.history if row.complete and row.loss_mean < threshold), None)

    @cached_property
    def crossing(self) -> Crossing | None:
        """Where the running loss is first below `trainer.loss_threshold`, read from `losses.npy`; None if nowhere.

        If that cannot be read, it is one of the `misfits`.
        """
        batch_size, samples = self.batch_size, self.record.train_samples
        threshold = self.number("trainer.loss_threshold")
        if threshold is None or not batch_size or (read := self._of_iterations) is None:
            return None
        losses, sizes = read
        if not self.window or (sizes is None and not samples):
            return None
        running, start = RunningLoss(batch_size, samples, threshold, self.window), 0
        for row in self.history:
            epoch = slice(start, row.iterations)
            if crossing := running.follow(losses[epoch], None if sizes is None else sizes[epoch]):
                return crossing
            start = row.iterations
        return None

    @cached_property
    def _of_iterations(self) -> tuple[Losses, Sizes | None] | None:
        """The losses, and the examples if these do not follow from batch size and training set; None: not known."""
        if not self.iterations:
            return None
        files, name = self.record.files, LOSSES_FILE
        try:
            losses = read_losses(self.folder, files.get(name), self.iterations)
            name = SIZES_FILE
            if name not in files and not (self.folder / name).exists():
                return losses, None
            return losses, read_sizes(self.folder, files.get(name), self.iterations)
        except UnreadableRecord as error:
            self.misfits[name] = str(error)
            return None

    def seconds_until(self, iterations: int) -> float:
        """Return the seconds of training up to an iteration, counted from 1.

        An epoch's seconds are shared out evenly over its iterations.
        """
        whole = [row for row in self.history if row.iterations <= iterations]
        seconds = math.fsum(row.seconds for row in whole)
        before = whole[-1].iterations if whole else 0
        if before < iterations:
            row = self.history[len(whole)]
            seconds += row.seconds * (iterations - before) / (row.iterations - before)
        return seconds

    @cached_property
    def row(self) -> dict[str, Any]:
        """Its cells of `summary.csv`, by the name of the column."""
        return cells_of(self)


def read_run(folder: Path, most_rows: int = MOST_ROWS) -> RecordedRun:
    """Read the run in `folder`; more than `most_rows` epochs and evaluations are one of its misfits.

    Raises `UnreadableRecord` if its record cannot be read.
    """
    run = RecordedRun(folder, read_record(folder))
    run.history = with_counts(_rows(run, HISTORY_FILE, EpochRow, most_rows), run)
    run.evaluations = _rows(run, EVALUATIONS_FILE, EvaluationRow, most_rows - len(run.history))
    run.measures = _rows(run, MEASURES_FILE, MeasureRow, most_rows - len(run.history) - len(run.evaluations))
    return run


def _rows(run: RecordedRun, name: str, kind: type[Row], most_rows: int) -> list[Row]:
    """Read a file of rows beside the record; what is wrong with it is one of the run's misfits."""
    path, written = run.folder / name, run.record.files.get(name)
    if written is None and not path.exists():
        return []
    try:
        content = read_file(path, HISTORY_BYTES, written.bytes if written else None)
        if written:
            content = committed(content, written, name)
        return rows_of(content, kind, name, has_ended=written is not None, most_rows=most_rows)
    except UnreadableRecord as error:
        run.misfits[name] = str(error)
        return []


def committed(content: bytes, written: Written, name: str) -> bytes:
    """Return of a file's `content` what was `written`. Raises `UnreadableRecord` if it is something else."""
    content = content[: written.bytes]
    if Written(len(content), zlib.crc32(content)) != written:
        raise UnreadableRecord(f"{name}: does not fit record.json")
    return content


def with_counts(history: list[EpochRow], run: RecordedRun) -> list[EpochRow]:
    """Return the epochs with the iterations and examples up to their ends, which format 3 did not write."""
    per_epoch, samples, batch_size = run.iterations_per_epoch, run.record.train_samples, run.batch_size
    if not history or history[-1].iterations or not per_epoch or not samples or not batch_size:
        return history
    filled = [replace(row, iterations=row.epoch * per_epoch, examples=row.epoch * samples) for row in history]
    if not (last := filled[-1]).complete:
        trained = round(last.seconds * last.examples_per_second)
        iterations, examples = last.iterations - per_epoch, last.examples - samples
        filled[-1] = replace(last, iterations=iterations + math.ceil(trained / batch_size), examples=examples + trained)
    return filled
