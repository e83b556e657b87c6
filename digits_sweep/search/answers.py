"""From what the runs of a study resulted in to its tables and answers."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from digits_sweep.config.text import to_text
from digits_sweep.report.statistics import Estimate, estimate
from digits_sweep.report.study import fitted_costs
from digits_sweep.report.words import rounded
from digits_sweep.results.critical import STEPS_COLUMNS, TUNING_COLUMNS, Answer, Check, study_table
from digits_sweep.results.run import RecordedRun
from digits_sweep.search.fit import Fit, Steps, fit_steps
from digits_sweep.search.grid import BatchSize
from digits_sweep.search.settings import Cost, Goal

NEVER = Estimate(math.inf, math.inf, math.inf, 0.0, 0)
# The searches at the batch sizes of a study, the smallest first.
Sizes = Mapping[int, BatchSize]


def tuning_table(sizes: Sizes, goals: Sequence[Goal], first_seed: int) -> pd.DataFrame:
    """Return a row for every tuning seed and goal, with the columns of `tuning.csv`."""
    rows: list[dict[str, Any]] = []
    for size, at in sizes.items():
        for (exponent, replicate), outcomes in sorted(at.results.items()):
            if replicate >= at.rules.seeds:
                continue
            for goal, outcome in zip(goals, outcomes, strict=True):
                reached = math.isfinite(outcome.iterations)
                iterations = outcome.iterations if reached else None
                rows.append(
                    {"batch_size": size, "lr": at.learning_rate(exponent), "seed": first_seed + replicate}
                    | {"target": goal.target, "threshold": goal.threshold, "reached": reached}
                    | {"iterations": iterations, "examples": None if iterations is None else iterations * size}
                )
    return study_table(rows, TUNING_COLUMNS)


def steps_table(sizes: Sizes, goals: Sequence[Goal]) -> pd.DataFrame:
    """Return a row for every goal and batch size, with the columns of `steps_to_target.csv`.

    `median` is that of the fresh seeds at the tuned rate, infinite if half of them or more miss the target; `low` and
    `high` are an interval that covers it with 95 % if there are 6 seeds or more. A batch size at which no rate reaches
    the target has no rate and no fresh seeds.
    """
    rows: list[dict[str, Any]] = []
    for index, goal in enumerate(goals):
        for size, at in sizes.items():
            steps = _fresh_steps(at, index)
            rows.append(
                {"target": goal.target, "threshold": goal.threshold, "batch_size": size, "lr": at.tuned_rate(index)}
                | {"seeds": steps.runs, "median": steps.median, "low": steps.low, "high": steps.high}
                | {"tuned_median": at.tuned_medians[index]}
            )
    return study_table(rows, STEPS_COLUMNS)


def _fresh_steps(at: BatchSize, goal: int) -> Estimate:
    values = [outcome.iterations for outcome in at.fresh(goal)]
    return estimate(values) if values else NEVER


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


def steps_of(sizes: Sizes, goal: int) -> list[Steps]:
    """Return the steps to a goal on the fresh seeds of every batch size.

    If no rate reached it there, it takes more than the longest of all runs.
    """
    steps = []
    for size, at in sizes.items():
        fresh = at.fresh(goal)
        misses = [outcome.trained for outcome in fresh if math.isinf(outcome.iterations)]
        more_than = median(misses) if misses else 0 if fresh else at.most_trained()
        steps.append(Steps(size, tuple(outcome.iterations for outcome in fresh), more_than))
    return steps


def measured_cost(runs: Iterable[RecordedRun]) -> Cost | None:
    """Return what an iteration and an example cost in `runs`; None if they have fewer than two batch sizes.

    Seconds = iteration x iterations + example x examples, by non-negative least squares on relative errors over the
    medians of the batch sizes: neither the seed nor the rate costs time.
    """
    per_iteration: dict[int, list[float]] = {}
    for run in runs:
        spent = math.fsum(row.seconds for row in run.history)
        if run.iterations and spent > 0 and run.batch_size:
            per_iteration.setdefault(run.batch_size, []).append(spent / run.iterations)
    if len(per_iteration) < 2:
        return None
    batch_sizes = np.array(list(per_iteration), float)
    seconds = np.array([median(values) for values in per_iteration.values()])
    return Cost(*fitted_costs(np.ones(len(seconds)), batch_sizes, seconds))


def soonest(fit: Fit, cost: Cost) -> float | None:
    """Return the batch size at which steps x seconds per step are least: sqrt(B_crit x iteration / example).

    S(B) = S_min (1 + B_crit/B) steps of iteration + B x example seconds each. None if one of the costs is 0: then the
    smallest or the largest batch size is.
    """
    if not cost.iteration or not cost.example:
        return None
    return math.sqrt(fit.b_crit * cost.iteration / cost.example)


def round_batch_size(batch_size: float, sizes: Iterable[int]) -> int:
    """Return the nearest of 1, 2, 5, 10, 20, 50 and so on by ratio, but none outside the range of `sizes`."""
    sizes = list(sizes)
    steps = [digit * 10**power for power in range(10) for digit in (1, 2, 5)]
    nearest = min(steps, key=lambda step: abs(math.log(step / batch_size)))
    return min(max(nearest, min(sizes)), max(sizes))


def answers(
    sizes: Sizes, goals: Sequence[Goal], cost: Cost | None, cost_is_given: bool
) -> list[tuple[Answer, Fit | None]]:
    """Return what a study says of every goal, and the fits; `cost_is_given` if it is that of another machine."""
    pairs = []
    for index, goal in enumerate(goals):
        fit, reason = fit_steps(steps_of(sizes, index))
        known = Answer(
            goal.target,
            goal.threshold,
            reason=reason or None,
            seconds_per_iteration=cost.iteration if cost else None,
            seconds_per_example=cost.example if cost else None,
            cost_is_given=cost_is_given,
            noise_scale_at_target=_noise_scale(sizes, index),
        )
        pairs.append((known if fit is None else _with_fit(known, fit, cost), fit))
    return pairs


def _with_fit(known: Answer, fit: Fit, cost: Cost | None) -> Answer:
    size = soonest(fit, cost) if cost else None
    return replace(
        known,
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


def check_of(at: BatchSize, goal: int, fit: Fit) -> Check:
    """Return what was found at the batch size that an answer calls soonest, beside what the fit expects there."""
    steps = _fresh_steps(at, goal)
    # JSON has no infinity.
    median, low, high = (value if math.isfinite(value) else None for value in (steps.median, steps.low, steps.high))
    return Check(at.batch_size, at.tuned_rate(goal), steps.runs, fit.steps(at.batch_size), median, low, high)


def _noise_scale(sizes: Sizes, goal: int) -> float | None:
    """Return the gradient noise scale where the goal is reached: the median over the first fresh seed of every rate."""
    outcomes = [at.results[run][goal] for at in sizes.values() for run in at.results if run[1] == at.rules.seeds]
    scales = [outcome.noise_scale for outcome in outcomes if outcome.noise_scale is not None]
    return median(scales) if scales else None
