"""The files of a run that trains, in the order in which an epoch is committed."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from digits_sweep.config.keys import differing
from digits_sweep.config.schema import Config
from digits_sweep.errors import CannotResume, NewerFormat, UnreadableRecord, first_lines
from digits_sweep.results import changes
from digits_sweep.results import losses as all_losses
from digits_sweep.results import record as all_evaluations
from digits_sweep.results import record as histories
from digits_sweep.results.files import GrowingFile, previous, remove_leftovers, replace_file, set_aside
from digits_sweep.results.losses import Losses, LossesFile
from digits_sweep.results.record import (
    RECORD_FILE,
    EpochRow,
    EvaluationRow,
    Record,
    Status,
    as_csv,
    header_of,
    read_record,
    write_record,
)
from digits_sweep.sweep.checkpoint import (
    CHECKPOINT_FILE,
    Checkpoint,
    checkpoint_content,
    history_tensor,
    read_checkpoint,
)
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
        self.history = GrowingFile(run_dir / histories.HISTORY_FILE, start=header_of(EpochRow))
        self.evaluations = GrowingFile(run_dir / all_evaluations.EVALUATIONS_FILE, start=header_of(EvaluationRow))
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
        replace_file(self.run_dir / CHECKPOINT_FILE, checkpoint, keep_previous=True, flushes_folder=False)
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
        record.files = {all_losses.LOSSES_FILE: self.losses.signature, histories.HISTORY_FILE: self.history.signature}
        if self.evaluations.size:
            record.files[all_evaluations.EVALUATIONS_FILE] = self.evaluations.signature
        write_record(self.run_dir, record)


Content = TypeVar("Content")


@dataclass
class RunState:
    """A run's record, the last checkpoint if an epoch was finished, and the epochs and evaluations so far."""

    record: Record
    checkpoint: Checkpoint | None = None
    history: list[EpochRow] = field(default_factory=list)
    evaluations: list[EvaluationRow] = field(default_factory=list)


def load_run_state(config: Config, run_dir: Path, number: int, say: Callable[[str], None]) -> RunState:
    """Load the state of the run in `run_dir`, or create one.

    The checkpoint decides: a record that does not belong to its epoch, or that is damaged or missing, is replaced by
    the one in the checkpoint. A damaged checkpoint is reported through `say` and the one before it is used; if there
    is none, what cannot be used is set aside under a free name and the run starts again. Raises `CannotResume` if the
    run in `run_dir` has another configuration, was written by a newer version of this program, or is two runs mixed.
    """
    remove_leftovers(run_dir)
    record, checkpoint = _record(run_dir, say), _checkpoint(run_dir, say)
    if checkpoint is None:
        if record is None:
            return RunState(Record(number, folder=run_dir.name))
        _refuse_another_run(record, config, run_dir)
        if record.epochs:
            say(f"{run_dir.name}: there is no checkpoint for its {record.epochs} epochs; it starts again")
            return RunState(Record(number, folder=run_dir.name))
        return RunState(record)
    record = _of_the_checkpoint(record, checkpoint, run_dir, say)
    _refuse_another_run(record, config, run_dir)
    before = (record.environment.get("torch") or torch.__version__).partition("+")[0]
    if before != torch.__version__.partition("+")[0]:
        say(f"{run_dir.name}: trained with torch {before}; the last digits may differ with torch {torch.__version__}")
    return RunState(record, checkpoint, list(checkpoint.history), list(checkpoint.evaluations))


def _record(run_dir: Path, say: Callable[[str], None]) -> Record | None:
    if not any(run_dir.glob(f"{RECORD_FILE}*")):
        return None
    record = _read(read_record, run_dir, RECORD_FILE, "set aside", say)
    if record and record.status is Status.INTERRUPTED and record.error:
        say(f"{run_dir.name}: {record.error}")
    return record


def _checkpoint(run_dir: Path, say: Callable[[str], None]) -> Checkpoint | None:
    if not any(path.exists() for path in (run_dir / CHECKPOINT_FILE, previous(run_dir / CHECKPOINT_FILE))):
        return None
    found = _read(read_checkpoint, run_dir, CHECKPOINT_FILE, "set aside, the run starts again", say)
    if found is None:
        return None
    checkpoint, damage = found
    if damage:
        say(f"{run_dir.name}: {damage}; using the one before it, after epoch {len(checkpoint.history)}")
    return checkpoint


def _read(
    read: Callable[[Path], Content], run_dir: Path, name: str, consequence: str, say: Callable[[str], None]
) -> Content | None:
    """Return what `read` finds in `run_dir`; a file `name` that it cannot read is set aside, and None returned."""
    try:
        return read(run_dir)
    except NewerFormat as error:
        raise CannotResume(f"{run_dir}: {error}; resume it with the version that wrote it") from error
    except UnreadableRecord as error:
        say(f"{run_dir.name}: {error}; {consequence}")
        set_aside(run_dir / name)
        return None


def _of_the_checkpoint(
    record: Record | None, checkpoint: Checkpoint, run_dir: Path, say: Callable[[str], None]
) -> Record:
    """Return the record that belongs to the checkpoint's epoch: the one on disk, or the one in the checkpoint."""
    committed = checkpoint.record
    if committed is None:
        if record is None:
            raise CannotResume(f"{run_dir}: a checkpoint of format 1 without its {RECORD_FILE}; restore that file")
        return record
    if record is None:
        return committed
    if record.run_id != committed.run_id:
        raise CannotResume(
            f"{run_dir}: {RECORD_FILE} and {CHECKPOINT_FILE} belong to different runs; restore the right file"
        )
    return record if record.summary.get("iterations") == checkpoint.iterations else committed


def _refuse_another_run(record: Record, config: Config, run_dir: Path) -> None:
    if found := differing(record.config, config):
        raise CannotResume(first_lines([f"{run_dir}: {line}" for line in found]))
