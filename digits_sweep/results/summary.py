"""From the records of a sweep to one table: a row a run, always rebuilt, never appended to."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd

from digits_sweep.errors import UnreadableRecord
from digits_sweep.results.columns import COLUMNS
from digits_sweep.results.files import replace_file
from digits_sweep.results.history import EpochRow, read_history
from digits_sweep.results.record import Record, Status
from digits_sweep.results.sweep import RecordedSweep

# What pandas raises if a value is not of its column's type.
UNFITTING = (ValueError, TypeError, OverflowError)


def load_sweep(sweep_dir: Path | str) -> pd.DataFrame:
    """Return the table of a sweep, from the records in its run folders: a row a run, as wide as `COLUMNS`.

    A run that never got below the threshold has NA in `first_epoch_below_threshold`; a run whose record cannot be read
    is there as `failed`, with its folder and what is wrong. `run_dir` is relative to the sweep's folder.
    """
    return table_of(RecordedSweep(Path(sweep_dir)))


def table_of(sweep: RecordedSweep) -> pd.DataFrame:
    """Return the table of a sweep that has been read, as `load_sweep` does."""
    rows = [_row(name, record) for name, record in sweep.records.items()]
    rows += [_unreadable(name, why) for name, why in sorted(sweep.unreadable.items())]
    try:
        return _table(rows)
    except UNFITTING:
        return _table([_fitting(row) for row in rows])


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    types = {column.name: column.dtype for column in COLUMNS}
    return pd.DataFrame(rows, columns=list(types)).astype(types)


def load_history(sweep_dir: Path | str) -> pd.DataFrame:
    """Return every epoch of every run of a sweep: `run_dir` and the columns of `history.csv`, in the table's order.

    A run whose history cannot be read has no row.
    """
    return history_of(RecordedSweep(Path(sweep_dir)))


def history_of(sweep: RecordedSweep) -> pd.DataFrame:
    """Return the epochs of a sweep that has been read, as `load_history` does."""
    rows = [{"run_dir": name, **asdict(row)} for name in sweep.records for row in _epochs(sweep.folder / name)]
    types = {each.name: each.type for each in fields(EpochRow)}
    return pd.DataFrame(rows, columns=["run_dir", *types]).astype(types)


def _epochs(folder: Path) -> list[EpochRow]:
    try:
        return read_history(folder)
    except UnreadableRecord:
        return []


def _row(name: str, record: Record) -> dict[str, Any]:
    """Return a run's cells: what its record has, and what is known of the record itself."""
    return {
        **record.summary,
        "status": str(record.status),
        "run_dir": name,
        "resumes": len(record.resumed_after),
        "error": record.error.strip().splitlines()[-1] if record.error and record.error.strip() else None,
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


def publish_summary(sweep: RecordedSweep, outputs: Path) -> pd.DataFrame:
    """Rebuild the sweep's own `summary.csv` and put it at `outputs/summary.csv` too; return the latter.

    `run_dir` is relative to the folder of the table. Raises OSError if one of the two cannot be written.
    """
    table = table_of(sweep)
    replace_file(sweep.folder / "summary.csv", table.to_csv(index=False, lineterminator="\n"))
    outputs.mkdir(parents=True, exist_ok=True)
    folders = pd.array([_relative(sweep.folder / name, outputs) for name in table["run_dir"]], dtype="string")
    published = table.assign(run_dir=folders)
    replace_file(outputs / "summary.csv", published.to_csv(index=False, lineterminator="\n"))
    return published


def _relative(folder: Path, start: Path) -> str:
    folder, start = folder.resolve(), start.resolve()
    return folder.relative_to(start).as_posix() if folder.is_relative_to(start) else folder.as_posix()
