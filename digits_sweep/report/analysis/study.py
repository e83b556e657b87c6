"""One sweep as the report sees it: read from its folder once, its runs named by what tells them apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from digits_sweep.report.analysis.formatting import rate
from digits_sweep.results.files import UnreadableRecord
from digits_sweep.results.record import Record, read_record, results_of
from digits_sweep.results.summary import load_history, load_sweep
from digits_sweep.results.sweep import Manifest, read_manifest

# What makes two runs replicates of one another, beside the batch size. The first four often follow from it.
IMPLIED = ("lr", "weight_decay", "beta2", "num_threads")
CONFIGURATION = (
    *IMPLIED, "dataset", "train_samples", "model", "hidden_size", "optimizer", "engine", "device", "loss_threshold",
)  # fmt: skip


# Keys of a record's configuration that a column of the summary stands for.
TOLD_BY_COLUMNS = {
    "seed", "data.batch_size", "data.name", "model.name", "model.head", "model.hidden_size", "optimizer.name",
    "optimizer.lr", "optimizer.weight_decay", "engine.name", "device", "num_threads", "trainer.loss_threshold",
}  # fmt: skip


@dataclass(frozen=True)
class Study:
    """A sweep: `runs` is `load_sweep`'s table and `history` `load_history`'s, both with a column `configuration`.

    `runs` has a column besides for every other key that may change a result, `data.scale` and its like, as text.

    `records` has the whole record of every run that can be read, by its folder's name.
    """

    folder: Path
    runs: pd.DataFrame
    history: pd.DataFrame
    records: dict[str, Record]
    manifest: Manifest | None

    @property
    def answers(self) -> pd.DataFrame:
        """How often each class was answered on the test digits: a row a run that came that far, a column a class."""
        counts = {name: record.test_answers for name, record in self.records.items() if record.test_answers}
        return pd.DataFrame.from_dict(counts, orient="index")


def load_study(folder: Path) -> Study:
    """Read the sweep in `folder`; what cannot be read is left out, and its row in `runs` says why."""
    runs = load_sweep(folder)
    records = {}
    for name in runs["run_dir"]:
        try:
            records[name] = read_record(folder / name)
        except UnreadableRecord:
            continue
    runs = with_configurations(runs.assign(**_settings(runs, records)))
    history = load_history(folder)
    history["configuration"] = history["run_dir"].map(runs.set_index("run_dir")["configuration"])
    try:
        manifest = read_manifest(folder)
    except UnreadableRecord:
        manifest = None
    return Study(folder, runs, history, records, manifest)


def _settings(runs: pd.DataFrame, records: dict[str, Record]) -> dict[str, Any]:
    """A column for every key that may change a result and has no other column, a cell a run."""
    configs = {name: results_of(record.config) for name, record in records.items()}
    keys = dict.fromkeys(key for config in configs.values() for key in config if key not in TOLD_BY_COLUMNS)
    rows = [configs.get(name, {}) for name in runs["run_dir"]]
    return {key: [str(row[key]) if key in row else None for row in rows] for key in keys if "." in key}


def with_configurations(runs: pd.DataFrame, leave_out: Sequence[str] = ()) -> pd.DataFrame:
    """`runs` (as `load_sweep` gives them) with a column `configuration`: what the runs are called, seeds apart.

    The batch size always, and whatever else differs and is not to `leave_out`; the rates, and the settings that a
    `Study`'s runs have besides, only where one batch size has several.
    """
    told_by = [name for name in (*CONFIGURATION, *settings_of(runs)) if name not in leave_out]
    others = [name for name in told_by if name in CONFIGURATION and name not in IMPLIED and runs[name].nunique() > 1]
    implied: list[str] = []
    for name in (name for name in told_by if name not in CONFIGURATION or name in IMPLIED):
        alike = runs.groupby(["batch_size", *others, *implied], dropna=False)[name]
        implied += [name] if alike.nunique().gt(1).any() else []
    return runs.assign(configuration=[_name(run, implied + others) for _, run in runs.iterrows()])


def settings_of(runs: pd.DataFrame) -> list[str]:
    """The columns of a `Study`'s runs that are keys of their configuration."""
    return [name for name in runs.columns if "." in name]


def _name(run: pd.Series, others: list[str]) -> str:
    if pd.isna(run["batch_size"]):
        return "unreadable"
    parts = [f"batch size {run['batch_size']}"]
    for name in others:
        value = run[name]
        text = rate(value) if isinstance(value, float) else str(value)
        named = "." in name or not isinstance(value, str)
        parts.append(f"{name.rpartition('.')[2].replace('_', ' ')} {text}" if named else text)
    return ", ".join(parts)
