"""One sweep as the report sees it: read from its folder once, each run with the name of its configuration."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from digits_sweep.config.keys import results_of, written
from digits_sweep.report.analysis.formatting import cell
from digits_sweep.report.analysis.plausible import implausible
from digits_sweep.results.columns import COLUMNS, ColumnRole
from digits_sweep.results.manifest import Manifest
from digits_sweep.results.record import Record, Status
from digits_sweep.results.summary import history_of, table_of
from digits_sweep.results.sweep import RecordedSweep, read_sweep

# What a run has in place of a key that its model, optimizer or data set does not have.
NOT_SET = "not set"
# Two runs of one configuration differ in the seed; the batch size is in every configuration's name.
NO_PART_OF_THE_NAME = ("seed", "batch_size")


@dataclass(frozen=True)
class Study:
    """A sweep: `runs` is `load_sweep`'s table and `history` `load_history`'s, both with a column `configuration`.

    `runs` also has a column for every key that may change a result and that no column of the summary covers, such as
    `data.scale`; its cells are text. `predictions` has a row for every run that was evaluated and a column for every
    class: how many test digits the run predicts to be of that class. `records` has the whole record of every run
    whose record can be read, by the name of its folder.
    """

    folder: Path
    runs: pd.DataFrame
    history: pd.DataFrame
    predictions: pd.DataFrame
    records: dict[str, Record]
    manifest: Manifest | None


def load_study(folder: Path | str) -> Study:
    """Read the sweep in `folder`. A record that cannot be read has a row in `runs` with the reason.

    Raises `UnreadableRecord` if the folder holds no sweep: neither a `sweep.json` that can be read nor a run.
    """
    return study_of(read_sweep(Path(folder)))


def study_of(sweep: RecordedSweep) -> Study:
    """Return the study of a sweep whose records have been read.

    A run that `implausible` names is in `runs` as one whose record cannot be read, and nowhere else.
    """
    table, history = table_of(sweep), history_of(sweep)
    refused = implausible(table, history, sweep.records)
    records = {name: record for name, record in sweep.records.items() if name not in refused}
    runs = with_configurations(_with_other_keys(_without(table, refused), records))
    history = history[~history["run_dir"].isin(list(refused))]
    history = history.assign(configuration=history["run_dir"].map(runs.set_index("run_dir")["configuration"]))
    predictions = {name: record.test_answers for name, record in records.items() if record.test_answers}
    return Study(
        folder=sweep.folder,
        runs=runs,
        history=history,
        predictions=pd.DataFrame.from_dict(predictions, orient="index"),
        records=records,
        manifest=sweep.manifest,
    )


def _without(table: pd.DataFrame, refused: dict[str, str]) -> pd.DataFrame:
    """Return the table with the rows of some runs emptied, but for the folder and the reason."""
    rows = table["run_dir"].isin(list(refused))
    if not rows.any():
        return table
    kept = table.copy()
    kept.loc[rows, list(table.columns.drop("run_dir"))] = pd.NA
    kept.loc[rows, "status"] = str(Status.FAILED)
    kept.loc[rows, "error"] = table["run_dir"].map(refused)
    return kept


def _with_other_keys(table: pd.DataFrame, records: dict[str, Record]) -> pd.DataFrame:
    """Add a column for every key that may change a result and that no column covers, a cell a run."""
    covered = {key for column in COLUMNS for key in column.keys}
    configs = {name: results_of(record.config) for name, record in records.items()}
    keys = dict.fromkeys(key for config in configs.values() for key in config if key not in covered)
    rows = [configs.get(name) for name in table["run_dir"]]
    cells: dict[str, Any] = {key: [_text(row, key) for row in rows] for key in keys}
    return table.assign(**cells)


def _text(config: dict[str, Any] | None, key: str) -> str | None:
    """Return the value of a key as text; None if the run's record cannot be read."""
    if config is None:
        return None
    return written(config[key]) if key in config else NOT_SET


def settings(runs: pd.DataFrame) -> list[str]:
    """Return the columns of a study's `runs` that are settings and may tell configurations apart."""
    roles = {column.name: column.role for column in COLUMNS}
    added = ("configuration", "sweep")
    names = [name for name in runs.columns if roles.get(name, ColumnRole.SETTING) is ColumnRole.SETTING]
    # Choices such as the optimizer come first: rates often follow from them.
    names.sort(key=lambda name: not (name in roles and pd.api.types.is_string_dtype(runs[name])))
    return [name for name in names if name not in (*NO_PART_OF_THE_NAME, *added)]


def with_configurations(runs: pd.DataFrame, leave_out: Sequence[str] = ()) -> pd.DataFrame:
    """Add the column `configuration`: a name that is the same for runs whose settings are, whatever their seeds.

    The batch size is always in the name. Another setting is if, among runs of one batch size that are the same in the
    settings named before it, it has several values; `leave_out` has settings that are never named.
    """
    named: list[str] = []
    for name in settings(runs):
        if name in leave_out or runs[name].nunique() < 2:
            continue
        if runs.groupby(["batch_size", *named], dropna=False)[name].nunique().gt(1).any():
            named.append(name)
    words = labels(named)
    return runs.assign(configuration=[_name(run, words) for _, run in runs.iterrows()])


def labels(names: Sequence[str]) -> dict[str, str]:
    """Return what the columns are called in text: `scale` for `data.scale`; the whole key if two have one ending."""
    short = {name: name.rpartition(".")[2].replace("_", " ") for name in names}
    endings = list(short.values())
    return {name: label if endings.count(label) == 1 else name for name, label in short.items()}


def _name(run: pd.Series, words: dict[str, str]) -> str:
    if pd.isna(run["batch_size"]):
        return "unreadable"
    parts = [_part(name, label, run[name]) for name, label in words.items() if not pd.isna(run[name])]
    return ", ".join([f"batch size {run['batch_size']}", *parts])


def _part(name: str, label: str, value: Any) -> str:
    """Write one setting; the text of a column, such as `sgd` or `eager`, needs no label."""
    return value if isinstance(value, str) and "." not in name else f"{label} {cell(value)}"
