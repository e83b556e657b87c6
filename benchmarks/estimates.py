"""Cheap estimates of the critical batch size, each from what a setting has recorded: its study, and a few single runs.

An estimator returns a number or a failure for every goal that it answers, and the examples that it would have cost a
user who has nothing yet. What it is given for nothing is the tuned rate of a run.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch.nn.utils import parameters_to_vector

from digits_sweep.config.schema import config_from
from digits_sweep.data.digits import scale
from digits_sweep.data.loading import for_run, make_ready
from digits_sweep.report.critical import Critical
from digits_sweep.results.critical import Answer, hint_of
from digits_sweep.results.losses import read_losses
from digits_sweep.results.record import EvaluationRow
from digits_sweep.results.run import RecordedRun
from digits_sweep.results.targets import targets_of
from digits_sweep.search.fit import Steps, fit_steps
from digits_sweep.training.epochs import epoch_order
from digits_sweep.training.losses import build_loss
from digits_sweep.training.model import build_model
from digits_sweep.training.optimizers import build_optimizer

ALWAYS = 300
# The two batch sizes whose steps alone make an estimate, and the exponent of the law that they cannot tell.
TWO_SIZES, EXPONENT = (20, 1_000), 1.45
# Micro-batches of a batch whose gradients are compared, how slowly their squares are averaged, and runs that are made.
MICRO_BATCHES, DECAY, RUNS = 10, 0.95, 2
# Losses a group, at the coarsest scale at which the susceptibility looks.
LEAST_GROUPS = 8


@dataclass(frozen=True)
class Estimate:
    """What an estimator says of the goal of an answer, NaN if it fails, and the examples that it takes."""

    goal: int
    value: float
    examples: float


@dataclass(frozen=True)
class Setting:
    """What is recorded of a setting: its full study, single runs at tuned rates, and a quick study of the same goals.

    A goal is known by its index in the answers of the study.
    """

    name: str
    study: Critical
    runs: Sequence[RecordedRun]
    quick: Sequence[Answer] = ()
    quick_examples: float = math.nan

    def reached(self, run: RecordedRun, goal: int) -> float | None:
        """Return after how many iterations a run reached a goal; None if it did not."""
        answer = self.study.answers[goal]
        wanted = {answer.target: [answer.threshold]}
        (row,) = targets_of("", wanted, run.evaluations, on_balance=True)
        return row.iterations if row.reached else None

    def on_the_way(self) -> Iterator[tuple[int, RecordedRun, list[EvaluationRow]]]:
        """Yield every goal and run that reached it, with its evaluations after the first step up to the goal."""
        for goal, run in ((goal, run) for goal in range(len(self.study.answers)) for run in self.runs):
            if (iterations := self.reached(run, goal)) is not None:
                yield goal, run, [row for row in run.evaluations if 0 < row.iterations <= iterations]


Estimator = Callable[[Setting], Iterator[Estimate]]


def always(setting: Setting) -> Iterator[Estimate]:
    """Say 300, whatever is trained."""
    yield from (Estimate(goal, ALWAYS, 0) for goal in range(len(setting.study.answers)))


def _of_readings(setting: Setting, value_of: Callable[[list[EvaluationRow]], float | None]) -> Iterator[Estimate]:
    for goal, _run, rows in setting.on_the_way():
        value = value_of(rows) if rows else None
        yield Estimate(goal, value if value and math.isfinite(value) else math.nan, rows[-1].examples if rows else 0)


def plain_noise(setting: Setting) -> Iterator[Estimate]:
    """Take the gradient noise scale tr(Sigma) / |G|^2 at the goal, its last reading before it."""
    yield from _of_readings(setting, lambda rows: rows[-1].noise_scale)


def optimizer_noise(setting: Setting) -> Iterator[Estimate]:
    """Take the hint of a run that ends at the goal: its optimizer's noise scale over the last doubling."""
    yield from _of_readings(setting, hint_of)


def run_average(setting: Setting) -> Iterator[Estimate]:
    """Average the noise scale over a run (McCandlish et al. 2018, appendix D).

    A step on B examples is worth 1 / (1 + N/B) of one without noise, N being the noise scale, and E_min = sum of N over
    such steps: B_crit = sum N w / sum w with w = 1 / (1 + N/B) for every step.
    """
    for goal, run, rows in setting.on_the_way():
        known = [row for row in rows if row.noise_scale is not None and 0 < row.noise_scale < math.inf]
        if not known or run.batch_size is None:
            yield Estimate(goal, math.nan, rows[-1].examples if rows else 0)
            continue
        noise = np.array([row.noise_scale for row in known], float)
        steps = np.diff([0, *(row.iterations for row in known)]) / (1 + noise / run.batch_size)
        yield Estimate(goal, float((noise * steps).sum() / steps.sum()), rows[-1].examples)


def susceptibility(setting: Setting) -> Iterator[Estimate]:
    """Look for the scale at which the variance of grouped losses changes fastest (Wurm 2025, batch-susceptibility).

    The losses of a run, in groups of K steps one after another: V(K) is the variance of the groups' means. K times the
    batch size, where |d log V / d log K| is largest.
    """
    for goal, run, rows in setting.on_the_way():
        losses = read_losses(run.folder, count=rows[-1].iterations if rows else 0).astype(float)
        sizes = np.unique(np.geomspace(1, max(1, len(losses) / LEAST_GROUPS), 30).astype(int))
        variances = [losses[: len(losses) // size * size].reshape(-1, size).mean(axis=1).var() for size in sizes]
        value = math.nan
        if len(sizes) > 2 and min(variances) > 0:
            value = float(sizes[np.abs(np.gradient(np.log(variances), np.log(sizes))).argmax()] * (run.batch_size or 0))
        yield Estimate(goal, value, rows[-1].examples if rows else 0)


def micro_batches(setting: Setting) -> Iterator[Estimate]:
    """Compare the gradients of a batch and of its micro-batches, step by step (McCandlish et al. 2018, appendix A.1).

    Numerator and denominator are running means over steps before they are divided. Where a run of `setting` ends at a
    goal, the noise scale is read off; the training is PyTorch's own loop.
    """
    for run in list(setting.runs)[:RUNS]:
        ends = {goal: setting.reached(run, goal) for goal in range(len(setting.study.answers))}
        last = max(filter(None, ends.values()), default=0)
        noise = list(_noise_of_micro_batches(run, math.ceil(last)))
        for goal, iterations in ends.items():
            if iterations is not None:
                value, size = noise[math.ceil(iterations) - 1], run.batch_size or 0
                yield Estimate(goal, value if value > 0 else math.nan, iterations * size)


def _noise_of_micro_batches(run: RecordedRun, steps: int) -> Iterator[float]:
    """Yield the noise scale after every step; negative or infinite if the gradient cannot be told from its noise."""
    config = config_from(run.record.config)
    digits = for_run(make_ready(config.data, lambda line: None)[0], config)
    model = build_model(config.model, config.seed, digits.image_shape, digits.train_images.dtype)
    optimizer = build_optimizer(config.optimizer, model.parameters(), fused=False)
    loss, images = build_loss(config.loss, digits.train_labels, config.model.num_classes), digits.train_images
    count, size = len(images), config.data.batch_size
    small, squares, trace = size // MICRO_BATCHES, 0.0, 0.0
    epochs = (epoch_order(config.seed, number, count) for number in range(1, math.ceil(steps * size / count) + 2))
    batches = (batch for order in epochs for batch in order.split(size) if len(batch) == size)
    for _step, batch in zip(range(steps), batches, strict=False):
        gradients = []
        for part in (batch, batch[:small]):
            optimizer.zero_grad()
            loss(model(scale(images[part], config.data.scale)), digits.train_labels[part]).backward()
            gradients.append([each.grad.clone() for each in model.parameters() if each.grad is not None])
        of_all, of_part = (parameters_to_vector(each).square().sum().item() for each in gradients)
        # As in `training/gradient_noise.py`, with batch sizes `small` and `size`.
        squares = DECAY * squares + (1 - DECAY) * (size * of_all - small * of_part) / (size - small)
        trace = DECAY * trace + (1 - DECAY) * (of_part - of_all) / (1 / small - 1 / size)
        for parameter, gradient in zip(model.parameters(), gradients[0], strict=True):
            parameter.grad = gradient
        optimizer.step()
        yield trace / squares if squares else math.inf


def _tuning(setting: Setting, goal: int) -> pd.DataFrame:
    """Return the runs of the study that tuned its rates, a row each; a miss has infinite steps."""
    table = setting.study.tuning_of(setting.study.answers[goal])
    steps = table["iterations"].astype(float).fillna(math.inf)
    return table.assign(steps=steps, size=table["batch_size"].astype(int), rate=table["lr"].astype(float))


def _examples(runs: pd.DataFrame) -> float:
    """Return what the runs cost if they are given up at twice the least steps of their batch size."""
    most = 2 * runs.groupby("size")["steps"].transform("min")
    steps = np.minimum(runs["steps"], most)
    return float((steps * runs["size"])[np.isfinite(steps)].sum())


def two_sizes(setting: Setting) -> Iterator[Estimate]:
    """Count the steps at two batch sizes, one seed a rate; the law with an exponent of 1.45 does the rest."""
    for goal in range(len(setting.study.answers)):
        table = _tuning(setting, goal)
        sizes = sorted({min(set(table["size"]), key=lambda size: abs(math.log(size / near))) for near in TWO_SIZES})
        for _seed, own in table[table["size"].isin(sizes)].groupby("seed"):
            least = own.groupby("size")["steps"].min()
            steps = [float(least.get(size, math.inf)) for size in sizes]
            yield Estimate(goal, _between(*sizes, *steps), _examples(own))


def _between(small: int, large: int, steps_small: float, steps_large: float) -> float:
    """Return the critical batch size of the law through two points; NaN if there is none."""
    if not (math.isfinite(steps_small) and 1 < steps_small / steps_large < large / small):
        return math.nan
    ratio = (steps_small / steps_large) ** EXPONENT
    return float(((ratio - 1) / (small**-EXPONENT - ratio * large**-EXPONENT)) ** (1 / EXPONENT))


def square_root(setting: Setting) -> Iterator[Estimate]:
    """Tune the rate at one batch size, as a study does, scale it to the others by the square root, one seed at each.

    The grids of a study are centred on the square-root rule: the same place in each is the scaled rate.
    """
    for goal in range(len(setting.study.answers)):
        table = _tuning(setting, goal)
        reference = min(set(table["size"]), key=lambda size: abs(math.log(size / 100)))
        at = table[table["size"] == reference]
        if not np.isfinite(at["steps"]).any():
            continue
        rate = at.groupby("rate")["steps"].median().idxmin()
        scaled = table["rate"] / (rate * np.sqrt(table["size"] / reference))
        for _seed, own in table[np.isclose(scaled, 1, rtol=0.05)].groupby("seed"):
            steps = [
                Steps(size, (taken,) if math.isfinite(taken) else (), 0.0, float(size))
                for size, taken in zip(own["size"], own["steps"], strict=True)
            ]
            fit, _reason = fit_steps(steps)
            others = own[own["size"] != reference]
            yield Estimate(goal, fit.law.b_crit if fit else math.nan, _examples(others) + _examples(at))


def branching(setting: Setting) -> Iterator[Estimate]:
    """Branch a run where it has reached the last goal (Merrill et al. 2025), up to where the loss stays."""
    branches = setting.study.branches
    if branches is None:
        return
    goal = len(setting.study.answers) - 1
    orders = branches.ratios[0].runs
    steps = setting.study.steps_to(setting.study.answers[goal])
    smallest = steps[steps["batch_size"] == branches.batch_sizes[0]]
    to_the_goal = float((smallest["median"] * smallest["real_batch_size"]).iloc[0])
    of_branches = branches.examples * len(branches.batch_sizes) * orders
    yield Estimate(goal, math.nan if branches.is_open else branches.limit, to_the_goal + of_branches)


def quick(setting: Setting) -> Iterator[Estimate]:
    """Take the answer of a quick study of the same goals, on other seeds."""
    goals = {(answer.target, answer.threshold): goal for goal, answer in enumerate(setting.study.answers)}
    for answer in setting.quick:
        if (goal := goals.get((answer.target, answer.threshold))) is not None:
            yield Estimate(goal, answer.b_crit or math.nan, setting.quick_examples)


ESTIMATORS: dict[str, Estimator] = {
    "always 300": always,
    "noise scale at the goal": plain_noise,
    "noise scale, average of the run": run_average,
    "noise scale of micro-batches": micro_batches,
    "noise scale in the optimizer's metric": optimizer_noise,
    "susceptibility of the loss": susceptibility,
    "steps at two batch sizes": two_sizes,
    "one tuned rate and the square root": square_root,
    "branches of one run": branching,
    "a quick study": quick,
}
