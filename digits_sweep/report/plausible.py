"""Which runs can be counted: a record with a right checksum may still hold what no run results in."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import pandas as pd

from digits_sweep.config.keys import KEY, results_of, value_of
from digits_sweep.config.schema import SHARE, number_between, whole_number
from digits_sweep.config.text import to_text
from digits_sweep.results.columns import COLUMNS, LIMITS, OWN_LOOP
from digits_sweep.results.record import LONGEST_VALUE, MOST_CLASSES, MOST_KEYS, Record

# Columns that a study adds to the table of the runs: no key may be called so.
ADDED = (
    *("configuration", "sweep", "never_predicted", "reached"),
    *("examples_to_goal", "iterations_to_goal", "seconds_to_goal", "own_seconds_to_goal", "lateness"),
)
# The range of every number that is computed with, besides those of the limits. Products of two whole numbers still fit
# 64 bits.
COUNT, SECONDS = whole_number(1, 10**9), number_between(1e-12, 1e12)
RULES = LIMITS | {
    "seconds_per_epoch": SECONDS,
    "first_epoch_below_threshold": COUNT,
    "seconds_to_threshold": SECONDS,
    "epochs": whole_number(0, 10**9),
    "iterations_per_epoch": COUNT,
    "iterations_to_threshold": whole_number(1, 10**15),
    "examples_to_threshold": whole_number(1, 10**15),
    "seconds_first_epoch": SECONDS,
    "test_accuracy": SHARE,
    "concurrent_runs": COUNT,
}
# What a run that trained for an epoch has; of a loop of the user's, the batch size alone is known to be there.
TRAINED = ["batch_size", "lr", "weight_decay", "seconds_per_epoch", "iterations_per_epoch"]


def implausible(runs: pd.DataFrame, history: pd.DataFrame, records: dict[str, Record]) -> dict[str, str]:
    """Return why, for every run that cannot be counted, by the name of its folder.

    `runs` and `history` are the tables of a sweep, `records` its records.
    """
    found: dict[str, str] = {}
    epochs = dict(iter(history.groupby("run_dir")))
    for run in runs.to_dict("records"):
        name = str(run["run_dir"])
        if name in records:
            doubts = chain(
                _in_record(records[name]), _in_history(epochs.get(name), _has_own_loss(records[name])), _in_row(run)
            )
            if doubt := next(doubts, None):
                found[name] = doubt
    return found


def _in_record(record: Record) -> Iterator[str]:
    keys = results_of(record.config)
    if len(keys) > MOST_KEYS:
        yield f"record.json: a configuration of {len(keys):,} keys"
    names = {column.name for column in COLUMNS} - {"seed", "device", "num_threads"}
    for key, value in list(keys.items())[:MOST_KEYS]:
        if not KEY.fullmatch(str(key)) or key in names or key in ADDED:
            yield f"record.json: {key[:40]!r} is no key of a configuration"
        elif len(to_text(value)) > LONGEST_VALUE:
            yield f"record.json: {key} has {len(to_text(value)):,} characters"
    answers = record.test_answers or []
    if len(answers) > MOST_CLASSES or not all(type(each) is int and 0 <= each < 2**53 for each in answers):
        yield f"record.json: test_answers are not counts of at most {MOST_CLASSES:,} classes"


def _in_row(run: dict[Any, Any]) -> Iterator[str]:
    trained = not pd.isna(run["epochs"]) and run["epochs"] > 0
    needed = TRAINED[:1] if run["engine"] == OWN_LOOP else TRAINED
    if not pd.isna(run["batch_schedule"]):
        # Its epochs differ in their iterations.
        needed = [name for name in needed if name != "iterations_per_epoch"]
    for name, rule in RULES.items():
        if pd.isna(value := run[name]):
            if trained and name in needed:
                yield f"record.json: {name} is missing"
        elif not rule.holds(value):
            yield f"record.json: {name} is {to_text(value)}"
    if trained and not pd.isna(first := run["first_epoch_below_threshold"]) and first > run["epochs"]:
        yield f"record.json: below the threshold in epoch {first} of {run['epochs']}"


def _has_own_loss(record: Record) -> bool:
    """Return whether a run's loss is the user's, and may be below 0."""
    return OWN_LOOP in (record.engine, value_of(record.config, "engine.name")) or (
        value_of(record.config, "loss.name") == "own"
    )


def _in_history(epochs: pd.DataFrame | None, has_own_loss: bool) -> Iterator[str]:
    if epochs is not None and not all(map(SECONDS.holds, epochs["seconds"])):
        yield "history.csv: an epoch took no time, or no number of seconds"
    if epochs is not None and not has_own_loss and (epochs["loss_mean"] < 0).any():
        yield "history.csv: a loss below 0"
