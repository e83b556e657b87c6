"""The files of a study of the critical batch size.

They are `tuning.csv`, `steps_to_target.csv`, `branches.csv` and `critical_batch_size.json`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pandas as pd
from msgspec import Meta

from digits_sweep.config.schema import TargetsConfig
from digits_sweep.errors import UnreadableRecord
from digits_sweep.results.files import RECORD_BYTES, STUDY_BYTES, read_csv, read_json, replace_file
from digits_sweep.results.record import Count, Size

TUNING, STEPS, ANSWERS = "tuning.csv", "steps_to_target.csv", "critical_batch_size.json"
BRANCHES = "branches.csv"

Target = Annotated[str, Meta(pattern=f"^({'|'.join(each.name for each in fields(TargetsConfig))})$")]
Number = Annotated[float, Meta(ge=0, le=1e15)]
# Every one has a place on a logarithmic axis.
Positive = Annotated[float, Meta(gt=0, le=1e15)]
PositiveOrInfinite = Annotated[float, Meta(gt=0)]


@dataclass(frozen=True)
class Column:
    """A column of a study's table: its type in pandas, and what a cell may hold; None is an empty one."""

    dtype: str
    cell: Any


OF_A_GOAL = {"target": Column("string", Target), "threshold": Column("Float64", Positive)}
SIZE, RATE, SEED = Column("Int64", Size), Column("Float64", Positive | None), Column("Int64", Count)
STEPS_TAKEN = Column("Float64", PositiveOrInfinite | None)
TUNING_COLUMNS = {
    **{"batch_size": SIZE, "lr": RATE, "seed": SEED, **OF_A_GOAL},
    **{"reached": Column("boolean", bool), "iterations": RATE, "examples": RATE},
}
STEPS_COLUMNS = {
    **{**OF_A_GOAL, "batch_size": SIZE, "lr": RATE, "seeds": SEED},
    **dict.fromkeys(("median", "low", "high", "tuned_median"), STEPS_TAKEN),
}
BRANCHES_COLUMNS = {
    **{"batch_size": SIZE, "lr": RATE, "seed": SEED, "examples": SIZE},
    **{"train_loss": STEPS_TAKEN, "tolerance": Column("Float64", Positive)},
}


def study_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Column]) -> pd.DataFrame:
    """Return rows as the table of a study that has these columns."""
    return pd.DataFrame(rows, columns=list(columns)).astype({name: column.dtype for name, column in columns.items()})


def read_study_table(path: Path, columns: Mapping[str, Column]) -> pd.DataFrame:
    """Read a table that `study_table` made. Raises `UnreadableRecord` if it holds something else, with the column."""
    rows = read_csv(path, STUDY_BYTES, list(columns))
    name = ""
    try:
        for name, column in columns.items():
            for row in rows:
                row[name] = msgspec.convert(row[name] or None, column.cell, strict=False)
    except msgspec.ValidationError as error:
        raise UnreadableRecord(f"{path.name}: {name}: {error}") from error
    return study_table(rows, columns)


@dataclass(frozen=True)
class Check:
    """The batch size that the answer names, run: steps on fresh seeds beside the steps that the fit expects.

    `median`, `low` and `high` are None if they are infinite: the goal was not reached. It is no part of the fit.
    """

    batch_size: Size
    lr: Number | None
    seeds: Count
    expected: Number
    median: Number | None
    low: Number | None
    high: Number | None


@dataclass(frozen=True)
class Answer:
    """What a study says of one goal, an entry of `critical_batch_size.json`.

    Steps S = s_min + e_min / B, and the critical batch size with an interval that holds it with 95 %; if the runs
    cannot tell, these are None and `reason` says why. `leave_one_out` has it without each batch size, `residuals` the
    logarithm of measured over fitted steps. The costs of an iteration and of an example are in seconds, measured or as
    given (`cost_is_given`). `examples_more` is the share of examples that the soonest batch size needs beyond the
    fewest possible. `noise_scale_at_target` is the median over the runs that measured it.
    """

    target: Target
    threshold: Positive
    s_min: Number | None = None
    e_min: Number | None = None
    b_crit: Number | None = None
    b_crit_low: Number | None = None
    b_crit_high: Number | None = None
    leave_one_out: dict[str, float | None] | None = None
    residuals: dict[str, float] | None = None
    reason: str | None = None
    seconds_per_iteration: Number | None = None
    seconds_per_example: Number | None = None
    cost_is_given: bool = False
    soonest_batch_size: Number | None = None
    examples_more: Number | None = None
    noise_scale_at_target: Number | None = None
    check: Check | None = None


def write_answers(folder: Path, answers: Sequence[Answer]) -> None:
    """Replace `critical_batch_size.json`. Raises OSError if it cannot be written."""
    content = json.dumps([asdict(each) for each in answers], indent=2, allow_nan=False)
    replace_file(folder / ANSWERS, content + "\n")


def read_answers(folder: Path) -> list[Answer]:
    """Read `critical_batch_size.json`. Raises `UnreadableRecord` if it holds something else than answers."""
    kind = Annotated[list[Answer], Meta(min_length=1)]
    return read_json(folder / ANSWERS, RECORD_BYTES, kind)
