"""The report's figures: each draws one result of the analysis on a matplotlib axis, and computes nothing.

A run that did not get below the threshold is drawn as an open mark; it is never left out. A configuration has the same
color and marker in all figures.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from digits_sweep.report.analysis.curves import Losses, ReachedShare
from digits_sweep.report.analysis.formatting import microseconds
from digits_sweep.report.analysis.scaling import Costs, Marks
from digits_sweep.report.style import BAND, INK, MARKERS, SERIES, finish, legend, plain


def loss_against_epoch(losses: Losses, axis: Axes) -> None:
    """Draw the mean loss against the epoch: every seed thin, the median thick, with one standard deviation around."""
    _losses(losses, "epoch", axis)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("epoch")


def loss_against_seconds(losses: Losses, axis: Axes) -> None:
    """Draw the same losses against the seconds of training that they took, on a logarithmic scale."""
    _losses(losses, "seconds", axis)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(plain)
    axis.set_xlabel("seconds of training")


def _losses(losses: Losses, x: str, axis: Axes) -> None:
    for curve, (color, marker) in zip(losses.curves, _styles(losses.curves), strict=True):
        seeds = [seed for _, seed in curve.seeds.groupby("run_dir")]
        if not seeds:
            continue
        for seed in seeds if len(seeds) > 1 else ():
            axis.plot(seed[x], seed["loss"], color=color, linewidth=0.6, alpha=0.45)
        median = curve.median
        axis.plot(
            median[x], median["loss"], color=color, linewidth=1.8, marker=marker, markersize=3,
            label=curve.configuration,
        )  # fmt: skip
        axis.fill_between(median[x], median["low"], median["high"], color=color, alpha=BAND, linewidth=0)
    for threshold in losses.thresholds:
        _horizontal(threshold, f"threshold {threshold:g}", "--", axis)
    if losses.floor:
        _horizontal(losses.floor, f"floor {losses.floor:.4f}", ":", axis)
        axis.set_ylim(bottom=losses.floor - 0.07)
    axis.set_ylabel("mean loss of the epoch")
    finish(axis)


def _horizontal(loss: float, name: str, style: str, axis: Axes) -> None:
    axis.axhline(loss, color=INK, linewidth=0.9, linestyle=style)
    axis.annotate(
        name, (1, loss), xycoords=("axes fraction", "data"), xytext=(0, -2), textcoords="offset points",
        ha="right", va="top", fontsize=8, color=INK,
    )  # fmt: skip


def seconds_per_epoch(marks: Sequence[Marks], axis: Axes) -> None:
    """Draw the seconds per epoch against the batch size, both logarithmic: a mark a run."""
    _against_batch_size(marks, axis)
    axis.set_ylabel("seconds per epoch")


def seconds_to_threshold(marks: Sequence[Marks], axis: Axes) -> None:
    """Draw the seconds to the threshold; open: not reached in as many seconds of training."""
    _against_batch_size(marks, axis)
    axis.set_ylabel("seconds to the threshold")


def epochs_to_threshold(marks: Sequence[Marks], axis: Axes) -> None:
    """Draw the first epoch below the threshold; open: not reached, at the last epoch trained."""
    _against_batch_size(marks, axis)
    axis.set_ylabel("epochs to the threshold")


def iterations_to_threshold(marks: Sequence[Marks], perfect: pd.DataFrame, axis: Axes) -> None:
    """Draw the iterations to the threshold and the line of perfect scaling, `batch_size, iterations`."""
    _against_batch_size(marks, axis)
    axis.set_ylabel("iterations to the threshold")
    if len(perfect):
        axis.plot(
            perfect["batch_size"], perfect["iterations"], color=INK, linestyle=":", linewidth=1,
            label="perfect scaling",
        )  # fmt: skip
        legend(axis)


def _against_batch_size(marks: Sequence[Marks], axis: Axes) -> None:
    for place, (each, (color, marker)) in enumerate(zip(marks, _styles(marks), strict=True)):
        # Configurations that share a batch size stand beside one another.
        aside = 1.04 ** (place - (len(marks) - 1) / 2)
        sizes = [size * aside for size in each.batch_sizes]
        axis.plot(sizes, each.reached, marker, color=color, markersize=6, label=each.configuration, alpha=0.8)
        if not all(map(math.isnan, each.missed)):
            axis.plot(sizes, each.missed, marker, color=color, markersize=6, markerfacecolor="none")
    axis.set_xscale("log")
    axis.set_yscale("log")
    sizes = sorted({size for each in marks for size in each.batch_sizes if not math.isnan(size)})
    axis.set_xticks(sizes, [f"{size:.0f}" for size in sizes])
    axis.xaxis.set_minor_locator(NullLocator())
    lowest, highest = axis.yaxis.get_data_interval()
    # Within a few powers of ten, the powers alone would leave an axis with one number or none.
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5) if highest < 100 * lowest else (1,)))
    axis.yaxis.set_major_formatter(plain)
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("batch size")
    finish(axis)


def cost_split(costs: Costs, axis: Axes) -> None:
    """Draw the two parts of an epoch's seconds, stacked for every batch size, and what was measured beside them."""
    parts, places = costs.parts, range(len(costs.parts))
    example, iteration = microseconds(costs.seconds_per_example), microseconds(costs.seconds_per_iteration)
    axis.bar(places, parts["examples"], width=0.55, color=SERIES[0], label=f"{example} an example")
    axis.bar(
        places, parts["iterations"], width=0.55, bottom=parts["examples"], color=SERIES[1],
        label=f"{iteration} an iteration",
    )  # fmt: skip
    axis.plot(places, parts["measured"], "o", color=INK, markersize=5, label="measured")
    axis.set_xticks(places, [str(size) for size in parts.index])
    axis.set_xlabel("batch size")
    axis.set_ylabel("seconds per epoch")
    finish(axis)


def fraction_reached(shares: Sequence[ReachedShare], axis: Axes) -> None:
    """Draw the share of a configuration's runs that are below the threshold by an epoch, a step line each."""
    for place, (each, (color, _)) in enumerate(zip(shares, _styles(shares), strict=True)):
        # Lines that coincide are all visible, because the later ones are thinner.
        width = max(4 - 0.8 * place, 0.8)
        if each.epochs:
            axis.step(each.epochs, each.shares, where="post", color=color, label=each.configuration, linewidth=width)
    axis.set_ylim(-0.03, 1.05)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("epoch")
    axis.set_ylabel("share of the runs")
    finish(axis)


def predictions(counts: pd.DataFrame, axis: Axes) -> None:
    """Draw how often a run predicts each class: a row a run, a disc a class, a frame around 0.

    `counts` has the name of a run as its index, and a column for every class: how many test digits are predicted as it.
    """
    table = counts.to_numpy(float)
    rows, columns = np.indices(table.shape)
    axis.scatter(columns, rows, s=230 * table / max(table.max(), 1), color=SERIES[0], alpha=0.35, linewidth=0)
    for row, name in enumerate(counts.index):
        axis.text(-0.5, row - 0.36, str(name), ha="left", va="center", fontsize=7)
    for (row, column), count in np.ndenumerate(table):
        style = {} if count else {"bbox": {"boxstyle": "square", "fill": False, "edgecolor": SERIES[1]}}
        axis.text(column, row, f"{count:.0f}", ha="center", va="center", fontsize=7, **style)
    axis.set_xticks(range(table.shape[1]), [str(each) for each in counts.columns])
    axis.set_yticks([])
    axis.set_ylim(len(counts) - 0.5, -0.6)
    axis.set_xlabel("predicted class, and number of test digits")
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)


def _styles(configurations: Iterable[object]) -> list[tuple[str, str]]:
    """Return color and marker of every configuration."""
    places = range(len(list(configurations)))
    return [(SERIES[place % len(SERIES)], MARKERS[place % len(MARKERS)]) for place in places]
