"""The files of a study of the critical batch size.

They are `tuning.csv`, `steps_to_target.csv`, `branches.csv` and `critical_batch_size.json`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from digits_sweep.results.files import RECORD_BYTES, read_json, replace_file

TUNING, STEPS, ANSWERS = "tuning.csv", "steps_to_target.csv", "critical_batch_size.json"
BRANCHES = "branches.csv"
TUNING_TYPES: dict[str, Any] = {
    "batch_size": "Int64",
    "lr": "Float64",
    "seed": "Int64",
    "target": "string",
    "threshold": "Float64",
    "reached": "boolean",
    "iterations": "Float64",
    "examples": "Float64",
}
STEPS_TYPES: dict[str, Any] = {
    "target": "string",
    "threshold": "Float64",
    "batch_size": "Int64",
    "lr": "Float64",
    "seeds": "Int64",
    "median": "Float64",
    "low": "Float64",
    "high": "Float64",
    "tuned_median": "Float64",
}

BRANCHES_TYPES: dict[str, Any] = {
    "batch_size": "Int64",
    "lr": "Float64",
    "seed": "Int64",
    "examples": "Int64",
    "train_loss": "Float64",
    "tolerance": "Float64",
}


Number = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]


@dataclass(frozen=True)
class Check:
    """The batch size that the answer names, run: steps on fresh seeds beside the steps that the fit expects.

    `median`, `low` and `high` are None if they are infinite: the goal was not reached. It is no part of the fit.
    """

    batch_size: Count
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

    target: str
    threshold: Number
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
    return read_json(folder / ANSWERS, RECORD_BYTES, list[Answer])
