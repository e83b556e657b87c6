"""From the steps of a study to its answers: the fit, the cost of the machine, and the batch size that is soonest."""

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import numpy as np

from digits_sweep.critical_batch_size.answers.fit import Fit, Steps, fit_steps
from digits_sweep.critical_batch_size.answers.tables import NEVER
from digits_sweep.critical_batch_size.search.runs import learning_rate
from digits_sweep.critical_batch_size.search.study import Study
from digits_sweep.critical_batch_size.settings import Cost
from digits_sweep.report.analysis.curves.cost import fitted_costs
from digits_sweep.report.analysis.statistics.replicates import estimate
from digits_sweep.results.critical import Answer, Check
from digits_sweep.results.run.targets import targets_of
from digits_sweep.results.sweep import RecordedSweep


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
