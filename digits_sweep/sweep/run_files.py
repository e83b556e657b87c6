"""The files of a run that trains: the order in which an epoch is committed, what an earlier process left, its log."""

import io
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from digits_sweep.config.keys import differing
from digits_sweep.config.schema import Config
from digits_sweep.errors import (
    CannotResume,
    InvalidConfig,
    NewerFormat,
    UnreadableRecord,
    escape_controls,
    first_lines,
)
from digits_sweep.results import changes
from digits_sweep.results.files import (
    CHECKPOINT_BYTES,
    latest_readable,
    previous,
    remove_leftovers,
    replace_file,
    set_aside,
)
from digits_sweep.results.losses import LOSSES_FILE, SIZES_FILE, Losses, Sizes, window_of
from digits_sweep.results.record import (
    EVALUATIONS_FILE,
    HISTORY_FILE,
    RECORD_FILE,
    EpochRow,
    EvaluationRow,
    Record,
    Status,
    read_record,
)
from digits_sweep.results.run import RecordedRun, read_run
from digits_sweep.results.writing import RunWriter, read_committed
from digits_sweep.sweep.checkpoint import (
    CHECKPOINT_FILE,
    Checkpoint,
    checkpoint_content,
    checkpoint_of,
    read_checkpoint,
    state_of,
)
from digits_sweep.sweep.format_3 import OLD_CHECKPOINT_FILE, convert_run
from digits_sweep.training.engines.protocol import Engine

# What is set aside if a run cannot be resumed; its log stays.
FILES = (RECORD_FILE, HISTORY_FILE, EVALUATIONS_FILE, LOSSES_FILE, SIZES_FILE, CHECKPOINT_FILE, OLD_CHECKPOINT_FILE)


class RunFiles:
    """Writes what an epoch resulted in, so that a run which is stopped anywhere resumes to the same bits.

    First what grows beside the record, which nothing else holds; then the checkpoint, which commits the epoch. Waiting
    for the disk takes as long as all the rest, so something else is done meanwhile; `wait_for_disk` waits, once the run
    has ended.
    """

    def __init__(self, run_dir: Path, config: Config, num_samples: int, run_id: str) -> None:
        self.run_dir, self.config, self.run_id = run_dir, config, run_id
        window = window_of(num_samples) if config.schedule.batch else None
        self.writer = RunWriter(run_dir, config.data.batch_size, num_samples, window)
        self._pending: Future[None] | None = None
        self._is_tried = not any(getattr(part, "target", None) for part in (config.model, config.optimizer))

    def open(self, checkpoint: Checkpoint | None) -> Losses:
        """Bring the files to what is committed, and return the (iterations,) losses so far. Raises OSError."""
        if checkpoint:
            return self.writer.restore(checkpoint.written)
        self.writer.create()
        changes.flush_folder(self.run_dir)
        return torch.empty(0).numpy()

    def commit(
        self,
        engine: Engine,
        row: EpochRow,
        losses: Losses,
        evaluations: Sequence[EvaluationRow],
        sizes: Sizes | None = None,
    ) -> None:
        """Record an epoch: its row, its (iterations,) losses, and the evaluations since the one before.

        `sizes` are the (iterations,) examples of the iterations of a batch that grows.
        Raises OSError if that fails, and `InvalidConfig` if a checkpoint cannot hold the state of the user's own parts,
        or would be larger than what is read back.
        """
        self.wait_for_disk()
        self._pending = changes.in_background(partial(self.writer.append, row, losses, evaluations, sizes))
        state = state_of(engine, self.config)
        self.wait_for_disk()
        content = checkpoint_content(state, self.run_id, self.writer.written)
        if len(content) > CHECKPOINT_BYTES:
            reason = f"{len(content):,} bytes are more than the {CHECKPOINT_BYTES:,} that are read back"
            raise InvalidConfig(f"{CHECKPOINT_FILE}: {reason}; train a smaller network, or with plain SGD")
        if not self._is_tried:
            # Whatever their state holds can be read back, or the run fails while nothing is lost.
            checkpoint_of(content, CHECKPOINT_FILE)
            self._is_tried = True
        replace_file(self.run_dir / CHECKPOINT_FILE, content, keep_previous=True, flushes_folder=False)
        self._pending = changes.in_background(partial(changes.flush_folder, self.run_dir))

    def wait_for_disk(self) -> None:
        """Wait until everything is on the disk. Raises OSError if something cannot be."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()


@dataclass
class RunState:
    """A run as an earlier process left it, or a new one; `checkpoint` is None if no epoch was finished."""

    run: RecordedRun
    checkpoint: Checkpoint | None = None


def load_run_state(config: Config, run_dir: Path, number: int, say: Callable[[str], None]) -> RunState:
    """Load the state of the run in `run_dir`, or create one.

    A damaged checkpoint is reported through `say` and the one before it is used. If nothing can be used, all files are
    set aside in a folder of their own, and the run starts again. Raises `CannotResume` if the run in `run_dir` has
    another configuration, was written by a newer version of this program, or is two runs mixed.
    """
    remove_leftovers(run_dir)
    convert_run(run_dir)
    try:
        if state := _read_state(run_dir, say):
            refuse_another_run(run_dir, state.run.record, config)
            return state
    except NewerFormat as error:
        raise CannotResume(f"{run_dir}: {error}; resume it with the version that wrote it") from error
    except UnreadableRecord as error:
        set_run_aside(run_dir, error, say)
    return RunState(RecordedRun(run_dir, Record(number, folder=run_dir.name)))


def set_run_aside(run_dir: Path, why: UnreadableRecord, say: Callable[[str], None]) -> None:
    """Set the files of a run aside that cannot be resumed, and say so. Raises OSError if that fails."""
    say(f"{run_dir.name}: {why}; its files are in {set_aside(run_dir, FILES)}, the run starts again")


def refuse_another_run(run_dir: Path, record: Record, config: Config) -> None:
    """Raise `CannotResume`, which names the keys, if the run of `record` has another configuration than `config`."""
    if lines := differing(record.config, config):
        raise CannotResume(first_lines([f"{run_dir}: {line}" for line in lines]))


def _read_state(run_dir: Path, say: Callable[[str], None]) -> RunState | None:
    """Read what is in `run_dir`; None if nothing is. Raises `UnreadableRecord` if it is of no use."""
    has_record, has_checkpoint = (
        any(path.exists() for path in (run_dir / name, previous(run_dir / name)))
        for name in (RECORD_FILE, CHECKPOINT_FILE)
    )
    if not has_record and not has_checkpoint:
        return None
    record = read_record(run_dir)
    if record.status is Status.INTERRUPTED and record.error:
        say(f"{run_dir.name}: {record.error}")
    if not has_checkpoint:
        # A process that is killed in its first epoch may leave the row of that one.
        if (epochs := len(read_run(run_dir).history)) > 1 or record.files:
            raise UnreadableRecord(f"there is no checkpoint for its {epochs} epochs")
        return RunState(RecordedRun(run_dir, record))
    (checkpoint, run), damage = latest_readable(run_dir / CHECKPOINT_FILE, partial(_read_checkpoint, record))
    if damage:
        say(f"{run_dir.name}: {damage}; using the one before it, after epoch {len(run.history)}")
    return RunState(run, checkpoint)


def _read_checkpoint(record: Record, path: Path) -> tuple[Checkpoint, RecordedRun]:
    """Read a checkpoint and what it says is beside it."""
    checkpoint, run_dir = read_checkpoint(path), path.parent
    if checkpoint.run_id != record.run_id:
        raise CannotResume(f"{run_dir}: {RECORD_FILE} and {path.name} belong to different runs; restore the right file")
    history, evaluations = read_committed(run_dir, checkpoint.written)
    return checkpoint, RecordedRun(run_dir, record, history, evaluations)


def last_checkpoint(run_dir: Path) -> Checkpoint:
    """Read the last checkpoint in `run_dir`, or if it is damaged the one before it. Raises `UnreadableRecord`."""
    return latest_readable(run_dir / CHECKPOINT_FILE, read_checkpoint)[0]


class RunLog(logging.FileHandler):
    """The handler of the log in a run's folder, as `conf/hydra/job_logging/run_log.yaml` names it.

    Appends to a file, but to no link, pipe or file with a second name, as a folder from somebody else may hold. What
    cannot be written there is left out. Control characters are written out: logs are read on terminals.
    """

    def __init__(self, filename: str) -> None:
        super().__init__(filename, encoding="utf-8", delay=True)

    def _open(self) -> io.TextIOWrapper:
        descriptor = changes.open_own(Path(self.baseFilename), os.O_CREAT | os.O_APPEND)
        return os.fdopen(descriptor, "a", encoding=self.encoding)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, if the file can be opened."""
        with suppress(OSError):
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        return escape_controls(super().format(record))
