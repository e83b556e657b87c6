"""The files of a run that trains, in the order in which an epoch is committed."""

from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import torch

from digits_sweep.results.disk import changes
from digits_sweep.results.disk.files import replace_file
from digits_sweep.results.disk.growing_file import GrowingFile
from digits_sweep.results.run import evaluations as all_evaluations
from digits_sweep.results.run import history as histories
from digits_sweep.results.run import losses as all_losses
from digits_sweep.results.run.evaluations import EvaluationRow
from digits_sweep.results.run.history import EpochRow, as_csv, header_of
from digits_sweep.results.run.losses import Losses, LossesFile
from digits_sweep.results.run.record import Record, write_record
from digits_sweep.sweep.one_run.on_disk.checkpoint import NAME as CHECKPOINT
from digits_sweep.sweep.one_run.on_disk.checkpoint import checkpoint_content, history_tensor
from digits_sweep.training.engines.protocol import Engine


class RunFiles:
    """Writes what an epoch resulted in, so that a run which is stopped anywhere resumes to the same bits.

    First the losses, which nothing else holds; then the checkpoint, which commits the epoch; then what can be made of
    the checkpoint again: `history.csv`, `evaluations.csv` if the run is evaluated, and `record.json`. Waiting for the
    disk takes as long as all the rest, so something else is done meanwhile; `settle` waits, once the run has ended.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.losses = LossesFile(run_dir)
        self.history = GrowingFile(run_dir / histories.NAME, start=header_of(EpochRow))
        self.evaluations = GrowingFile(run_dir / all_evaluations.NAME, start=header_of(EvaluationRow))
        self._evaluated = 0
        self._flushed: Future[None] | None = None
        # Grows by a row an epoch: what an epoch costs must not depend on how many there were.
        self._epochs = history_tensor([])

    def restore(
        self, record: Record, history: Sequence[EpochRow], evaluations: Sequence[EvaluationRow], iterations: int
    ) -> Losses:
        """Bring the files to what is committed, write the record, and return the (iterations,) losses so far.

        Losses that are missing are NaN.
        """
        losses = self.losses.restore(iterations)
        self._epochs = history_tensor(history)
        self.history.restore(as_csv(history, EpochRow))
        if evaluations or self.evaluations.path.exists():
            self.evaluations.restore(as_csv(evaluations, EvaluationRow))
            self._evaluated = len(evaluations)
        self._write_record(record)
        return losses

    def commit(
        self,
        engine: Engine,
        record: Record,
        history: Sequence[EpochRow],
        evaluations: Sequence[EvaluationRow],
        losses: torch.Tensor,
    ) -> None:
        """Record the last epoch of `history` with its (iterations,) `losses`. Raises OSError if that fails."""
        self.settle()
        self.losses.append(losses.numpy())
        self._flushed = changes.in_background(self.losses.flush)
        self._epochs = torch.cat([self._epochs, history_tensor(history[-1:])])
        checkpoint = checkpoint_content(engine, self._epochs, record, self.losses.count, evaluations)
        self.settle()
        replace_file(self.run_dir / CHECKPOINT, checkpoint, keep_previous=True, flushes_folder=False)
        self.history.append(as_csv(history[-1:], EpochRow))
        self.note(record, evaluations)
        self._flushed = changes.in_background(partial(changes.flush_folder, self.run_dir))

    def settle(self) -> None:
        """Wait until everything is on the disk. Raises OSError if something cannot be."""
        flushed, self._flushed = self._flushed, None
        if flushed is not None:
            flushed.result()

    def note(self, record: Record, evaluations: Sequence[EvaluationRow]) -> None:
        """Write what can be made of the checkpoint again: new evaluations, and the record."""
        if new := evaluations[self._evaluated :]:
            if not self.evaluations.size:
                self.evaluations.restore(b"")
            self.evaluations.append(as_csv(new, EvaluationRow))
            self._evaluated = len(evaluations)
        self._write_record(record)

    def _write_record(self, record: Record) -> None:
        record.files = {all_losses.NAME: self.losses.signature, histories.NAME: self.history.signature}
        if self.evaluations.size:
            record.files[all_evaluations.NAME] = self.evaluations.signature
        write_record(self.run_dir, record)
