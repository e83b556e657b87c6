"""From the records of a sweep to one table: a row a run, always rebuilt, never appended to."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd

from digits_sweep.results.files import UnreadableRecord, replace_file
from digits_sweep.results.history import EpochRow
from digits_sweep.results.record import read_history, read_record

# Every column of summary.csv, in its order, with the type that keeps whole numbers whole and misses empty.
COLUMNS = {
    "batch_size": "Int64",
    "lr": "Float64",
    "weight_decay": "Float64",
    "seed": "Int64",
    "seconds_per_epoch": "Float64",
    "first_epoch_below_threshold": "Int64",
    "loss_threshold": "Float64",
    "seconds_to_threshold": "Float64",
    "final_loss": "Float64",
    "epochs": "Int64",
    "status": "string",
    "dataset": "string",
    "train_samples": "Int64",
    "model": "string",
    "hidden_size": "Int64",
    "optimizer": "string",
    "engine": "string",
    "device": "string",
    "num_threads": "Int64",
    "iterations_per_epoch": "Int64",
    "seconds_first_epoch": "Float64",
    "examples_per_second": "Float64",
    "test_accuracy": "Float64",
    "classes_never_predicted": "Int64",
    "concurrent_runs": "Int64",
    "torch_version": "string",
    "git_commit": "string",
    "started_at": "string",
    "run_dir": "string",
    "resumes": "Int64",
    "error": "string",
    "beta1": "Float64",
    "beta2": "Float64",
    "eps": "Float64",
}

# What pandas raises where a value is not of its column's type.
UNFITTING = (ValueError, TypeError, OverflowError)


def load_sweep(sweep_dir: Path | str) -> pd.DataFrame:
    """The table of a sweep, from the records in its run folders: a row a run in the sweep's order, `COLUMNS` wide.

    A run that never got below the threshold has NA in `first_epoch_below_threshold`; a run whose record cannot be read
    is there as `failed`, with its folder and what is wrong. `run_dir` is relative to the sweep's folder.
    """
    folders = {path.parent for path in Path(sweep_dir).glob("*/record.json*")}
    rows = sorted(map(_row, folders), key=lambda row: (row["number"], row["run_dir"]))
    try:
        return _table(rows)
    except UNFITTING:
        return _table([_fitting(row) for row in rows])


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def load_history(sweep_dir: Path | str) -> pd.DataFrame:
    """Every epoch of every run of a sweep: `run_dir` and the columns of `history.csv`, in the order of the table.

    A run whose history cannot be read has no row.
    """
    names = load_sweep(sweep_dir)["run_dir"]
    rows = [{"run_dir": name, **asdict(row)} for name in names for row in _epochs(Path(sweep_dir) / name)]
    types = {each.name: each.type for each in fields(EpochRow)}
    return pd.DataFrame(rows, columns=["run_dir", *types]).astype(types)


def _epochs(folder: Path) -> list[EpochRow]:
    try:
        return read_history(folder)
    except UnreadableRecord:
        return []


def _row(folder: Path) -> dict[str, Any]:
    """A run's cells."""
    try:
        record = read_record(folder)
    except UnreadableRecord as error:
        return _broken(folder.name, str(error))
    return {
        **record.summary,
        "status": record.status,
        "run_dir": folder.name,
        "resumes": len(record.resumed_after),
        "error": record.error.strip().splitlines()[-1] if record.error and record.error.strip() else None,
        "number": record.number,
    }


def _fitting(row: dict[str, Any]) -> dict[str, Any]:
    """The row, or where a cell is not of its column's type the one that says so."""
    try:
        _table([row])
    except UNFITTING as error:
        return _broken(row["run_dir"], f"record.json: {error}")
    return row


def _broken(name: str, why: str) -> dict[str, Any]:
    return {"status": "failed", "run_dir": name, "error": why.splitlines()[0], "number": 2**31}


def write_summary(sweep_dir: Path) -> pd.DataFrame:
    """Rebuild the sweep's own `summary.csv` and return the table. Raises OSError where it cannot be written."""
    table = load_sweep(sweep_dir)
    replace_file(sweep_dir / "summary.csv", table.to_csv(index=False, lineterminator="\n"))
    return table


def publish_summary(sweep_dir: Path, outputs: Path) -> pd.DataFrame:
    """Rebuild the sweep's own table and put it at `outputs/summary.csv` too, `run_dir` relative to `outputs`."""
    table = write_summary(sweep_dir)
    outputs.mkdir(parents=True, exist_ok=True)
    published = table.assign(run_dir=[_relative(sweep_dir / name, outputs) for name in table["run_dir"]])
    replace_file(outputs / "summary.csv", published.astype(COLUMNS).to_csv(index=False, lineterminator="\n"))
    return published


def _relative(folder: Path, start: Path) -> str:
    folder, start = folder.resolve(), start.resolve()
    return folder.relative_to(start).as_posix() if folder.is_relative_to(start) else folder.as_posix()
