"""The files of a run that grow while it trains, and are cut back to what was committed when it is resumed."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from digits_sweep.results import changes
from digits_sweep.results.files import HISTORY_BYTES, read_file, replace_file
from digits_sweep.results.losses import (
    LOSSES_FILE,
    SIZE,
    SIZES_FILE,
    Losses,
    LossesFile,
    Sizes,
    mean_of_last,
    read_losses,
    read_sizes,
    sizes_from,
    window_of,
)
from digits_sweep.results.record import (
    EVALUATIONS_FILE,
    HISTORY_FILE,
    MEASURES_FILE,
    EpochRow,
    EvaluationRow,
    MeasureRow,
    Row,
    Written,
    header_of,
    rows_as_csv,
    rows_of,
)
from digits_sweep.results.run import committed

# Far above that of any file of rows.
LONGEST_HEADER = 1_000


def write_rows(path: Path, kind: type, rows: Sequence[Any]) -> Written:
    """Write a CSV file of rows of the dataclass `kind`, in place of what is there; return how much that is.

    Raises OSError if it cannot be written.
    """
    content = header_of(kind) + rows_as_csv(rows)
    replace_file(path, content)
    return Written(len(content), zlib.crc32(content))


class _RowsFile:
    """A CSV file of rows of the dataclass `kind`, to which rows are appended.

    One that an earlier version of this program began goes on with the columns that it has.
    """

    def __init__(self, path: Path, kind: type) -> None:
        self.path, self.kind = path, kind
        self.written, self.columns = Written(0, 0), len(fields(kind))

    def create(self) -> None:
        """Start an empty file, in place of what is there."""
        self.written, self.columns = write_rows(self.path, self.kind, ()), len(fields(self.kind))

    def restore(self, written: Written) -> None:
        """Cut the file back to what was `written`. Raises OSError if that fails."""
        self.written = written
        changes.shorten(self.path, written.bytes)
        changes.flush(self.path)
        self.columns = read_file(self.path, HISTORY_BYTES, LONGEST_HEADER).partition(b"\n")[0].count(b",") + 1

    def append(self, rows: Sequence[Any]) -> None:
        """Append rows, and wait until they are on the disk. Raises OSError if that fails."""
        content = rows_as_csv(rows, self.columns)
        changes.append(self.path, content)
        changes.flush(self.path)
        self.written = Written(self.written.bytes + len(content), zlib.crc32(content, self.written.crc32))


class RunWriter:
    """Writes what grows beside the record of a run: `losses.npy`, `evaluations.csv` and `history.csv`.

    If iterations have any sizes, because the loop is the user's or the batch grows, the running loss is over a `window`
    of examples and there is `examples.npy` too; of a loop of the user's, there may be `measures.csv`. The row of an
    epoch is written once its losses and its evaluations are on the disk: whoever reads the row finds them. `written`
    says how much of each file is there.
    """

    def __init__(self, run_dir: Path, batch_size: int, num_samples: int | None, window: int | None = None) -> None:
        self.run_dir, self.batch_size, self.num_samples = run_dir, batch_size, num_samples
        self.window = window or window_of(num_samples)
        self._losses = LossesFile(run_dir)
        self._sizes = LossesFile(run_dir, SIZES_FILE, SIZE) if window else None
        self._history = _RowsFile(run_dir / HISTORY_FILE, EpochRow)
        self._evaluations = _RowsFile(run_dir / EVALUATIONS_FILE, EvaluationRow)
        self._measures = _RowsFile(run_dir / MEASURES_FILE, MeasureRow)
        # The last losses, which running losses are made of, with their examples, and how many there were in all.
        self._recent: Losses = np.empty(0, dtype="<f4")
        self._recent_sizes: Sizes = np.empty(0, dtype=np.int64)
        self._iterations = 0

    @property
    def written(self) -> dict[str, Written]:
        """How much of each file belongs to the run, by its name."""
        files = {LOSSES_FILE: self._losses.written, HISTORY_FILE: self._history.written}
        if self._sizes:
            files[SIZES_FILE] = self._sizes.written
        return files | {file.path.name: file.written for file in self._if_any() if file.written.bytes}

    def _if_any(self) -> tuple[_RowsFile, _RowsFile]:
        return self._evaluations, self._measures

    def create(self) -> None:
        """Start empty files. Raises OSError if they cannot be written."""
        self._losses.create()
        if self._sizes:
            self._sizes.create()
        self._history.create()
        for file in self._if_any():
            changes.remove(file.path)

    def restore(self, written: Mapping[str, Written]) -> Losses:
        """Cut the files back to what was `written`, and return the losses. Raises `UnreadableRecord`, OSError."""
        losses = self._losses.restore(written[LOSSES_FILE])
        sizes = self._sizes.restore(written[SIZES_FILE]).astype(np.int64) if self._sizes else None
        self._follow(losses, sizes)
        for file in (self._history, *self._if_any()):
            if file.path.name in written:
                file.restore(written[file.path.name])
            else:
                changes.remove(file.path)
        return losses

    def append(
        self,
        row: EpochRow,
        losses: Losses,
        evaluations: Sequence[EvaluationRow],
        sizes: Sizes | None = None,
        measures: Sequence[MeasureRow] = (),
    ) -> None:
        """Write an epoch: its row, its (iterations,) losses, and the evaluations since the one before.

        `sizes` are the (iterations,) examples of a run whose iterations are sized. All is on the disk when this
        returns. Raises OSError if that fails.
        """
        self._losses.append(losses)
        if self._sizes and sizes is not None:
            self._sizes.append(sizes)
        recent = self._follow(losses, sizes)
        self._add([self._with_running_loss(each, *recent) for each in evaluations], measures)
        self._history.append([row])

    def add(self, evaluations: Sequence[EvaluationRow], measures: Sequence[MeasureRow] = ()) -> None:
        """Write evaluations since the last epoch. Raises OSError if that fails."""
        recent = self._recent, self._recent_sizes
        self._add([self._with_running_loss(each, *recent) for each in evaluations], measures)

    def _add(self, evaluations: Sequence[EvaluationRow], measures: Sequence[MeasureRow]) -> None:
        for file, rows in zip(self._if_any(), (evaluations, measures), strict=True):
            if rows:
                if not file.written.bytes:
                    file.create()
                file.append(rows)

    def _follow(self, losses: Losses, sizes: Sizes | None) -> tuple[Losses, Sizes]:
        """Take new losses, and return them behind those that a running loss at one of them needs, with their sizes."""
        if sizes is None:
            sizes = sizes_from(self._iterations, len(losses), self.batch_size, self.num_samples or self.batch_size)
        self._iterations += len(losses)
        recent, recent_sizes = np.concatenate([self._recent, losses]), np.concatenate([self._recent_sizes, sizes])
        needed = int(np.searchsorted(np.cumsum(recent_sizes[::-1]), self.window)) + 1
        self._recent, self._recent_sizes = recent[-needed:], recent_sizes[-needed:]
        return recent, recent_sizes

    def _with_running_loss(self, row: EvaluationRow, recent: Losses, sizes: Sizes) -> EvaluationRow:
        """Return an evaluation with the running loss that it had; `recent` are the last losses of all."""
        if row.iterations > self._iterations:
            return row
        until = len(recent) - (self._iterations - row.iterations)
        return replace(row, running_loss=mean_of_last(recent[:until], sizes[:until], self.window))


def read_committed(run_dir: Path, written: Mapping[str, Written]) -> tuple[list[EpochRow], list[EvaluationRow]]:
    """Read the epochs and evaluations that were `written`.

    Raises `UnreadableRecord` if they, the losses or the examples of iterations are missing or others.
    """
    read_losses(run_dir, written.get(LOSSES_FILE, Written(0, 0)))
    if SIZES_FILE in written:
        read_sizes(run_dir, written[SIZES_FILE])
    return _rows(run_dir, HISTORY_FILE, EpochRow, written), _rows(run_dir, EVALUATIONS_FILE, EvaluationRow, written)


def _rows(run_dir: Path, name: str, kind: type[Row], written: Mapping[str, Written]) -> list[Row]:
    if name not in written:
        return []
    content = committed(read_file(run_dir / name, HISTORY_BYTES, written[name].bytes), written[name], name)
    return rows_of(content, kind, name)
