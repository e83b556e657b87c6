"""`tuning.csv` and `steps_to_target.csv`, and what a terminal shows of them."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from digits_sweep.config.keys import written
from digits_sweep.critical_batch_size.search.runs import Goal, learning_rate
from digits_sweep.critical_batch_size.search.study import Study
from digits_sweep.report.analysis.sentences.formatting import rounded
from digits_sweep.report.analysis.statistics.replicates import Estimate, estimate
from digits_sweep.results.critical import BRANCHES, STEPS, STEPS_TYPES, TUNING, TUNING_TYPES
from digits_sweep.results.disk.files import replace_file
from digits_sweep.results.disk.harmless import as_csv

NEVER = Estimate(math.inf, math.inf, math.inf, 0.0, 0)


def tuning_table(study: Study, sizes: Iterable[int]) -> pd.DataFrame:
    """Return a row for every tuning seed and goal, with the columns of `tuning.csv`."""
    rows: list[dict[str, Any]] = []
    for size in sizes:
        for (exponent, place), found in sorted(study.results[size].items()):
            lr = learning_rate(study.settings, size, exponent)
            for goal, outcome in zip(study.goals, found, strict=True) if place < study.rules.seeds else ():
                reached = math.isfinite(outcome.iterations)
                iterations = outcome.iterations if reached else None
                rows.append(
                    {"batch_size": size, "lr": lr, "seed": study.planned.settings.seed + place, "target": goal.target}
                    | {"threshold": goal.threshold, "reached": reached, "iterations": iterations}
                    | {"examples": iterations * size if iterations is not None else None}
                )
    return pd.DataFrame(rows, columns=list(TUNING_TYPES)).astype(TUNING_TYPES)


def steps_table(study: Study, sizes: Iterable[int]) -> pd.DataFrame:
    """Return a row for every goal and batch size, with the columns of `steps_to_target.csv`.

    `median` is that of the fresh seeds at the tuned rate, infinite if half of them or more miss the target; `low` and
    `high` are an interval that covers it with 95 % if there are 6 seeds or more. A batch size at which no rate reaches
    the target has no rate and no fresh seeds.
    """
    rows = [_steps(study, size, place, goal) for place, goal in enumerate(study.goals) for size in sizes]
    return pd.DataFrame(rows, columns=list(STEPS_TYPES)).astype(STEPS_TYPES)


def _steps(study: Study, size: int, place: int, goal: Goal) -> dict[str, Any]:
    at = study.at(size)
    winner, values = at.winner(place), [outcome.iterations for outcome in at.fresh(place)]
    found = estimate(values) if values else NEVER
    return {
        "target": goal.target,
        "threshold": goal.threshold,
        "batch_size": size,
        "lr": None if winner is None else learning_rate(study.settings, size, winner),
        "seeds": len(values),
        "median": found.median,
        "low": found.low,
        "high": found.high,
        "tuned_median": at.tuned_median(place),
    }


def write_tuning(folder: Path, table: pd.DataFrame) -> None:
    """Replace `tuning.csv`. Raises OSError if it cannot be written."""
    replace_file(folder / TUNING, as_csv(table))


def write_steps(folder: Path, table: pd.DataFrame) -> None:
    """Replace `steps_to_target.csv`. Raises OSError if it cannot be written."""
    replace_file(folder / STEPS, as_csv(table))


def write_branches(folder: Path, table: pd.DataFrame) -> None:
    """Replace `branches.csv`. Raises OSError if it cannot be written."""
    replace_file(folder / BRANCHES, as_csv(table))


def shown(goal: Goal, steps: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Return a goal's header and rows for a terminal: steps on fresh seeds with their interval, and while tuning."""
    own = steps[(steps["target"] == goal.target) & (steps["threshold"] == goal.threshold)]
    header = [f"batch size ({goal})", "lr", "steps", "fresh seeds", "examples", "while tuning"]
    return header, [_row(row) for _, row in own.iterrows()]


def _row(row: pd.Series) -> list[str]:
    if pd.isna(row["lr"]):
        return [str(row["batch_size"]), "-", "not reached at any rate", "-", "-", "not reached"]
    return [
        str(row["batch_size"]),
        written(float(row["lr"])),
        f"{_count(row['median'])} [{_count(row['low'])}, {_count(row['high'])}]",
        str(row["seeds"]),
        rounded(row["median"] * row["batch_size"]),
        _count(row["tuned_median"]),
    ]


def _count(steps: float) -> str:
    return "not reached" if math.isinf(steps) else f"{steps:,.0f}" if steps >= 100 else f"{steps:.3g}"
