"""Figures along the runs, with captions and text alternatives: losses, evaluations, the share below the threshold."""

from collections.abc import Iterator
from functools import partial

import pandas as pd

from digits_sweep.report.analysis.curves import along_epochs as curves
from digits_sweep.report.analysis.curves.evaluated import Course, with_noise_scale
from digits_sweep.report.analysis.curves.evaluated import courses as courses_of
from digits_sweep.report.analysis.panels import Layout
from digits_sweep.report.analysis.sentences.formatting import counted, listed, noun_of, number, share
from digits_sweep.report.analysis.statistics.replicates import Replicates
from digits_sweep.report.figures import courses
from digits_sweep.report.figures.courses import MOST_WITH_SEEDS
from digits_sweep.report.figures.predictions import predictions as predicted
from digits_sweep.report.pictures.alternatives import each_of
from digits_sweep.report.pictures.picture import Picture, panelled, picture

# One row a run that missed the threshold; of more than these the first are drawn, and the caption says so.
MOST_MISSES = 24


def losses(
    runs: pd.DataFrame,
    history: pd.DataFrame,
    groups: list[Replicates],
    layout: Layout,
    against_seconds: bool = True,
) -> Iterator[Picture]:
    """Yield the losses against epochs, and against seconds."""
    if history.empty:
        return
    found = curves.losses(runs, history)
    several = any(curve.seeds["run_dir"].nunique() > 1 for curve in found.curves)
    lines = "Thin: every seed; thick: their median, with a band" if several else "With a band"
    if len(found.curves) > MOST_WITH_SEEDS:
        lines = "A line a configuration" + (", the median of its seeds" if several else "")
        lines += f"; dashed: {listed([f'threshold {each:g}' for each in found.thresholds])}" if found.thresholds else ""
    else:
        lines = f"{lines} of one standard deviation over an epoch's iterations"
    floor = f" With the softmax, the loss cannot fall below the floor, {found.floor:.4f}." if found.floor else ""
    final = each_of(groups, lambda group: f"ends at {number(group.final_loss.median, '.4f')}")
    yield panelled(
        "loss-epoch", "Loss against epoch", f"{lines}; at its end, the batch size.{floor}",
        f"Mean loss of every epoch. {final}", layout, partial(courses.loss_against_epoch, found),
    )  # fmt: skip
    if not against_seconds:
        return
    yield panelled(
        "loss-seconds", "Loss against seconds", "The same losses, against the seconds that their epochs took.",
        f"Mean loss against the seconds trained. {final}", layout, partial(courses.loss_against_seconds, found),
    )  # fmt: skip


def evaluated(runs: pd.DataFrame, evaluations: pd.DataFrame, layout: Layout) -> Iterator[Picture]:
    """Yield the loss at frozen weights and the gradient noise scale, if runs were evaluated."""
    found = courses_of(evaluations[evaluations["run_dir"].isin(runs["run_dir"])])
    if not found:
        return
    noun = noun_of(runs)
    thresholds = sorted(float(each) for each in runs["loss_threshold"].dropna().unique())
    yield panelled(
        "frozen-loss", f"Loss at frozen weights against {noun}", "A line a run: no step is taken while it is measured.",
        f"Loss on the evaluation's training {noun}. "
        + each_of(found, lambda course: f"from {course.loss[0]:.4g} to {course.loss[-1]:.4g}"),
        layout, partial(courses.loss_against_examples, found, thresholds, noun),
    )  # fmt: skip
    measured = with_noise_scale(found)
    if measured:
        yield panelled(
            "noise-scale", f"Gradient noise scale against {noun}",
            "tr(Sigma) / |G|^2 (McCandlish et al. 2018): it has no single value, because it grows as the loss falls.",
            f"Gradient noise scale along the runs. {each_of(measured, _noise)}",
            layout, partial(courses.noise_scale, measured, noun),
        )  # fmt: skip


def _noise(course: Course) -> str:
    first, last = (f"{course.noise_scale[place]:.3g} at a loss of {course.loss[place]:.4g}" for place in (0, -1))
    return f"{first}, {last}"


def reached(runs: pd.DataFrame, groups: list[Replicates], layout: Layout) -> Iterator[Picture]:
    """Yield the share of the runs below the threshold, if a configuration has several."""
    # Of single runs it says what the first epochs below the threshold say already.
    if not any(group.runs > 1 for group in groups):
        return
    shares = each_of(groups, lambda group: share(group.reached, group.runs))
    yield panelled(
        "reached", "Runs below the threshold", "The share of the runs that have been below the threshold by an epoch.",
        f"Runs that got below the threshold. {shares}", layout,
        partial(courses.fraction_reached, curves.reached_shares(runs)),
    )  # fmt: skip


def misses(predictions: pd.DataFrame) -> Iterator[Picture]:
    """Yield what the runs that missed the threshold predict, if any did."""
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
