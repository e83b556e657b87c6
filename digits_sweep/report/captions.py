"""Choose the figures of a page: each with its title, its caption, its text alternative and its drawing."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pandas as pd
from matplotlib.axes import Axes

from digits_sweep.report import figures
from digits_sweep.report.analysis import curves, scaling
from digits_sweep.report.analysis.formatting import counted, listed, microseconds, number, seconds, share
from digits_sweep.report.analysis.replicates import Estimate, Replicates, replicates, trained
from digits_sweep.report.style import as_svg

# One row a run that missed the threshold; of more than these the first are drawn, and the caption says so.
MOST_MISSES = 24
OPEN_MARKS = "Open marks: not reached, drawn at the last epoch trained."


@dataclass(frozen=True)
class Picture:
    """A figure as the page shows it: an inline SVG element that has its own text alternative."""

    name: str
    title: str
    caption: str
    svg: str


def pictures(runs: pd.DataFrame, history: pd.DataFrame, predictions: pd.DataFrame) -> list[Picture]:
    """Return every figure that these tables have something to show for; the arguments are those of a `Study`."""
    runs = trained(runs)
    if runs.empty:
        return []
    groups = replicates(runs)
    return [
        *_losses(runs, history, groups),
        *_times(runs, groups),
        *_to_threshold(runs, groups),
        *_reached(runs, groups),
        *_misses(curves.predictions_of_misses(runs, predictions)),
    ]


def _losses(runs: pd.DataFrame, history: pd.DataFrame, groups: list[Replicates]) -> Iterator[Picture]:
    if history.empty:
        return
    losses = curves.losses(runs, history)
    several = any(curve.seeds["run_dir"].nunique() > 1 for curve in losses.curves)
    lines = "Thin: every seed; thick: their median, with a band" if several else "With a band"
    final = _each(groups, lambda group: f"ends at {number(group.final_loss.median, '.4f')}")
    yield _picture(
        "loss-epoch", "Loss against epoch",
        f"{lines} of one standard deviation over an epoch's iterations. With the softmax, the loss cannot fall below "
        "the floor.",
        f"Mean loss of every epoch. {final}", partial(figures.loss_against_epoch, losses),
    )  # fmt: skip
    yield _picture(
        "loss-seconds", "Loss against seconds", "The same losses, against the seconds that their epochs took.",
        f"Mean loss against the seconds trained. {final}", partial(figures.loss_against_seconds, losses),
    )  # fmt: skip


def _times(runs: pd.DataFrame, groups: list[Replicates]) -> Iterator[Picture]:
    yield _picture(
        "seconds-epoch", "Seconds per epoch", "One mark per run: the median of its epochs without the first.",
        f"Seconds per epoch. {_medians(groups, 'seconds_per_epoch', seconds)}",
        partial(figures.seconds_per_epoch, scaling.seconds_per_epoch(runs)),
    )  # fmt: skip
    if costs := scaling.costs(runs):
        iteration, example = map(microseconds, (costs.seconds_per_iteration, costs.seconds_per_example))
        yield _picture(
            "cost", "Where an epoch's seconds go",
            f"Fitted: {iteration} for every iteration and {example} for every example.",
            f"Seconds per epoch as {iteration} an iteration plus {example} an example, and as measured.",
            partial(figures.cost_split, costs),
        )  # fmt: skip


def _to_threshold(runs: pd.DataFrame, groups: list[Replicates]) -> Iterator[Picture]:
    yield _picture(
        "epochs", "Epochs to the threshold", OPEN_MARKS,
        f"First epoch below the threshold. {_medians(groups, 'epochs_to_threshold', number)}",
        partial(figures.epochs_to_threshold, scaling.epochs_to_threshold(runs)),
    )  # fmt: skip
    yield _picture(
        "iterations", "Iterations to the threshold",
        f"Perfect scaling: twice the batch size needs half the iterations (Shallue et al. 2019). {OPEN_MARKS}",
        f"Iterations to the threshold. {_medians(groups, 'iterations_to_threshold', number)}",
        partial(figures.iterations_to_threshold, scaling.iterations_to_threshold(runs), scaling.perfect_scaling(runs)),
    )  # fmt: skip
    yield _picture(
        "seconds", "Seconds to the threshold", OPEN_MARKS,
        f"Seconds to the threshold. {_medians(groups, 'seconds_to_threshold', seconds)}",
        partial(figures.seconds_to_threshold, scaling.seconds_to_threshold(runs)),
    )  # fmt: skip


def _reached(runs: pd.DataFrame, groups: list[Replicates]) -> Iterator[Picture]:
    if not groups:
        return
    reached = _each(groups, lambda group: share(group.reached, group.runs))
    yield _picture(
        "reached", "Runs below the threshold", "The share of the runs that have been below the threshold by an epoch.",
        f"Runs that got below the threshold. {reached}", partial(figures.fraction_reached, curves.reached_shares(runs)),
    )  # fmt: skip


def _misses(predictions: pd.DataFrame) -> Iterator[Picture]:
    if predictions.empty:
        return
    shown = predictions.head(MOST_MISSES)
    text = "; ".join(_predictions_of(str(name), counts) for name, counts in shown.iterrows())
    rest = f" The first {MOST_MISSES} of {len(predictions)}." if len(predictions) > MOST_MISSES else ""
    yield _picture(
        "misses", "Predictions of the runs that missed the threshold",
        f"Predictions on the test digits; framed: a digit that is never predicted.{rest}",
        f"Predictions of {counted(len(shown), 'run')}: {text}.", partial(figures.predictions, shown),
        height=0.7 + 0.45 * len(shown),
    )  # fmt: skip


def _predictions_of(run: str, counts: pd.Series) -> str:
    never = curves.never_predicted(counts)
    return f"{run} never predicts {listed(never)}" if never else f"{run} predicts every class"


def _picture(
    name: str, title: str, caption: str, text: str, draw: Callable[[Axes], None], height: float = 3.1
) -> Picture:
    return Picture(name, title, caption, as_svg(name, text, draw, height))


def _each(groups: list[Replicates], describe: Callable[[Replicates], str]) -> str:
    return "; ".join(f"{group.configuration}: {describe(group)}" for group in groups) + "."


def _medians(groups: list[Replicates], name: str, write: Callable[[float], str]) -> str:
    def median(group: Replicates) -> str:
        estimate: Estimate = getattr(group, name)
        return write(estimate.median)

    return _each(groups, median)
