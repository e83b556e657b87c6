"""The files of a run that grow while it trains, and are cut back to what was committed when it is resumed."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from digits_sweep.results import changes
from digits_sweep.results.files import HISTORY_BYTES, read_file, replace_file
from digits_sweep.results.losses import LOSSES_FILE, Losses, LossesFile, read_losses, recent_iterations, running_loss
from digits_sweep.results.record import (
    EVALUATIONS_FILE,
    HISTORY_FILE,
    EpochRow,
    EvaluationRow,
    Row,
    Written,
    header_of,
    rows_as_csv,
    rows_of,
)
from digits_sweep.results.run import committed


def write_rows(path: Path, kind: type, rows: Sequence[Any]) -> Written:
    """Write a CSV file of rows of the dataclass `kind`, in place of what is there; return how much that is.

    Raises OSError if it cannot be written.
    """
    content = header_of(kind) + rows_as_csv(rows)
    replace_file(path, content)
    return Written(len(content), zlib.crc32(content))


class _RowsFile:
    """A CSV file of rows of the dataclass `kind`, to which rows are appended."""

    def __init__(self, path: Path, kind: type) -> None:
        self.path, self.kind = path, kind
        self.written = Written(0, 0)

    def create(self) -> None:
        """Start an empty file, in place of what is there."""
        self.written = write_rows(self.path, self.kind, ())

    def append(self, rows: Sequence[Any]) -> None:
        """Append rows, and wait until they are on the disk. Raises OSError if that fails."""
        content = rows_as_csv(rows)
        changes.append(self.path, content)
        changes.flush(self.path)
        self.written = Written(self.written.bytes + len(content), zlib.crc32(content, self.written.crc32))


class RunWriter:
    """Writes what grows beside the record of a run: `losses.npy`, `evaluations.csv` and `history.csv`.

    The row of an epoch is written once its losses and its evaluations are on the disk: whoever reads the row finds
    them. `written` says how much of each file is there.
    """

    def __init__(self, run_dir: Path, batch_size: int, num_samples: int) -> None:
        self.run_dir, self.batch_size, self.num_samples = run_dir, batch_size, num_samples
        self._losses = LossesFile(run_dir)
        self._history = _RowsFile(run_dir / HISTORY_FILE, EpochRow)
        self._evaluations = _RowsFile(run_dir / EVALUATIONS_FILE, EvaluationRow)
        # The last losses, which running losses are made of, and how many there were in all.
        self._recent: Losses = np.empty(0, dtype="<f4")
        self._iterations = 0

    @property
    def written(self) -> dict[str, Written]:
        """How much of each file belongs to the run, by its name."""
        files = {LOSSES_FILE: self._losses.written, HISTORY_FILE: self._history.written}
        if self._evaluations.written.bytes:
            files[EVALUATIONS_FILE] = self._evaluations.written
        return files

    def create(self) -> None:
        """Start empty files. Raises OSError if they cannot be written."""
        self._losses.create()
        self._history.create()
        changes.remove(self._evaluations.path)

    def restore(self, written: Mapping[str, Written]) -> Losses:
        """Cut the files back to what was `written`, and return the losses. Raises `UnreadableRecord`, OSError."""
        losses = self._losses.restore(written[LOSSES_FILE])
        self._follow(losses)
        for file in (self._history, self._evaluations):
            if file.path.name in written:
                file.written = written[file.path.name]
                changes.shorten(file.path, file.written.bytes)
                changes.flush(file.path)
            else:
                changes.remove(file.path)
        return losses

    def append(self, row: EpochRow, losses: Losses, evaluations: Sequence[EvaluationRow]) -> None:
        """Write an epoch: its row, its (iterations,) losses, and the evaluations since the one before.

        All is on the disk when this returns. Raises OSError if that fails.
        """
        self._losses.append(losses)
        recent = self._follow(losses)
        self._add([self._with_running_loss(each, recent) for each in evaluations])
        self._history.append([row])

    def add(self, evaluations: Sequence[EvaluationRow]) -> None:
        """Write evaluations since the last epoch. Raises OSError if that fails."""
        self._add([self._with_running_loss(each, self._recent) for each in evaluations])

    def _add(self, evaluations: Sequence[EvaluationRow]) -> None:
        if evaluations:
            if not self._evaluations.written.bytes:
                self._evaluations.create()
            self._evaluations.append(evaluations)

    def _follow(self, losses: Losses) -> Losses:
        """Take new losses, and return them behind those that a running loss at one of them needs."""
        recent = np.concatenate([self._recent, losses])
        self._iterations += len(losses)
        self._recent = recent[-recent_iterations(self.batch_size, self.num_samples) :]
        return recent

    def _with_running_loss(self, row: EvaluationRow, recent: Losses) -> EvaluationRow:
        """Return an evaluation with the running loss that it had; `recent` are the last losses of all."""
        if row.iterations > self._iterations:
            return row
        until = len(recent) - (self._iterations - row.iterations)
        loss = running_loss(recent[:until], row.iterations, self.batch_size, self.num_samples)
        return replace(row, running_loss=loss)


def read_committed(run_dir: Path, written: Mapping[str, Written]) -> tuple[list[EpochRow], list[EvaluationRow]]:
    """Read the epochs and evaluations that were `written`.

    Raises `UnreadableRecord` if they, or the losses, are missing or others.
    """
    read_losses(run_dir, written.get(LOSSES_FILE, Written(0, 0)))
    return _rows(run_dir, HISTORY_FILE, EpochRow, written), _rows(run_dir, EVALUATIONS_FILE, EvaluationRow, written)


def _rows(run_dir: Path, name: str, kind: type[Row], written: Mapping[str, Written]) -> list[Row]:
    if name not in written:
        return []
    content = committed(read_file(run_dir / name, HISTORY_BYTES), written[name], name)
    return rows_of(content, kind, name)
