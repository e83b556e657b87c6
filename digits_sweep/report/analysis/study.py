"""One sweep as the report sees it: read from its folder once, each run with the name of its configuration."""

import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from digits_sweep.config.keys import results_of
from digits_sweep.config.text import to_text
from digits_sweep.report.analysis.configurations import with_configurations
from digits_sweep.report.analysis.curves.critical import Critical, load_critical
from digits_sweep.report.analysis.goal import Goal, goal_of, with_goal
from digits_sweep.report.analysis.plausible import implausible
from digits_sweep.results.columns import COVERED
from digits_sweep.results.record import EvaluationRow, Record, Status
from digits_sweep.results.sweep import Manifest, RecordedSweep, history_of, read_sweep, table_of, targets_in
from digits_sweep.results.targets import targets_table

# What a run has in place of a key that its model, optimizer or data set does not have.
NOT_SET = "not set"


# Two are the same if they are the same object: tables have no equality that is true or false.
@dataclass(frozen=True, eq=False)
class Study:
    """A sweep: `runs` is `load_sweep`'s table and `history` `load_history`'s, both with a column `configuration`.

    `runs` also has a column for every key that may change a result and that no column of the summary covers, such as
    `data.scale`; its cells are text. `predictions` has a row for every run that was evaluated and a column for every
    class: how many test digits the run predicts to be of that class. `targets` has the columns of `targets.csv`, and
    `evaluations` those of `evaluations.csv` with `run_dir` and `configuration`. `goal` is what the runs are ranked by;
    the columns of `runs` that `with_goal` adds say how far each had to train. `records` has the whole record of every
    run whose record can be read, by the name of its folder. `critical` is what a study of the critical batch size has
    besides.
    """

    folder: Path
    runs: pd.DataFrame
    history: pd.DataFrame
    predictions: pd.DataFrame
    targets: pd.DataFrame
    evaluations: pd.DataFrame
    goal: Goal
    records: dict[str, Record]
    manifest: Manifest | None
    critical: Critical | None = None


def load_study(folder: os.PathLike[str] | str) -> Study:
    """Read the sweep in `folder`. A record that cannot be read has a row in `runs` with the reason.

    Raises `UnreadableRecord` if the folder holds no sweep: neither a `sweep.json` that can be read nor a run.
    """
    return study_of(read_sweep(Path(folder)))


def study_of(sweep: RecordedSweep) -> Study:
    """Return the study of a sweep whose records have been read.

    A run that `implausible` names is in `runs` as one whose record cannot be read, and nowhere else.
    """
    table, history = table_of(sweep), history_of(sweep)
    recorded = {name: run.record for name, run in sweep.runs.items()}
    refused = implausible(table, history, recorded)
    records = {name: record for name, record in recorded.items() if name not in refused}
    runs = with_configurations(_with_other_keys(_without(table, refused), records))
    names = runs.set_index("run_dir")["configuration"]
    tables = (history, _evaluations(sweep), targets_table(list(targets_in(sweep))))
    history, evaluations, targets = (table[~table["run_dir"].isin(list(refused))] for table in tables)
    goal = goal_of(runs, targets)
    predictions = {name: record.test_answers for name, record in records.items() if record.test_answers}
    return Study(
        folder=sweep.folder,
        runs=with_goal(runs, targets, goal),
        history=history.assign(configuration=history["run_dir"].map(names)),
        predictions=pd.DataFrame.from_dict(predictions, orient="index"),
        targets=targets,
        evaluations=evaluations.assign(configuration=evaluations["run_dir"].map(names)),
        goal=goal,
        records=records,
        manifest=sweep.manifest,
        critical=load_critical(sweep.folder),
    )


def _evaluations(sweep: RecordedSweep) -> pd.DataFrame:
    rows = [{"run_dir": run.name, **asdict(row)} for run in sweep.runs.values() for row in run.evaluations]
    names = [each.name for each in fields(EvaluationRow)]
    return pd.DataFrame(rows, columns=["run_dir", *names]).astype(dict.fromkeys(names, float))


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
    configs = {name: results_of(record.config) for name, record in records.items()}
    keys = dict.fromkeys(key for config in configs.values() for key in config if key not in COVERED)
    rows = [configs.get(name) for name in table["run_dir"]]
    cells: dict[str, Any] = {key: [_text(row, key) for row in rows] for key in keys}
    return table.assign(**cells)


def _text(config: dict[str, Any] | None, key: str) -> str | None:
    """Return the value of a key as text; None if the run's record cannot be read."""
    if config is None:
        return None
    return to_text(config[key]) if key in config else NOT_SET
