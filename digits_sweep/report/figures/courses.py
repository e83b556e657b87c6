"""Figures along a run: losses, the share of runs below the threshold, and the gradient noise scale."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from digits_sweep.report.analysis.statistics.curves import Losses, ReachedShare
from digits_sweep.report.analysis.statistics.evaluated import Course
from digits_sweep.report.style import BAND, finish, horizontal, logarithmic, plain, styles


def loss_against_epoch(losses: Losses, axis: Axes) -> None:
    """Draw the mean loss against the epoch: every seed thin, the median thick, with one standard deviation around."""
    _losses(losses, "epoch", axis)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("epoch")


def loss_against_seconds(losses: Losses, axis: Axes) -> None:
    """Draw the same losses against the seconds of training that they took, on a logarithmic scale."""
    _losses(losses, "seconds", axis)
    axis.set_xscale("log")
    logarithmic(axis.xaxis)
    axis.set_xlabel("seconds of training")


def _losses(losses: Losses, x: str, axis: Axes) -> None:
    for curve, (color, marker) in zip(losses.curves, styles(losses.curves), strict=True):
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
        horizontal(threshold, f"threshold {threshold:g}", "--", axis)
    if losses.floor:
        horizontal(losses.floor, f"floor {losses.floor:.4f}", ":", axis)
        axis.set_ylim(bottom=losses.floor - 0.07)
    axis.set_ylabel("mean loss of the epoch")
    finish(axis)


def fraction_reached(shares: Sequence[ReachedShare], axis: Axes) -> None:
    """Draw the share of a configuration's runs that are below the threshold by an epoch, a step line each."""
    for place, (each, (color, _)) in enumerate(zip(shares, styles(shares), strict=True)):
        # Lines that coincide are all visible, because the later ones are thinner.
        width = max(4 - 0.8 * place, 0.8)
        if each.epochs:
            axis.step(each.epochs, each.shares, where="post", color=color, label=each.configuration, linewidth=width)
    axis.set_ylim(-0.03, 1.05)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("epoch")
    axis.set_ylabel("share of the runs")
    finish(axis)


def loss_against_examples(courses: Sequence[Course], thresholds: Sequence[float], noun: str, axis: Axes) -> None:
    """Draw the loss at frozen weights against the examples trained on, a line a run, and the thresholds."""
    for course, color, label in _colored(courses):
        axis.plot(course.examples, course.loss, color=color, linewidth=1, label=label)
    for threshold in thresholds:
        horizontal(threshold, f"threshold {threshold:g}", "--", axis)
    axis.set_xlabel(f"{noun} trained on")
    axis.xaxis.set_major_formatter(plain)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.set_ylabel("loss at frozen weights")
    finish(axis)


def noise_scale(courses: Sequence[Course], noun: str, axis: Axes) -> None:
    """Draw the gradient noise scale against the examples trained on, a line a run, with the loss at some points."""
    for number, (course, color, label) in enumerate(_colored(courses)):
        axis.plot(course.examples, course.noise_scale, color=color, linewidth=1, label=label)
        # Beside every run, its losses would hide one another.
        for place in _spread(len(course.examples)) if label or number == 0 else ():
            axis.annotate(
                f"{course.loss[place]:.3g}", (course.examples[place], course.noise_scale[place]), fontsize=7,
                xytext=(0, 3), textcoords="offset points", ha="center", color=color,
            )  # fmt: skip
    axis.set_yscale("log")
    logarithmic(axis.yaxis)
    axis.set_xlabel(f"{noun} trained on")
    axis.xaxis.set_major_formatter(plain)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.set_ylabel("noise scale (numbers: the loss)")
    finish(axis)


def _colored(courses: Sequence[Course]) -> Iterator[tuple[Course, str, str | None]]:
    """Yield every run with the color of its configuration, and with its name the first time."""
    names = list(dict.fromkeys(course.configuration for course in courses))
    found, named = dict(zip(names, styles(names), strict=True)), set()
    for course in courses:
        yield course, found[course.configuration][0], None if course.configuration in named else course.configuration
        named.add(course.configuration)


def _spread(count: int, most: int = 5) -> list[int]:
    """Return places from the first to the last of `count`, at most as many as can be told apart."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))})
