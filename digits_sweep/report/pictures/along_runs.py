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
from digits_sweep.report.language import said
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
    final = each_of(groups, lambda group: said("ends at {loss}", loss=number(group.final_loss.median, ".4f")))
    yield panelled(
        "loss-epoch", said("Loss against epoch"),
        _lines(found, several) + said("; at its end, the batch size.") + _floor(found),
        f"{said('Mean loss of every epoch.')} {final}", layout, partial(courses.loss_against_epoch, found),
    )  # fmt: skip
    if not against_seconds:
        return
    yield panelled(
        "loss-seconds", said("Loss against seconds"),
        said("The same losses, against the seconds that their epochs took."),
        f"{said('Mean loss against the seconds trained.')} {final}", layout,
        partial(courses.loss_against_seconds, found),
    )  # fmt: skip


def _lines(found: curves.Losses, several: bool) -> str:
    if len(found.curves) > MOST_WITH_SEEDS:
        lines = said("A line a configuration, the median of its seeds") if several else said("A line a configuration")
        thresholds = listed(said("threshold {value:g}", value=each) for each in found.thresholds)
        return lines + (said("; dashed: {thresholds}", thresholds=thresholds) if thresholds else "")
    return said(
        "Thin: every seed; thick: their median, with a band of one standard deviation over an epoch's iterations"
        if several
        else "With a band of one standard deviation over an epoch's iterations"
    )


def _floor(found: curves.Losses) -> str:
    if not found.floor:
        return ""
    return " " + said("With the softmax, the loss cannot fall below the floor, {floor:.4f}.", floor=found.floor)


def evaluated(runs: pd.DataFrame, evaluations: pd.DataFrame, layout: Layout) -> Iterator[Picture]:
    """Yield the loss at frozen weights and the gradient noise scale, if runs were evaluated."""
    found = courses_of(evaluations[evaluations["run_dir"].isin(runs["run_dir"])])
    if not found:
        return
    noun = noun_of(runs)
    thresholds = sorted(float(each) for each in runs["loss_threshold"].dropna().unique())
    yield panelled(
        "frozen-loss", said("Loss at frozen weights against {noun}", noun=noun),
        said("A line a run: no step is taken while it is measured."),
        said("Loss on the evaluation's training {noun}.", noun=noun) + " " + each_of(found, _from_to),
        layout, partial(courses.loss_against_examples, found, thresholds, noun),
    )  # fmt: skip
    measured = with_noise_scale(found)
    if measured:
        yield panelled(
            "noise-scale", said("Gradient noise scale against {noun}", noun=noun),
            said(
                "tr(Sigma) / |G|^2 (McCandlish et al. 2018): it has no single value, because it grows as the loss "
                "falls."
            ),
            f"{said('Gradient noise scale along the runs.')} {each_of(measured, _noise)}",
            layout, partial(courses.noise_scale, measured, noun),
        )  # fmt: skip


def _from_to(course: Course) -> str:
    return said("from {first:.4g} to {last:.4g}", first=course.loss[0], last=course.loss[-1])


def _noise(course: Course) -> str:
    return ", ".join(
        said("{scale:.3g} at a loss of {loss:.4g}", scale=course.noise_scale[place], loss=course.loss[place])
        for place in (0, -1)
    )


def reached(runs: pd.DataFrame, groups: list[Replicates], layout: Layout) -> Iterator[Picture]:
    """Yield the share of the runs below the threshold, if a configuration has several."""
    # Of single runs it says what the first epochs below the threshold say already.
    if not any(group.runs > 1 for group in groups):
        return
    shares = each_of(groups, lambda group: share(group.reached, group.runs))
    yield panelled(
        "reached", said("Runs below the threshold"),
        said("The share of the runs that have been below the threshold by an epoch."),
        f"{said('Runs that got below the threshold.')} {shares}", layout,
        partial(courses.fraction_reached, curves.reached_shares(runs)),
    )  # fmt: skip


def misses(predictions: pd.DataFrame) -> Iterator[Picture]:
    """Yield what the runs that missed the threshold predict, if any did."""
    if predictions.empty:
        return
    shown = predictions.head(MOST_MISSES)
    text = "; ".join(_predictions_of(str(name), counts) for name, counts in shown.iterrows())
    caption = said("Predictions on the test digits; framed: a digit that is never predicted.")
    if len(predictions) > MOST_MISSES:
        caption += " " + said("The first {count} of {all}.", count=MOST_MISSES, all=len(predictions))
    yield picture(
        "misses", said("Predictions of the runs that missed the threshold"), caption,
        said("Predictions of {runs}: {text}.", runs=counted(len(shown), "run"), text=text), partial(predicted, shown),
        height=0.7 + 0.45 * len(shown),
    )  # fmt: skip


def _predictions_of(run: str, counts: pd.Series) -> str:
    never = curves.never_predicted(counts)
    if not never:
        return said("{run} predicts every class", run=run)
    return said("{run} never predicts {classes}", run=run, classes=listed(never))
