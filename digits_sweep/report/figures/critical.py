"""Figures of a critical batch size: steps, examples, seconds and rates against the batch size, and rate responses."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from digits_sweep.report.analysis.curves.branches import Branches
from digits_sweep.report.analysis.curves.critical import (
    Critical,
    Line,
    fitted_steps,
    perfect_scaling,
    rate_lines,
    responses,
    seconds_per_step,
    times,
)
from digits_sweep.report.analysis.sentences.critical import goal_of
from digits_sweep.report.figures.style import BAND, INK, color_of, finish, horizontal, styles
from digits_sweep.report.figures.ticks import logarithmic, rate, size_ticks
from digits_sweep.report.language import said
from digits_sweep.results.critical import Answer

# A miss is drawn so many times above the largest number there is.
ABOVE = 1.5


def steps(critical: Critical, axis: Axes) -> None:
    """Draw the steps to every goal with their intervals, the fit, perfect scaling, and B_crit with its interval."""
    for answer, (color, marker) in zip(critical.answers, styles(critical.answers), strict=True):
        rows = critical.steps_to(answer)
        _marks(rows, np.ones(len(rows)), color, marker, axis)
        _line(fitted_steps(answer, _sizes(rows)), color, "-", axis)
        _line(perfect_scaling(rows), color, ":", axis)
        _critical(answer, color, axis)
    axis.set_ylabel(said("steps"))
    _finish(critical, axis)


def examples(critical: Critical, axis: Axes) -> None:
    """Draw the examples to every goal, with the fit and B_crit, where twice the fewest possible are needed."""
    for answer, (color, marker) in zip(critical.answers, styles(critical.answers), strict=True):
        rows = critical.steps_to(answer)
        _marks(rows, np.array(_sizes(rows)), color, marker, axis)
        _line(times(fitted_steps(answer, _sizes(rows))), color, "-", axis)
        _critical(answer, color, axis)
    axis.set_ylabel(said("examples"))
    _finish(critical, axis)


def seconds(critical: Critical, axis: Axes) -> None:
    """Draw the seconds to every goal at the measured cost of a step, and the batch size that is soonest.

    Open diamond: that batch size, run as a check.
    """
    for answer, (color, marker) in zip(critical.answers, styles(critical.answers), strict=True):
        rows = critical.steps_to(answer)
        _marks(rows, np.array([seconds_per_step(answer, size) for size in _sizes(rows)]), color, marker,
               axis)  # fmt: skip
        _line(times(fitted_steps(answer, _sizes(rows)), answer), color, "-", axis)
        if answer.soonest_batch_size:
            axis.axvline(answer.soonest_batch_size, color=color, linestyle="-.", linewidth=1)
        if answer.check and answer.check.median is not None:
            size = answer.check.batch_size
            axis.plot(
                [size], [answer.check.median * seconds_per_step(answer, size)], "D", color=color, markersize=9,
                markerfacecolor="none",
            )  # fmt: skip
    axis.set_ylabel(said("seconds of training"))
    _finish(critical, axis)


def rates(critical: Critical, axis: Axes) -> None:
    """Draw the best learning rate at every batch size, and the lines of the square-root and the linear rule."""
    for answer, (color, marker) in zip(critical.answers, styles(critical.answers), strict=True):
        rows = critical.steps_to(answer).dropna(subset=["lr"])
        axis.plot(_sizes(rows), rows["lr"].astype(float), marker, color=color, markersize=6)
        for line, style in zip(rate_lines(rows) or (), ("--", ":"), strict=False):
            _line(line, color, style, axis)
    axis.set_ylabel(said("learning rate"))
    _finish(critical, axis)


def response(tuning: pd.DataFrame, sizes: Sequence[float], axis: Axes) -> None:
    """Draw the steps to one goal against the learning rate: a mark a run, a line through medians; open: missed.

    `sizes` are all batch sizes of the page, in ascending order.
    """
    found = responses(tuning)
    highest = ABOVE * tuning["iterations"].astype(float).max(skipna=True)
    for (size, rows), (_, marker) in zip(found.items(), styles(found), strict=True):
        color = color_of(size, sizes)
        missed = rows["iterations"].isna()
        axis.plot(rows["lr"], rows["iterations"], marker, color=color, markersize=4, alpha=0.7)
        if missed.any() and np.isfinite(highest):
            axis.plot(rows["lr"][missed], [highest] * int(missed.sum()), marker, color=color, markersize=4,
                      markerfacecolor="none")  # fmt: skip
        medians = rows[np.isfinite(rows["median"])].drop_duplicates("lr")
        axis.plot(medians["lr"], medians["median"], color=color, linewidth=1)
    _logarithmic(axis)
    axis.xaxis.set_major_formatter(rate)
    axis.set_xlabel(said("learning rate"))
    axis.set_ylabel(said("steps"))
    finish(axis)


def branches(critical: Critical, found: Branches, axis: Axes) -> None:
    """Draw the loss of branches over that of the branch at the run's own batch size, and B_crit of every goal."""
    ratios = found.ratios
    axis.errorbar(
        found.batch_sizes, [each.median for each in ratios],
        yerr=[[each.median - each.low for each in ratios], [each.high - each.median for each in ratios]],
        fmt="o-", color=INK, markersize=4, linewidth=1,
    )  # fmt: skip
    axis.axhline(1 + found.tolerance, color=INK, linestyle=":", linewidth=1)
    for answer, (color, _) in zip(critical.answers, styles(critical.answers), strict=True):
        _critical(answer, color, axis)
    axis.set_ylabel(said("loss, times that of the same batch size"))
    size_ticks(found.batch_sizes, axis)
    axis.set_xlabel(said("batch size"))
    finish(axis)


def noise_scale(critical: Critical, found: dict[int, list[pd.DataFrame]], noun: str, axis: Axes) -> None:
    """Draw the gradient noise scale along runs, a color a batch size, and the critical batch size of every goal."""
    sizes = sizes_of(critical)
    for size, runs in found.items():
        for rows in runs:
            color = color_of(size, sizes) if size in sizes else INK
            axis.plot(rows["examples"], rows["noise_scale"], color=color, linewidth=1)
    _logarithmic(axis)
    known = [answer for answer in critical.answers if answer.b_crit is not None]
    horizontal([(float(each.b_crit or 0), f"B_crit, {goal_of(each)}", "--") for each in known], True, axis)
    axis.set_xlabel(said("{noun} trained on", noun=noun))
    axis.set_ylabel(said("gradient noise scale"))
    finish(axis)


def _sizes(rows: pd.DataFrame) -> list[float]:
    return rows["batch_size"].astype(float).tolist()


def _marks(rows: pd.DataFrame, per_step: np.ndarray, color: str, marker: str, axis: Axes) -> None:
    """Draw medians with their intervals; open, above all others: the goal was not reached."""
    sizes, reached = np.array(_sizes(rows)), np.isfinite(rows["median"].to_numpy(float))
    median, low, high = (rows[name].to_numpy(float)[reached] * per_step[reached] for name in ("median", "low", "high"))
    top = np.where(np.isfinite(high), high, ABOVE * median)
    axis.errorbar(
        sizes[reached], median, yerr=[median - low, top - median], fmt=marker, color=color, markersize=5, linewidth=1,
    )  # fmt: skip
    if 0 < reached.sum() < len(reached):
        missed = sizes[~reached]
        axis.plot(missed, [ABOVE * top.max()] * len(missed), marker, color=color, markerfacecolor="none")


def _line(line: Line | None, color: str, style: str, axis: Axes) -> None:
    if line is not None:
        axis.plot(line.batch_sizes, line.values, color=color, linestyle=style, linewidth=1)


def _critical(answer: Answer, color: str, axis: Axes) -> None:
    if answer.b_crit is not None and answer.b_crit_low is not None and answer.b_crit_high is not None:
        axis.axvline(answer.b_crit, color=color, linestyle="--", linewidth=1)
        axis.axvspan(answer.b_crit_low, answer.b_crit_high, color=color, alpha=BAND, linewidth=0)


def sizes_of(critical: Critical) -> list[float]:
    """Return the batch sizes of a study, in ascending order."""
    return sorted({float(size) for table in (critical.steps, critical.tuning) for size in table["batch_size"]})


def _logarithmic(axis: Axes) -> None:
    """Make both axes logarithmic, if there is anything on them."""
    # Matplotlib has no ticks for a logarithmic axis without a number.
    if any(np.isfinite(np.asarray(line.get_ydata(), float)).any() for line in axis.lines):
        logarithmic(axis.xaxis)
        logarithmic(axis.yaxis)


def _finish(critical: Critical, axis: Axes) -> None:
    _logarithmic(axis)
    size_ticks(sorted({float(size) for size in critical.steps["batch_size"]}), axis)
    axis.set_xlabel(said("batch size"))
    finish(axis)
