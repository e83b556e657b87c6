"""What an earlier process left of a run: its record and its last checkpoint, as far as they can be trusted."""

from collections.abc import Callable
from pathlib import Path

import torch

from digits_sweep.config.keys import differing
from digits_sweep.config.schema import Config
from digits_sweep.errors import CannotResume, UnreadableRecord
from digits_sweep.results.files import remove_leftovers, set_aside
from digits_sweep.results.record import Record, Status, read_record
from digits_sweep.sweep.checkpoint import NAME, Checkpoint, read_checkpoint


def load_run_state(
    config: Config, run_dir: Path, number: int, say: Callable[[str], None]
) -> tuple[Record, Checkpoint | None]:
    """Load the record in `run_dir`, or create one, and load the last checkpoint if there is one.

    A damaged file is reported through `say` and the one before it is used; if there is none before it, it is set aside
    under another name and the run starts again. Raises `CannotResume` if the run in `run_dir` has another
    configuration, with the keys that differ.
    """
    remove_leftovers(run_dir)
    if not any(run_dir.glob("record.json*")):
        return Record(number), None
    try:
        record = read_record(run_dir)
    except UnreadableRecord as error:
        _set_aside(run_dir, error, say, "record.json", "history.csv", NAME)
        return Record(number), None
    if record.status is Status.INTERRUPTED and record.error:
        say(f"{run_dir.name}: {record.error}")
    if found := differing(record.config, config):
        raise CannotResume("\n".join(f"{run_dir}: {line}" for line in found))
    if (before := record.summary.get("torch_version")) != torch.__version__:
        say(f"{run_dir.name}: started with torch {before}; the last digits may differ with torch {torch.__version__}")
    return record, _checkpoint(run_dir, record, say)


def _checkpoint(run_dir: Path, record: Record, say: Callable[[str], None]) -> Checkpoint | None:
    if not (run_dir / NAME).exists() and record.summary.get("epochs", 0) == 0:
        return None
    try:
        checkpoint, damage = read_checkpoint(run_dir)
    except UnreadableRecord as error:
        _set_aside(run_dir, error, say, "history.csv", NAME)
        return None
    if damage:
        say(f"{run_dir.name}: {damage}; using the one before it, after epoch {len(checkpoint.history)}")
    return checkpoint


def _set_aside(run_dir: Path, error: UnreadableRecord, say: Callable[[str], None], *names: str) -> None:
    say(f"{run_dir.name}: {error}; set aside, the run starts again")
    for name in names:
        set_aside(run_dir / name)
