"""From the records of a sweep to one table: a row a run, always rebuilt, never appended to."""

import os
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from digits_sweep.config.keys import results_of
from digits_sweep.config.rules import LOSSES
from digits_sweep.config.schema import TargetsConfig
from digits_sweep.results.columns import COLUMNS, cell_of, settings_of, swept_keys
from digits_sweep.results.disk.files import replace_file
from digits_sweep.results.disk.harmless import as_csv
from digits_sweep.results.manifest import sweeps_in
from digits_sweep.results.run.evaluations import NAME as EVALUATIONS
from digits_sweep.results.run.history import EpochRow
from digits_sweep.results.run.record import Record, Status
from digits_sweep.results.run.targets import TargetRow, targets_of, write_targets
from digits_sweep.results.sweep import RecordedSweep, read_sweep

# What pandas raises if a value is not of its column's type.
UNFITTING = (ValueError, TypeError, OverflowError)


def load_sweep(sweep_dir: os.PathLike[str] | str) -> pd.DataFrame:
    """Return the table of a sweep, from the records in its run folders: a row a run.

    Its columns are `COLUMNS`, then one by its full name for each key that was swept and has none there, as text.
    A run that never got below the threshold has NA in `first_epoch_below_threshold`; a run whose record cannot be read
    is there as `failed`, with its folder and what is wrong. `run_dir` is relative to the sweep's folder. Raises
    `UnreadableRecord` if the folder is no sweep's.
    """
    return table_of(read_sweep(Path(sweep_dir)))


def table_of(sweep: RecordedSweep) -> pd.DataFrame:
    """Return the table of a sweep that has been read, as `load_sweep` does."""
    # A completed run keeps its number of epochs if the sweep grows: that is no second value.
    planned = [config for config in sweep.manifest.configs if config] if sweep.manifest else []
    swept = swept_keys(planned or [record.config for record in sweep.records.values()])
    rows = [_row(name, record, swept, sweep.misfits.get(name)) for name, record in sweep.records.items()]
    rows += [_unreadable(name, why) for name, why in sorted(sweep.unreadable.items())]
    try:
        return _table(rows, swept)
    except UNFITTING:
        return _table([_fitting(row) for row in rows], swept)


def _table(rows: list[dict[str, Any]], swept: Sequence[str] = ()) -> pd.DataFrame:
    types = {column.name: column.dtype for column in COLUMNS} | dict.fromkeys(swept, "string")
    # A whole number beyond 64 bits is refused by pandas; NumPy's warning before that helps nobody.
    with np.errstate(invalid="ignore"):
        return pd.DataFrame(rows, columns=list(types)).astype(types)


def load_history(sweep_dir: os.PathLike[str] | str) -> pd.DataFrame:
    """Return every epoch of every run of a sweep: `run_dir` and the columns of `history.csv`, in the table's order.

    A run whose history cannot be read has no row.
    """
    return history_of(read_sweep(Path(sweep_dir)))


def history_of(sweep: RecordedSweep) -> pd.DataFrame:
    """Return the epochs of a sweep that has been read, as `load_history` does."""
    rows = [{"run_dir": name, **asdict(row)} for name in sweep.records for row in sweep.histories[name]]
    types = {each.name: each.type for each in fields(EpochRow)}
    return pd.DataFrame(rows, columns=["run_dir", *types]).astype(types)


def _row(name: str, record: Record, swept: Sequence[str], misfit: str | None) -> dict[str, Any]:
    """Return a run's cells: what its record has, the keys that were swept, and what is known of the record itself."""
    config = results_of(record.config)
    return {
        **settings_of(record),
        **record.summary,
        **{key: cell_of(config, key) for key in swept},
        "status": str(record.status),
        "run_dir": name,
        "resumes": len(record.resumed_after),
        "error": "; ".join(filter(None, [record.error_line, misfit])) or None,
    }


def _fitting(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row, or if a cell is not of its column's type the row that says so."""
    try:
        _table([row])
    except UNFITTING as error:
        return _unreadable(row["run_dir"], f"record.json: {error}")
    return row


def _unreadable(name: str, why: str) -> dict[str, Any]:
    return {"status": str(Status.FAILED), "run_dir": name, "error": why.splitlines()[0]}


def publish_summary(sweep: RecordedSweep, outputs: Path) -> bool:
    """Rebuild the sweep's own `summary.csv` and `targets.csv`, and `outputs/summary.csv` if it is the newest there.

    Return whether it is. `run_dir` is relative to the folder of the table. Raises OSError if one of the two cannot be
    written.
    """
    table = table_of(sweep)
    _write(sweep.folder / "summary.csv", table)
    if targets := targets_in(sweep):
        write_targets(sweep.folder, targets)
    sweeps = sweeps_in(outputs)
    if not sweeps or sweeps[-1].resolve() != sweep.folder.resolve():
        return False
    folders = pd.array([_relative(sweep.folder / name, outputs) for name in table["run_dir"]], dtype="string")
    _write(outputs / "summary.csv", table.assign(run_dir=folders))
    return True


def targets_in(sweep: RecordedSweep) -> list[TargetRow]:
    """Return a row for every target of every run that is evaluated, reached or not."""
    found: list[TargetRow] = []
    for name, record in sweep.records.items():
        if name in sweep.evaluations and record.files.get(EVALUATIONS):
            found += targets_of(name, _targets_asked(record), sweep.evaluations[name])
    return found


def _targets_asked(record: Record) -> dict[str, list[float]]:
    """Return the thresholds in a record's configuration; what is no list of numbers above 0 is none."""
    keys = results_of(record.config)
    asked = {each.name: keys.get(f"evaluation.targets.{each.name}") for each in fields(TargetsConfig)}
    return {name: list(values or ()) for name, values in asked.items() if _are_thresholds(values)}


def _are_thresholds(values: Any) -> bool:
    numbers = isinstance(values, list) and all(type(each) in (int, float) for each in values)
    return numbers and bool(LOSSES.holds(values))


def _write(path: Path, table: pd.DataFrame) -> None:
    replace_file(path, as_csv(table), durable=False)


def _relative(folder: Path, start: Path) -> str:
    folder, start = folder.resolve(), start.resolve()
    return folder.relative_to(start).as_posix() if folder.is_relative_to(start) else folder.as_posix()
