"""What the figures of a critical batch size draw: its tables from disk, fitted curves, and what each step costs."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from digits_sweep.errors import UnreadableRecord
from digits_sweep.report.analysis.curves.branches import Branches, branches_of
from digits_sweep.results.critical import (
    ANSWERS,
    BRANCHES,
    BRANCHES_TYPES,
    STEPS,
    STEPS_TYPES,
    TUNING,
    TUNING_TYPES,
    Answer,
    read_answers,
)
from digits_sweep.results.files import HISTORY_BYTES, read_csv, read_file, reason_of

POINTS = 60


@dataclass(frozen=True)
class Critical:
    """A study of the critical batch size: an answer a goal, the columns of its two tables, and its branches if any."""

    answers: list[Answer]
    steps: pd.DataFrame
    tuning: pd.DataFrame
    branches: Branches | None = None

    def steps_to(self, answer: Answer) -> pd.DataFrame:
        """Return the rows of a goal in `steps_to_target.csv`, the smallest batch size first."""
        return _of_goal(self.steps, answer).sort_values("batch_size")

    def tuning_of(self, answer: Answer) -> pd.DataFrame:
        """Return the rows of a goal in `tuning.csv`."""
        return _of_goal(self.tuning, answer)


def _of_goal(table: pd.DataFrame, answer: Answer) -> pd.DataFrame:
    return table[(table["target"] == answer.target) & (table["threshold"] == answer.threshold)]


def load_critical(folder: Path) -> Critical | None:
    """Read the study of a critical batch size in a sweep's folder; None if it holds none.

    Raises `UnreadableRecord` if one of its files cannot be read.
    """
    if not (folder / ANSWERS).is_file():
        return None
    has_branches = (folder / BRANCHES).is_file()
    return Critical(
        read_answers(folder),
        _table(folder / STEPS, STEPS_TYPES),
        _table(folder / TUNING, TUNING_TYPES),
        branches_of(_table(folder / BRANCHES, BRANCHES_TYPES)) if has_branches else None,
    )


def _table(path: Path, types: dict[str, Any]) -> pd.DataFrame:
    """Read a table; its numbers are above 0 or missing, so that each has a place on a logarithmic axis."""
    read_csv(path, HISTORY_BYTES, list(types))
    try:
        table = pd.read_csv(io.BytesIO(read_file(path, HISTORY_BYTES)), dtype=types)
        columns = [
            name for name, kind in types.items() if kind in ("Int64", "Float64") and name not in ("seed", "seeds")
        ]
        if (table[columns].astype("Float64") <= 0).any(axis=None) or table["batch_size"].isna().any():
            raise ValueError("a number is not above 0")
    except (ValueError, TypeError, OverflowError) as error:
        raise UnreadableRecord(f"{path.name}: {reason_of(error)}") from error
    return table


@dataclass(frozen=True)
class Line:
    """A curve: numbers against the batch size."""

    batch_sizes: list[float]
    values: list[float]


def fitted_steps(answer: Answer, sizes: Sequence[float]) -> Line | None:
    """Return S_min + E_min / B over the range of `sizes`; None if there is no fit."""
    if answer.s_min is None or answer.e_min is None or len(sizes) == 0:
        return None
    batch_sizes = np.geomspace(min(sizes), max(sizes), POINTS)
    return Line(batch_sizes.tolist(), (answer.s_min + answer.e_min / batch_sizes).tolist())


def perfect_scaling(rows: pd.DataFrame) -> Line | None:
    """Return the line along which twice the batch size needs half the steps, from the smallest batch size on."""
    reached = rows[np.isfinite(rows["median"].astype(float))]
    if len(reached) < 2:
        return None
    sizes, first = reached["batch_size"].astype(float), float(reached["median"].iloc[0])
    ends = [float(sizes.min()), float(sizes.max())]
    return Line(ends, [first * ends[0] / each for each in ends])


def times(line: Line | None, answer: Answer | None = None) -> Line | None:
    """Return a line of steps as one of examples, or with the costs of an answer as one of seconds."""
    if line is None or (answer and answer.seconds_per_iteration is None):
        return None
    values = [
        steps * (size if answer is None else seconds_per_step(answer, size))
        for size, steps in zip(line.batch_sizes, line.values, strict=True)
    ]
    return Line(line.batch_sizes, values)


def seconds_per_step(answer: Answer, batch_size: float) -> float:
    """Return what a step at a batch size costs, in seconds; NaN if that was not measured."""
    if answer.seconds_per_iteration is None or answer.seconds_per_example is None:
        return math.nan
    return answer.seconds_per_iteration + batch_size * answer.seconds_per_example


def rate_lines(rows: pd.DataFrame) -> tuple[Line, Line] | None:
    """Return the learning rates that the square-root and the linear rule give, from the middle batch size on."""
    rated = rows.dropna(subset=["lr"])
    if len(rated) < 2:
        return None
    middle = rated.iloc[(len(rated) - 1) // 2]
    sizes = rated["batch_size"].astype(float).to_numpy()
    ratio = sizes / float(middle["batch_size"])
    lr = float(middle["lr"])
    return Line(sizes.tolist(), (lr * np.sqrt(ratio)).tolist()), Line(sizes.tolist(), (lr * ratio).tolist())


def responses(tuning: pd.DataFrame) -> dict[int, pd.DataFrame]:
    """Return for every batch size the columns `lr`, `iterations` and `median`, a row a run.

    `iterations` of a miss are missing; `median` is that of the rate's runs, infinite if half of them or more missed.
    """
    found = {}
    for size, rows in tuning.groupby("batch_size", sort=True):
        iterations = rows["iterations"].astype(float)
        median = iterations.fillna(math.inf).groupby(rows["lr"].astype(float)).transform("median")
        table = pd.DataFrame({"lr": rows["lr"].astype(float), "iterations": iterations, "median": median})
        found[int(str(size))] = table.sort_values("lr", kind="stable")
    return found


def noise_along_runs(evaluations: pd.DataFrame, runs: pd.DataFrame) -> dict[int, list[pd.DataFrame]]:
    """Return for every batch size the columns `examples` and `noise_scale` of each run that measured it."""
    sizes = runs.dropna(subset=["batch_size"]).set_index("run_dir")["batch_size"]
    measured = evaluations[np.isfinite(evaluations["noise_scale"]) & (evaluations["noise_scale"] > 0)]
    measured = measured[(measured["examples"] > 0) & measured["run_dir"].isin(sizes.index)]
    found: dict[int, list[pd.DataFrame]] = {}
    for name, rows in measured.groupby("run_dir", sort=False):
        found.setdefault(int(sizes[name]), []).append(rows[["examples", "noise_scale"]])
    return dict(sorted(found.items()))
