"""What an earlier process left of a run, as far as it can be trusted."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch

from digits_sweep.config.keys import differing
from digits_sweep.config.schema import Config
from digits_sweep.errors import CannotResume, NewerFormat, UnreadableRecord
from digits_sweep.results.disk.files import previous, remove_leftovers, set_aside
from digits_sweep.results.disk.harmless import in_few_lines
from digits_sweep.results.run.evaluations import EvaluationRow
from digits_sweep.results.run.history import EpochRow
from digits_sweep.results.run.record import NAME as RECORD
from digits_sweep.results.run.record import Record, Status, read_record
from digits_sweep.sweep.one_run.on_disk.checkpoint import NAME as CHECKPOINT
from digits_sweep.sweep.one_run.on_disk.checkpoint import Checkpoint, read_checkpoint

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
    if not any(run_dir.glob(f"{RECORD}*")):
        return None
    record = _read(read_record, run_dir, RECORD, "set aside", say)
    if record and record.status is Status.INTERRUPTED and record.error:
        say(f"{run_dir.name}: {record.error}")
    return record


def _checkpoint(run_dir: Path, say: Callable[[str], None]) -> Checkpoint | None:
    if not any(path.exists() for path in (run_dir / CHECKPOINT, previous(run_dir / CHECKPOINT))):
        return None
    found = _read(read_checkpoint, run_dir, CHECKPOINT, "set aside, the run starts again", say)
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
            raise CannotResume(f"{run_dir}: a checkpoint of format 1 without its {RECORD}; restore that file")
        return record
    if record is None:
        return committed
    if record.run_id != committed.run_id:
        raise CannotResume(f"{run_dir}: {RECORD} and {CHECKPOINT} belong to different runs; restore the right file")
    return record if record.summary.get("iterations") == checkpoint.iterations else committed


def _refuse_another_run(record: Record, config: Config, run_dir: Path) -> None:
    if found := differing(record.config, config):
        raise CannotResume(in_few_lines([f"{run_dir}: {line}" for line in found]))
