"""Figures against the batch size: a mark a run, and where an epoch's seconds go."""

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from digits_sweep.report.analysis.sentences.formatting import microseconds
from digits_sweep.report.analysis.statistics.cost import Costs
from digits_sweep.report.analysis.statistics.scaling import Marks
from digits_sweep.report.style import INK, SERIES, finish, legend, logarithmic, styles


def seconds_per_epoch(marks: Sequence[Marks], axis: Axes) -> None:
    """Draw the seconds per epoch against the batch size, both logarithmic: a mark a run."""
    _against_batch_size(marks, axis)
    axis.set_ylabel("seconds per epoch")


def seconds_to_goal(marks: Sequence[Marks], goal: str, axis: Axes) -> None:
    """Draw the seconds to the goal; open: not reached in as many seconds of training."""
    _against_batch_size(marks, axis)
    axis.set_ylabel(f"seconds to {goal}")


def examples_to_goal(marks: Sequence[Marks], noun: str, goal: str, axis: Axes) -> None:
    """Draw the examples to the goal; open: not reached with as many."""
    _against_batch_size(marks, axis)
    axis.set_ylabel(f"{noun} to {goal}")


def epochs_to_threshold(marks: Sequence[Marks], axis: Axes) -> None:
    """Draw the first epoch below the threshold; open: not reached, at the last epoch trained."""
    _against_batch_size(marks, axis)
    axis.set_ylabel("epochs to the threshold")


def iterations_to_goal(marks: Sequence[Marks], perfect: pd.DataFrame, goal: str, axis: Axes) -> None:
    """Draw the iterations to the goal and the line of perfect scaling."""
    _against_batch_size(marks, axis)
    axis.set_ylabel(f"iterations to {goal}")
    if len(perfect):
        axis.plot(
            perfect["batch_size"], perfect["iterations_to_goal"], color=INK, linestyle=":", linewidth=1,
            label="perfect scaling",
        )  # fmt: skip
        legend(axis)


def _against_batch_size(marks: Sequence[Marks], axis: Axes) -> None:
    for place, (each, (color, marker)) in enumerate(zip(marks, styles(marks), strict=True)):
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
    logarithmic(axis.yaxis)
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
