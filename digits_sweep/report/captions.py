"""Choose the figures of a page: each with its title, its caption, its text alternative and its drawing."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import pandas as pd
from matplotlib.axes import Axes

from digits_sweep.report.analysis.goal import Goal
from digits_sweep.report.analysis.sentences.formatting import (
    capitalized,
    counted,
    listed,
    microseconds,
    noun_of,
    number,
    rounded,
    seconds,
    share,
)
from digits_sweep.report.analysis.statistics import cost, curves, evaluated, scaling
from digits_sweep.report.analysis.statistics.comparison import Combined
from digits_sweep.report.analysis.statistics.evaluated import Course
from digits_sweep.report.analysis.statistics.replicates import Estimate, Replicates, replicates, trained
from digits_sweep.report.analysis.study import Study
from digits_sweep.report.figures import batch_size, courses
from digits_sweep.report.figures.predictions import predictions as predicted
from digits_sweep.report.style import as_svg

# One row a run that missed the threshold; of more than these the first are drawn, and the caption says so.
MOST_MISSES = 24
Described = TypeVar("Described", Replicates, Course)
OPEN_MARKS = "Open marks: not reached, drawn at the last epoch trained."


@dataclass(frozen=True)
class Picture:
    """A figure as the page shows it: an inline SVG element that has its own text alternative."""

    name: str
    title: str
    caption: str
    svg: str


def pictures(tables: Study | Combined) -> list[Picture]:
    """Return every figure that the tables of a sweep, or of several, have something to show for."""
    runs = trained(tables.runs)
    if runs.empty:
        return []
    groups = replicates(runs)
    return [
        *_to_goal(runs, groups, tables.goal),
        *_evaluated(runs, tables.evaluations),
        *_losses(runs, tables.history, groups),
        *_times(runs, groups),
        *_reached(runs, groups),
        *_misses(curves.predictions_of_misses(runs, tables.predictions)),
    ]


def _losses(runs: pd.DataFrame, history: pd.DataFrame, groups: list[Replicates]) -> Iterator[Picture]:
    if history.empty:
        return
    losses = curves.losses(runs, history)
    several = any(curve.seeds["run_dir"].nunique() > 1 for curve in losses.curves)
    lines = "Thin: every seed; thick: their median, with a band" if several else "With a band"
    final = _each(groups, lambda group: f"ends at {number(group.final_loss.median, '.4f')}")
    yield picture(
        "loss-epoch", "Loss against epoch",
        f"{lines} of one standard deviation over an epoch's iterations. With the softmax, the loss cannot fall below "
        "the floor.",
        f"Mean loss of every epoch. {final}", partial(courses.loss_against_epoch, losses),
    )  # fmt: skip
    yield picture(
        "loss-seconds", "Loss against seconds", "The same losses, against the seconds that their epochs took.",
        f"Mean loss against the seconds trained. {final}", partial(courses.loss_against_seconds, losses),
    )  # fmt: skip


def _times(runs: pd.DataFrame, groups: list[Replicates]) -> Iterator[Picture]:
    yield picture(
        "seconds-epoch", "Seconds per epoch", "One mark per run: the median of its epochs without the first.",
        f"Seconds per epoch. {_medians(groups, 'seconds_per_epoch', seconds)}",
        partial(batch_size.seconds_per_epoch, scaling.seconds_per_epoch(runs)),
    )  # fmt: skip
    if costs := cost.costs(runs):
        iteration, example = map(microseconds, (costs.seconds_per_iteration, costs.seconds_per_example))
        yield picture(
            "cost", "Where an epoch's seconds go",
            f"Fitted: {iteration} for every iteration and {example} for every example.",
            f"Seconds per epoch as {iteration} an iteration plus {example} an example, and as measured.",
            partial(batch_size.cost_split, costs),
        )  # fmt: skip


def _to_goal(runs: pd.DataFrame, groups: list[Replicates], goal: Goal) -> Iterator[Picture]:
    noun = noun_of(runs)
    yield picture(
        "examples", f"{capitalized(noun)} to {goal}", f"{OPEN_MARKS} The same on every machine.",
        f"{capitalized(noun)} to {goal}. {_medians(groups, 'examples_to_goal', rounded)}",
        partial(batch_size.examples_to_goal, scaling.examples_to_goal(runs), noun, str(goal)),
    )  # fmt: skip
    yield picture(
        "iterations", f"Iterations to {goal}",
        f"Perfect scaling: twice the batch size needs half the iterations (Shallue et al. 2019). {OPEN_MARKS}",
        f"Iterations to {goal}. {_medians(groups, 'iterations_to_goal', rounded)}",
        partial(
            batch_size.iterations_to_goal, scaling.iterations_to_goal(runs), scaling.perfect_scaling(runs), str(goal)
        ),
    )  # fmt: skip
    yield picture(
        "seconds", f"Seconds to {goal}",
        f"These iterations at what one costs at this batch size, the median over its runs. {OPEN_MARKS}",
        f"Seconds to {goal}. {_medians(groups, 'seconds_to_goal', seconds)}",
        partial(batch_size.seconds_to_goal, scaling.seconds_to_goal(runs), str(goal)),
    )  # fmt: skip
    yield picture(
        "epochs", "First epoch below the threshold", OPEN_MARKS,
        f"First epoch below the threshold. {_medians(groups, 'epochs_to_threshold', number)}",
        partial(batch_size.epochs_to_threshold, scaling.epochs_to_threshold(runs)),
    )  # fmt: skip


def _evaluated(runs: pd.DataFrame, evaluations: pd.DataFrame) -> Iterator[Picture]:
    found = evaluated.courses(evaluations[evaluations["run_dir"].isin(runs["run_dir"])])
    if not found:
        return
    noun = noun_of(runs)
    thresholds = sorted(float(each) for each in runs["loss_threshold"].dropna().unique())
    yield picture(
        "frozen-loss", f"Loss at frozen weights against {noun}", "A line a run: no step is taken while it is measured.",
        f"Loss on the evaluation's training {noun}. "
        + _each(found, lambda course: f"from {course.loss[0]:.4g} to {course.loss[-1]:.4g}"),
        partial(courses.loss_against_examples, found, thresholds, noun),
    )  # fmt: skip
    measured = evaluated.with_noise_scale(found)
    if measured:
        yield picture(
            "noise-scale", f"Gradient noise scale against {noun}",
            "tr(Sigma) / |G|^2 (McCandlish et al. 2018), with the loss at some of the points: it has no single value, "
            "because it grows as the loss falls.",
            f"Gradient noise scale along the runs. {_each(measured, _noise)}",
            partial(courses.noise_scale, measured, noun),
        )  # fmt: skip


def _noise(course: Course) -> str:
    first, last = (f"{course.noise_scale[place]:.3g} at a loss of {course.loss[place]:.4g}" for place in (0, -1))
    return f"{first}, {last}"


def _reached(runs: pd.DataFrame, groups: list[Replicates]) -> Iterator[Picture]:
    if not groups:
        return
    reached = _each(groups, lambda group: share(group.reached, group.runs))
    yield picture(
        "reached", "Runs below the threshold", "The share of the runs that have been below the threshold by an epoch.",
        f"Runs that got below the threshold. {reached}", partial(courses.fraction_reached, curves.reached_shares(runs)),
    )  # fmt: skip


def _misses(predictions: pd.DataFrame) -> Iterator[Picture]:
    if predictions.empty:
        return
    shown = predictions.head(MOST_MISSES)
    text = "; ".join(_predictions_of(str(name), counts) for name, counts in shown.iterrows())
    rest = f" The first {MOST_MISSES} of {len(predictions)}." if len(predictions) > MOST_MISSES else ""
    yield picture(
        "misses", "Predictions of the runs that missed the threshold",
        f"Predictions on the test digits; framed: a digit that is never predicted.{rest}",
        f"Predictions of {counted(len(shown), 'run')}: {text}.", partial(predicted, shown),
        height=0.7 + 0.45 * len(shown),
    )  # fmt: skip


def _predictions_of(run: str, counts: pd.Series) -> str:
    never = curves.never_predicted(counts)
    return f"{run} never predicts {listed(never)}" if never else f"{run} predicts every class"


def picture(
    name: str, title: str, caption: str, text: str, draw: Callable[[Axes], None], height: float = 3.1
) -> Picture:
    """Draw a figure, with its text alternative in it."""
    return Picture(name, title, caption, as_svg(name, text, draw, height))


def _each(groups: Sequence[Described], describe: Callable[[Described], str]) -> str:
    return "; ".join(f"{group.configuration}: {describe(group)}" for group in groups) + "."


def _medians(groups: list[Replicates], name: str, write: Callable[[float], str]) -> str:
    def median(group: Replicates) -> str:
        estimate: Estimate = getattr(group, name)
        return write(estimate.median)

    return _each(groups, median)
