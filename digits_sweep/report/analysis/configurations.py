"""Name the configurations of a sweep: the same name for the seeds of one configuration, and for nothing else."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from digits_sweep.report.analysis.sentences.formatting import RATES, setting
from digits_sweep.report.language import said
from digits_sweep.results.columns import COLUMNS, ColumnRole

# Two runs of one configuration differ in the seed; the batch size is in every configuration's name; a rule is where the
# numbers come from, and two that give the same numbers are one configuration.
NO_PART_OF_THE_NAME = ("seed", "batch_size", "rule")
# Columns that the analysis adds to the table of the runs.
ADDED = (
    *("configuration", "sweep", "never_predicted"),
    *("examples_to_goal", "iterations_to_goal", "seconds_to_goal", "own_seconds_to_goal"),
)
NAMES_OF_CHOICES = {column.name for column in COLUMNS for key in column.keys if key.endswith(".name")} | {"device"}


def settings(runs: pd.DataFrame) -> list[str]:
    """Return the columns of a study's `runs` that are settings and may tell configurations apart."""
    roles = {column.name: column.role for column in COLUMNS}
    names = [name for name in runs.columns if roles.get(name, ColumnRole.SETTING) is ColumnRole.SETTING]
    # Choices such as the optimizer come first: rates often follow from them.
    names.sort(key=lambda name: not (name in roles and pd.api.types.is_string_dtype(runs[name])))
    return [name for name in names if name not in (*NO_PART_OF_THE_NAME, *ADDED)]


def with_configurations(runs: pd.DataFrame, leave_out: Sequence[str] = ()) -> pd.DataFrame:
    """Add the column `configuration`: a name that is the same for runs whose settings are, whatever their seeds.

    The batch size is always in the name, and what `telling_apart` returns.
    """
    words = labels(telling_apart(runs, leave_out))
    return runs.assign(configuration=[_name(run, words) for _, run in with_short_rates(runs).iterrows()])


def with_short_rates(runs: pd.DataFrame) -> pd.DataFrame:
    """Return `runs` with rates that a rule has computed as 2.2361e-5, if that still tells them apart."""
    short = {
        name: runs[name].map(lambda rate: float(f"{rate:.5g}"), na_action="ignore") for name in RATES if name in runs
    }
    return runs.assign(**{name: rates for name, rates in short.items() if rates.nunique() == runs[name].nunique()})


def telling_apart(runs: pd.DataFrame, leave_out: Sequence[str] = (), within: Sequence[str] = ()) -> list[str]:
    """Return the settings that tell the configurations of one batch size apart; `leave_out` has some that never do.

    A setting does if, among runs of one batch size that are the same in the settings returned before it, it has several
    values. `within` names further columns in which these runs are the same.
    """
    named: list[str] = []
    for name in settings(runs):
        if name in leave_out or runs[name].nunique() < 2:
            continue
        if runs.groupby(["batch_size", *within, *named], dropna=False)[name].nunique().gt(1).any():
            named.append(name)
    return named


def labels(names: Sequence[str]) -> dict[str, str]:
    """Return what the columns are called in text: `scale` for `data.scale`; the whole key if two have one ending."""
    short = {name: name.rpartition(".")[2].replace("_", " ") for name in names}
    endings = list(short.values())
    return {name: label if endings.count(label) == 1 else name for name, label in short.items()}


def _name(run: pd.Series, words: dict[str, str]) -> str:
    if pd.isna(run["batch_size"]):
        return said("unreadable")
    parts = [level(name, label, run[name]) for name, label in words.items() if not pd.isna(run[name])]
    return ", ".join([said("batch size {size}", size=run["batch_size"]), *parts])


def shortened(configuration: str) -> str:
    """Return the name of a configuration without the words in front of its batch size."""
    return configuration.removeprefix(said("batch size {size}", size=""))


def level(name: str, label: str, value: Any) -> str:
    """Write one setting; the name of a choice, such as `sgd` or `eager`, needs no label."""
    return value if name in NAMES_OF_CHOICES else f"{label} {setting(name, value)}"
