"""One sweep as the report sees it: read from its folder once, its runs named by what tells them apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from digits_sweep.report.words import rate
from digits_sweep.results.files import UnreadableRecord
from digits_sweep.results.manifest import Manifest, read_manifest
from digits_sweep.results.record import Record, read_record
from digits_sweep.results.summary import load_history, load_sweep

# What makes two runs replicates of one another, beside the batch size. The first four often follow from it.
IMPLIED = ("lr", "weight_decay", "beta2", "num_threads")
CONFIGURATION = (
    *IMPLIED, "dataset", "train_samples", "model", "hidden_size", "optimizer", "engine", "device", "loss_threshold",
)  # fmt: skip


@dataclass(frozen=True)
class Study:
    """A sweep: `runs` is `load_sweep`'s table and `history` `load_history`'s, both with a column `configuration`.

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
    runs = with_configurations(load_sweep(folder))
    configuration_of = runs.set_index("run_dir")["configuration"]
    history = load_history(folder)
    history["configuration"] = history["run_dir"].map(configuration_of)
    records = {}
    for name in runs["run_dir"]:
        try:
            records[name] = read_record(folder / name)
        except UnreadableRecord:
            continue
    try:
        manifest = read_manifest(folder)
    except UnreadableRecord:
        manifest = None
    return Study(folder, runs, history, records, manifest)


def with_configurations(runs: pd.DataFrame, told_by: Sequence[str] = CONFIGURATION) -> pd.DataFrame:
    """`runs` (as `load_sweep` gives them) with a column `configuration`: what the runs are called, seeds apart.

    The batch size always, and whatever else of `told_by` differs; the rates only where one batch size has several.
    """
    others = [name for name in told_by if name not in IMPLIED and runs[name].nunique() > 1]
    implied: list[str] = []
    for name in IMPLIED:
        alike = runs.groupby(["batch_size", *others, *implied], dropna=False)[name]
        implied += [name] if name in told_by and alike.nunique().gt(1).any() else []
    return runs.assign(configuration=[_name(run, implied + others) for _, run in runs.iterrows()])


def _name(run: pd.Series, others: list[str]) -> str:
    if pd.isna(run["batch_size"]):
        return "unreadable"
    parts = [f"batch size {run['batch_size']}"]
    for name in others:
        value = run[name]
        text = rate(value) if isinstance(value, float) else str(value)
        parts.append(text if isinstance(value, str) else f"{name.replace('_', ' ')} {text}")
    return ", ".join(parts)
