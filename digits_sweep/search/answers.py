"""From the runs of a study to its tables and answers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from digits_sweep.config.text import to_text
from digits_sweep.errors import as_csv
from digits_sweep.report.statistics import Estimate, estimate
from digits_sweep.report.study import fitted_costs
from digits_sweep.report.words import rounded
from digits_sweep.results.critical import BRANCHES, STEPS, STEPS_TYPES, TUNING, TUNING_TYPES, Answer, Check
from digits_sweep.results.files import replace_file
from digits_sweep.results.sweep import RecordedSweep
from digits_sweep.results.targets import targets_of
from digits_sweep.search.fit import Fit, Steps, fit_steps
from digits_sweep.search.settings import Cost
from digits_sweep.search.study import Goal, Study, learning_rate

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
        to_text(float(row["lr"])),
        f"{_count(row['median'])} [{_count(row['low'])}, {_count(row['high'])}]",
        str(row["seeds"]),
        rounded(row["median"] * row["batch_size"]),
        _count(row["tuned_median"]),
    ]


def _count(steps: float) -> str:
    return "not reached" if math.isinf(steps) else f"{steps:,.0f}" if steps >= 100 else f"{steps:.3g}"


def steps_of(study: Study, goal: int, sizes: Sequence[int]) -> list[Steps]:
    """Return the steps to a goal on the fresh seeds of every batch size.

    If no rate reached it there, it takes more than the longest of all runs.
    """
    found = []
    for size in sizes:
        at = study.at(size)
        fresh = at.fresh(goal)
        misses = [outcome.trained for outcome in fresh if math.isinf(outcome.iterations)]
        more_than = median(misses) if misses else 0 if fresh else at.most_trained()
        found.append(Steps(size, tuple(outcome.iterations for outcome in fresh), more_than))
    return found


def measured_cost(sweep: RecordedSweep, sizes: Sequence[int]) -> Cost | None:
    """Return what an iteration and an example cost in the runs at these batch sizes; None if fewer than two were run.

    Seconds = iteration x iterations + example x examples, by non-negative least squares on relative errors over the
    medians of the batch sizes: neither the seed nor the rate costs time.
    """
    per_iteration: dict[int, list[float]] = {}
    for name, record in sweep.records.items():
        iterations = record.summary.get("iterations") or 0
        spent = math.fsum(row.seconds for row in sweep.histories[name])
        if iterations and spent > 0 and record.summary["batch_size"] in sizes:
            per_iteration.setdefault(int(record.summary["batch_size"]), []).append(spent / iterations)
    if len(per_iteration) < 2:
        return None
    batch_sizes = np.array(list(per_iteration), float)
    seconds = np.array([median(each) for each in per_iteration.values()])
    return Cost(*fitted_costs(np.ones(len(seconds)), batch_sizes, seconds))


def soonest(fit: Fit, cost: Cost) -> float | None:
    """Return the batch size at which steps x seconds per step are least: sqrt(B_crit x iteration / example).

    S(B) = S_min (1 + B_crit/B) steps of iteration + B x example seconds each. None if one of the costs is 0: then the
    smallest or the largest batch size is.
    """
    if not cost.iteration or not cost.example:
        return None
    return math.sqrt(fit.b_crit * cost.iteration / cost.example)


def round_batch_size(batch_size: float, sizes: Sequence[int]) -> int:
    """Return the nearest of 1, 2, 5, 10, 20, 50 and so on by ratio, but none outside the range of `sizes`."""
    steps = [digit * 10**power for power in range(10) for digit in (1, 2, 5)]
    nearest = min(steps, key=lambda each: abs(math.log(each / batch_size)))
    return min(max(nearest, min(sizes)), max(sizes))


def answer(study: Study, goal: int, fit: Fit | None, reason: str, cost: Cost | None, cost_is_given: bool) -> Answer:
    """Return what a study says of a goal, by its place, with the fit of its steps or the reason that there is none."""
    asked = study.goals[goal]
    found = Answer(
        asked.target,
        asked.threshold,
        reason=reason or None,
        seconds_per_iteration=cost.iteration if cost else None,
        seconds_per_example=cost.example if cost else None,
        cost_is_given=cost_is_given,
        noise_scale_at_target=_noise_scale(study, goal),
    )
    if fit is None:
        return found
    size = soonest(fit, cost) if cost else None
    return replace(
        found,
        s_min=fit.s_min,
        e_min=fit.e_min,
        b_crit=fit.b_crit,
        b_crit_low=fit.low,
        b_crit_high=fit.high,
        leave_one_out={str(size): value for size, value in fit.leave_one_out.items()},
        residuals={str(size): value for size, value in fit.residuals.items()},
        soonest_batch_size=size,
        examples_more=None if size is None else size / fit.b_crit,
    )


def answers(study: Study, sizes: Sequence[int], given: Cost | None) -> list[tuple[Answer, Fit | None]]:
    """Return what a study says of every goal, and the fits; `given` is the cost of another machine."""
    cost = given or measured_cost(study.sweep, sizes)
    fits = [fit_steps(steps_of(study, goal, sizes)) for goal in range(len(study.goals))]
    return [(answer(study, goal, *found, cost, given is not None), found[0]) for goal, found in enumerate(fits)]


def with_check(found: Answer, fit: Fit, study: Study, goal: int, batch_size: int) -> Answer:
    """Return an answer with what was found at the batch size that it calls soonest."""
    at = study.at(batch_size)
    values, winner = [outcome.iterations for outcome in at.fresh(goal)], at.winner(goal)
    steps = estimate(values) if values else NEVER
    check = Check(
        batch_size=batch_size,
        lr=None if winner is None else learning_rate(study.settings, batch_size, winner),
        seeds=len(values),
        expected=fit.steps(batch_size),
        median=_finite(steps.median),
        low=_finite(steps.low),
        high=_finite(steps.high),
    )
    return replace(found, check=check)


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None


def _noise_scale(study: Study, goal: int) -> float | None:
    """Return the gradient noise scale where the goal is reached, the median over the runs that measured it."""
    asked, found = study.goals[goal], []
    for name, trial in study.trials.items():
        rows = study.sweep.evaluations.get(name, []) if trial.measures_noise else []
        (row,) = targets_of(name, {asked.target: [asked.threshold]}, rows)
        scales = [each.noise_scale for each in rows if each.iterations == row.iterations_at]
        found += [each for each in scales if each is not None and math.isfinite(each) and each > 0]
    return median(found) if found else None
