"""From what the runs of a study resulted in to its tables and answers, and the branched check of them.

Merrill et al. 2025 ("Critical Batch Size Revisited", arXiv 2505.23971) measure a critical batch size without a fit:
from a checkpoint of a run, train on with k times the batch size and sqrt(k) times the rate, and see up to which k the
loss stays.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch

from digits_sweep.config.keys import changed
from digits_sweep.config.plan import PlannedRun
from digits_sweep.config.schema import Config
from digits_sweep.config.text import to_text
from digits_sweep.data.digits import Digits
from digits_sweep.report.statistics import Estimate, estimate, fitted_costs
from digits_sweep.report.words import rounded
from digits_sweep.results.critical import (
    BRANCHES_COLUMNS,
    STEPS_COLUMNS,
    TUNING_COLUMNS,
    Answer,
    Check,
    Law,
    study_table,
)
from digits_sweep.results.record import Record
from digits_sweep.results.run import RecordedRun
from digits_sweep.search.fit import LEAST_SIZES, RESAMPLES, SEED, Fit, Steps, fit_steps, interval
from digits_sweep.search.grid import BatchSize, Sizes
from digits_sweep.search.settings import Cost, CriticalConfig, Goal
from digits_sweep.search.study import Study
from digits_sweep.sweep.checkpoint import Checkpoint, restore
from digits_sweep.sweep.run import digits_for
from digits_sweep.sweep.run_files import last_checkpoint
from digits_sweep.training.building import build_engine
from digits_sweep.training.epochs import epoch_order
from digits_sweep.training.evaluation import Evaluator

# The batch size that costs 20 % more examples than the fewest is the critical one of Zhang et al. 2024 (How Does
# Critical Batch Size Scale in Pre-training?); batch sizes within 10 % of the least time are as good as the soonest.
MORE_EXAMPLES, MORE_TIME, SIZES_TRIED = 0.2, 0.1, 512
NEVER = Estimate(math.inf, math.inf, math.inf, 0.0, 0)


def tuning_table(sizes: Sizes, goals: Sequence[Goal], first_seed: int) -> pd.DataFrame:
    """Return a row for every tuning seed and goal, with the columns of `tuning.csv`."""
    rows: list[dict[str, Any]] = []
    for size, at in sizes.items():
        for (exponent, replicate), outcomes in sorted(at.results.items()):
            if replicate >= at.rules.seeds:
                continue
            for goal, outcome in zip(goals, outcomes, strict=True):
                if outcome.failed:
                    continue
                reached = math.isfinite(outcome.iterations)
                iterations = outcome.iterations if reached else math.nan
                rows.append(
                    {"batch_size": size, "lr": at.rules.learning_rate(size, exponent), "seed": first_seed + replicate}
                    | {"target": goal.target, "threshold": goal.threshold, "reached": reached}
                    | {"iterations": iterations, "examples": iterations * outcome.batch_size}
                )
    return study_table(rows, TUNING_COLUMNS)


def steps_table(sizes: Sizes, goals: Sequence[Goal]) -> pd.DataFrame:
    """Return a row for every goal and batch size, with the columns of `steps_to_target.csv`.

    `median` is that of the fresh seeds at the tuned rate, infinite if half of them or more miss the target; `low` and
    `high` are an interval that covers it with 95 % if there are 6 seeds or more. A batch size at which no rate reaches
    the target has no rate and no fresh seeds. `real_batch_size` is the mean number of examples in a step.
    """
    rows: list[dict[str, Any]] = []
    for index, goal in enumerate(goals):
        for size, at in sizes.items():
            steps = _fresh_steps(at, index)
            rows.append(
                {"target": goal.target, "threshold": goal.threshold, "batch_size": size, "lr": at.tuned_rate(index)}
                | {"seeds": steps.runs, "median": steps.median, "low": steps.low, "high": steps.high}
                | {"tuned_median": at.tuned_medians[index], "real_batch_size": at.real_size(index)}
            )
    return study_table(rows, STEPS_COLUMNS)


def _fresh_steps(at: BatchSize, goal: int) -> Estimate:
    values = [outcome.iterations for outcome in at.fresh(goal)]
    return estimate(values) if values else NEVER


def shown(goal: Goal, steps: pd.DataFrame, is_quick: bool = False) -> tuple[list[str], list[list[str]]]:
    """Return a goal's header and rows for a terminal: steps on fresh seeds with their interval, and while tuning.

    If the study is quick there is one seed, and no interval.
    """
    own = steps[(steps["target"] == goal.target) & (steps["threshold"] == goal.threshold)]
    rows, first = [_row(row) for _, row in own.iterrows()], f"batch size ({goal})"
    if is_quick:
        short = [[size, lr, steps if lr == "-" else tuned, examples] for size, lr, steps, _, examples, tuned in rows]
        return [first, "lr", "steps (one seed)", "examples"], short
    return [first, "lr", "steps", "fresh seeds", "examples", "while tuning"], rows


def _row(row: pd.Series) -> list[str]:
    if pd.isna(row["lr"]):
        return [str(row["batch_size"]), "-", "not reached at any rate", "-", "-", "not reached"]
    return [
        str(row["batch_size"]),
        to_text(float(row["lr"])),
        f"{_count(row['median'])} [{_count(row['low'])}, {_count(row['high'])}]",
        str(row["seeds"]),
        rounded(row["median"] * row["real_batch_size"]),
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
        longest = max((outcome.trained for outcomes in at.results.values() for outcome in outcomes), default=0)
        misses = [outcome.trained for outcome in fresh if math.isinf(outcome.iterations)]
        more_than = median(misses) if misses else 0 if fresh else longest
        steps.append(Steps(size, tuple(outcome.iterations for outcome in fresh), more_than, at.real_size(goal)))
    return steps


def measured_cost(runs: Iterable[RecordedRun]) -> Cost | None:
    """Return what an iteration and an example cost in `runs`; None if they have fewer than two batch sizes.

    Seconds = iteration x iterations + example x examples, by non-negative least squares on relative errors over the
    medians of the batch sizes: neither the seed nor the rate costs time. A last batch that is smaller counts as what it
    is. The draws are of the runs of every batch size (the bootstrap).
    """
    measured: dict[int, list[tuple[float, float]]] = {}
    for run in runs:
        spent = math.fsum(row.seconds for row in run.history)
        if run.iterations and spent > 0 and run.batch_size:
            examples = run.history[-1].examples / run.iterations
            measured.setdefault(run.batch_size, []).append((spent / run.iterations, examples))
    if len(measured) < 2:
        return None
    batch_sizes = np.array([median(examples for _, examples in values) for values in measured.values()])
    seconds = [np.array([seconds for seconds, _ in values]) for values in measured.values()]
    ones, chance = np.ones(len(seconds)), np.random.default_rng(SEED)
    drawn = np.stack([np.median(chance.choice(each, (RESAMPLES, len(each))), axis=1) for each in seconds], axis=1)
    draws = np.array([fitted_costs(ones, batch_sizes, each) for each in drawn])
    medians = np.array([np.median(each) for each in seconds])
    return Cost(*fitted_costs(ones, batch_sizes, medians), draws)


def soonest(law: Law, iteration: Any, example: Any, sizes: Sequence[int]) -> Any:
    """Return the batch size within `sizes` at which steps x seconds per step are least; of arrays, an element each.

    Steps S of iteration + B x example seconds: as S falls with the share 1 / (1 + (B/B_crit)^a) of the slope of 1/B,
    and the seconds of a step rise with the share of the examples in them, the two are equal where
    B^(1 + a) = B_crit^a iteration / example.
    """
    with np.errstate(divide="ignore"):
        ratio = np.asarray(iteration, float) / example
    size = (law.b_crit**law.exponent * ratio) ** (1 / (1 + law.exponent))
    return np.clip(size, min(sizes), max(sizes))


def soonest_at(law: Law, cost: Cost, sizes: Sequence[int]) -> Any:
    """Return the soonest batch size at a cost; of a law of arrays, an element each, with the draws of the cost."""
    if cost.steps is not None:
        tried = np.geomspace(min(sizes), max(sizes), SIZES_TRIED)
        one_each = Law(*(np.asarray(member)[..., None] for member in (law.s_min, law.b_crit, law.exponent)))
        return tried[np.argmin(one_each.steps(tried) * cost.seconds(tried), axis=-1)]
    iteration, example = cost.iteration, cost.example
    if np.ndim(law.b_crit) and cost.draws is not None:
        iteration, example = cost.draws[np.arange(len(law.b_crit)) % len(cost.draws)].T
    return soonest(law, iteration, example, sizes)


def round_batch_size(batch_size: float, sizes: Iterable[int]) -> int | None:
    """Return the nearest of 1, 2, 3, 5, 7, 10, 20 and so on by ratio that lies within `sizes`, but is none of them."""
    sizes = set(sizes)
    steps = [digit * 10**power for power in range(10) for digit in (1, 2, 3, 5, 7)]
    others = [step for step in steps if min(sizes) < step < max(sizes) and step not in sizes]
    return min(others, key=lambda step: abs(math.log(step / batch_size)), default=None)


def answers(
    sizes: Sizes,
    goals: Sequence[Goal],
    here: Cost | None,
    elsewhere: Cost | None = None,
    price: float | None = None,
    least_sizes: int = LEAST_SIZES,
) -> list[Answer]:
    """Return what a study says of every goal, at the costs of this machine or, if it is given, of one `elsewhere`.

    `price` is that of an hour of that machine. A goal that fewer batch sizes than `least_sizes` have reached has none.
    """
    cost = elsewhere or here
    several = []
    for index, goal in enumerate(goals):
        fit, reason = fit_steps(steps_of(sizes, index), least_sizes)
        missing = sum(at.missing_seeds(index) for at in sizes.values())
        known: dict[str, Any] = {"reason": reason or None, "missing_seeds": missing, "price": price}
        known |= {"cost_is_given": elsewhere is not None, **_of_a_step(cost), **_noise_scale(sizes, index)}
        if fit is not None:
            known |= _of_fit(fit) | _of_cost(fit, cost, list(sizes))
            if elsewhere and here:
                own = _of_cost(fit, here, list(sizes))
                known |= {f"{name}_here": own[name] for name in ("within_low", "within_high")}
                known["soonest_here"] = own["soonest_batch_size"]
        several.append(Answer(goal.target, goal.threshold, **known))
    return several


def _of_a_step(cost: Cost | None) -> dict[str, Any]:
    if cost is None:
        return {}
    if cost.steps is None:
        return {"seconds_per_iteration": cost.iteration, "seconds_per_example": cost.example}
    return {"seconds_per_step": dict(cost.steps), "machine": cost.machine}


def _of_fit(fit: Fit) -> dict[str, Any]:
    law, draws = fit.law, fit.draws
    known: dict[str, Any] = {
        "s_min": law.s_min,
        "e_min": law.s_min * law.b_crit,
        "leave_one_out": _by_text(fit.leave_one_out),
        "residuals": _by_text(fit.residuals),
        "p_value": fit.p_value,
    }
    of_laws = {
        "b_crit": lambda law: law.b_crit,
        "exponent": lambda law: law.exponent,
        "b_20": lambda law: law.batch_size(MORE_EXAMPLES),
    }
    for name, value in of_laws.items():
        known[name] = float(value(law))
        if draws:
            known[f"{name}_low"], known[f"{name}_high"] = interval(value(draws))
    return known


def _by_text(values: Mapping[int, Any] | None) -> dict[str, Any] | None:
    """Return a mapping whose keys are texts, as JSON has it."""
    return None if values is None else {str(size): value for size, value in values.items()}


def _of_cost(fit: Fit, cost: Cost | None, sizes: Sequence[int]) -> dict[str, Any]:
    if cost is None:
        return {}
    size = float(soonest_at(fit.law, cost, sizes))
    all_sizes = np.geomspace(min(sizes), max(sizes), SIZES_TRIED)
    seconds, least = (fit.law.steps(some) * cost.seconds(some) for some in (all_sizes, size))
    within = all_sizes[seconds <= (1 + MORE_TIME) * least]
    known = {
        "soonest_batch_size": size,
        "examples_more": float(fit.law.steps(size) * size / (fit.law.s_min * fit.law.b_crit) - 1),
        "within_low": float(within.min(initial=size)),
        "within_high": float(within.max(initial=size)),
    }
    if fit.draws:
        known["soonest_low"], known["soonest_high"] = interval(soonest_at(fit.draws, cost, sizes))
    return known


def check_of(at: BatchSize, goal: int, law: Law, sizes: Sizes) -> Check:
    """Return the steps at a batch size that is in no fit, beside the law's and those of its neighbours in `sizes`."""
    steps = _fresh_steps(at, goal)
    # JSON has no infinity.
    median, low, high = (value if math.isfinite(value) else None for value in (steps.median, steps.low, steps.high))
    below = max((size for size in sizes if size < at.batch_size), default=None)
    above = min((size for size in sizes if size > at.batch_size), default=None)
    beside = {size: _fresh_steps(sizes[size], goal).median for size in (below, above) if size is not None}
    neighbours = {str(size): steps for size, steps in beside.items() if math.isfinite(steps)}
    expected = float(law.steps(at.real_size(goal)))
    return Check(at.batch_size, at.tuned_rate(goal), steps.runs, expected, median, low, high, neighbours)


def _noise_scale(sizes: Sizes, goal: int) -> dict[str, Any]:
    """Return the gradient noise scale on the way to a goal: the geometric mean over runs and readings, its spread."""
    outcomes = [at.results[run][goal] for at in sizes.values() for run in at.results if run[1] == at.rules.seeds]
    scales = np.log([scale for outcome in outcomes for scale in outcome.noise_scales])
    if not len(scales):
        return {}
    middle, spread = float(scales.mean()), float(scales.std())
    names = ("noise_scale_low", "noise_scale_at_target", "noise_scale_high")
    return {name: math.exp(middle + side * spread) for name, side in zip(names, (-1, 0, 1), strict=True)}


def branches(study: Study, start: PlannedRun, largest: int, rules: CriticalConfig) -> pd.DataFrame:
    """Train every branch of `start` and return the columns of `branches.csv`, a row for each batch size and seed.

    `start` is a run whose checkpoint stands where it reached a goal, `largest` the largest batch size to branch to.
    Raises `UnreadableRecord` if its checkpoint cannot be read, and what building an engine raises.
    """
    checkpoint = last_checkpoint(study.folder / start.folder)
    digits = digits_for(start.config, study.sweep.manifest, Record(0), study.screen.say)
    rows = [
        {
            "batch_size": config.data.batch_size,
            "lr": config.optimizer.lr,
            "seed": config.seed,
            "examples": rules.branch_examples,
            "train_loss": _loss_after(rules.branch_examples, config, digits, checkpoint),
            "tolerance": rules.branch_tolerance,
        }
        for config in _configs(start.config, min(largest, len(digits.train_labels)), rules.seeds)
    ]
    return study_table(rows, BRANCHES_COLUMNS)


def _configs(start: Config, largest: int, seeds: int) -> Iterator[Config]:
    """Yield the configuration of every branch: the batch size doubled again and again, each with several orders."""
    size, lr = start.data.batch_size, start.optimizer.lr
    for doublings in range(int(math.log2(largest / size)) + 1):
        factor = 2**doublings
        rates = {"data.batch_size": size * factor, "optimizer.lr": lr * math.sqrt(factor)}
        for order in range(1, seeds + 1):
            yield changed(start, {"seed": start.seed + order, **rates})


def _loss_after(examples: int, config: Config, digits: Digits, checkpoint: Checkpoint) -> float:
    """Return the frozen training loss after `examples` more examples from a checkpoint."""
    built = build_engine(config, digits)
    restore(built.engine, checkpoint)
    built.configure_threads()
    num_samples = len(digits.train_labels)
    epochs = [epoch_order(config.seed, epoch, num_samples) for epoch in range(1, math.ceil(examples / num_samples) + 1)]
    built.engine.train(torch.cat(epochs)[:examples])
    evaluator = Evaluator(config.evaluation, digits, config.data.scale, built.device)
    return evaluator.measure(built.engine).train.loss
