"""The sweep of a run: one in a folder that several programs record in, or one that has started this program.

The former is this program's to write. The latter says which run it is, what it may be, and where it ends.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from digits_sweep.config.keys import value_of
from digits_sweep.config.own_command import RUN
from digits_sweep.config.text import to_text
from digits_sweep.errors import CannotRecord
from digits_sweep.recorder.arguments import plain
from digits_sweep.results.columns import COLUMNS
from digits_sweep.results.files import OLD_SECONDS, make_folder, remove_leftovers
from digits_sweep.results.lock import only_writer
from digits_sweep.results.record import Record, read_record
from digits_sweep.results.sweep import (
    MANIFEST_FILE,
    RecordedSweep,
    new_manifest,
    next_counter,
    publish_summary,
    read_manifest,
    write_manifest,
)
from digits_sweep.training.schedule import Schedule


def add_run(sweep_dir: Path, record: Record) -> None:
    """Write a run into `sweep.json`, which is made if there is none, and its number, from 0, into its record.

    Raises `CannotRecord` if the folder is a sweep of this program's own, OSError if it cannot be written.
    """
    make_folder(sweep_dir)
    with only_writer(sweep_dir, waits=lambda line: None):
        # What a killed process left: nobody else writes here meanwhile.
        remove_leftovers(sweep_dir)
        remove_leftovers(_outputs(sweep_dir), OLD_SECONDS)
        has_one, folder = (sweep_dir / MANIFEST_FILE).exists(), str(record.folder)
        manifest = read_manifest(sweep_dir) if has_one else new_manifest(next_counter(_outputs(sweep_dir)))
        if manifest.command or manifest.datasets:
            raise CannotRecord(f"{sweep_dir}: a sweep of python -m digits_sweep; choose another folder")
        if folder not in manifest.runs:
            manifest = replace(manifest, runs=[*manifest.runs, folder])
            write_manifest(sweep_dir, manifest)
        record.number = manifest.runs.index(folder)


def publish(sweep_dir: Path) -> None:
    """Rebuild `summary.csv` and `targets.csv` of the sweep, and of its outputs folder if it is the newest there."""
    with only_writer(sweep_dir, waits=lambda line: None):
        publish_summary(RecordedSweep(sweep_dir), _outputs(sweep_dir))


def _outputs(sweep_dir: Path) -> Path:
    return sweep_dir.absolute().parent.parent


NO_FOLDER = (
    "Recorder() without a folder: name one, such as outputs/sweeps/mine, or let a sweep start this program: "
    "python -m digits_sweep -m command='python train.py' data.batch_size=100,20"
)


def run_of_a_sweep() -> tuple[Path, Record]:
    """Return the folder and the record of the run that a sweep has started this process for.

    Raises `CannotRecord` if no sweep has, and `UnreadableRecord` if its record cannot be read.
    """
    if not (folder := os.environ.get(RUN, "")):
        raise CannotRecord(NO_FOLDER)
    return Path(folder), read_record(Path(folder))


def refuse_otherwise(config: dict[str, Any], passed: Mapping[str, Any]) -> None:
    """Raise `CannotRecord` if a program passes `Recorder` something else than its sweep started it with.

    None stands for what it leaves to the sweep.
    """
    keys = {column.name: column.keys[0] for column in COLUMNS if column.keys}
    values = {keys[name]: value for name, value in passed.items() if name in keys}
    values |= {f"model.arguments.{name}": value for name, value in passed["settings"].items()}
    for name, value in passed["targets"].items():
        thresholds = plain(value)
        values[f"evaluation.targets.{name}"] = thresholds if isinstance(thresholds, list) else [thresholds]
    for key, given in values.items():
        planned, value = value_of(config, key), plain(given)
        if value is not None and value != planned:
            right = f"the sweep has {key}={to_text(planned)}; leave it out of Recorder(), or type it for the sweep"
            raise CannotRecord(f"{key}={to_text(value)}: {right}")


def due(config: dict[str, Any], train_samples: int, batch_size: int, done: int) -> bool:
    """Return whether the sweep wants an evaluation after so many iterations, as its own runs have it."""
    every, doubling = (value_of(config, f"evaluation.{key}") for key in ("every_examples", "per_doubling"))
    schedule = Schedule(train_samples, batch_size, every, doubling)
    return schedule.pauses and (done == 0 or bool(schedule.between(done - 1, done)))
