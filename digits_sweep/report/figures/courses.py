"""Figures along a run: losses, the share of runs below the threshold, and the gradient noise scale."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from digits_sweep.report.analysis.curves.along_epochs import Losses, ReachedShare
from digits_sweep.report.analysis.curves.evaluated import Course
from digits_sweep.report.analysis.panels import Layout
from digits_sweep.report.figures.style import BAND, color_of, finish, horizontal, label_ends
from digits_sweep.report.figures.svg import hover
from digits_sweep.report.figures.ticks import counting, limits, logarithmic, plain
from digits_sweep.report.language import said

DASHES = ("-", "--", ":")
# Of more configurations neither the seeds nor a band are drawn, and the medians are thin.
MOST_WITH_SEEDS = 12
# Of more the noise scale has no losses beside it.
MOST_NOTED = 3
# Beside more lines there is no room for names.
MOST_NAMES = 14


@dataclass(frozen=True)
class Line:
    """A line: its points (n, 2), its look, and what it shows under the mouse."""

    points: np.ndarray
    color: str
    shape: int
    url: str


def _draw(lines: Sequence[Line], width: float, axis: Axes) -> None:
    """Draw lines as one collection: one by one, hundreds of them take seconds."""
    axis.add_collection(
        LineCollection(
            [line.points for line in lines], colors=[line.color for line in lines], linewidths=width,
            linestyles=[DASHES[line.shape % len(DASHES)] for line in lines], urls=[line.url for line in lines],
            capstyle="round",
        )
    )  # fmt: skip


def loss_against_epoch(losses: Losses, layout: Layout, panel: int, axis: Axes) -> None:
    """Draw the mean loss against the epoch: every seed thin, the median thick, with one standard deviation around."""
    _losses(losses, "epoch", layout, panel, axis)
    counting(axis.xaxis)
    axis.set_xlabel(said("epoch"))


def loss_against_seconds(losses: Losses, layout: Layout, panel: int, axis: Axes) -> None:
    """Draw the same losses against the seconds of training that they took, on a logarithmic scale."""
    _losses(losses, "seconds", layout, panel, axis)
    logarithmic(axis.xaxis)
    axis.set_xlabel(said("seconds of training"))


def _losses(losses: Losses, x: str, layout: Layout, panel: int, axis: Axes) -> None:
    many = len(losses.curves) > MOST_WITH_SEEDS
    _limits(losses, x, axis)
    own = [curve for curve in losses.curves if layout.panel_of[curve.configuration] == panel and len(curve.median)]
    lines: list[Line] = []
    for curve in own:
        color, name = _color(curve.configuration, layout), curve.configuration
        if not many:
            seeds = [seed for _, seed in curve.seeds.groupby("run_dir")]
            for seed in seeds if len(seeds) > 1 else ():
                axis.plot(seed[x], seed["loss"], color=color, linewidth=0.6, alpha=0.45)
        median = curve.median
        runs = dict.fromkeys(curve.seeds["run_dir"])
        last = median.iloc[-1]
        text = said("{name}: {loss:.4f} after epoch {epoch:.0f}", name=name, loss=last["loss"], epoch=last["epoch"])
        lines.append(Line(np.column_stack([median[x], median["loss"]]).astype(float), color, layout.shape_of[name],
                          hover(text, layout.numbers[next(iter(runs))] if len(runs) == 1 else None)))  # fmt: skip
        if not many:
            axis.fill_between(median[x], median["low"], median["high"], color=color, alpha=BAND, linewidth=0)
    _draw(lines, 0.9 if many else 1.8, axis)
    end = _name([(curve.configuration, curve.median["loss"].iloc[-1]) for curve in own], layout, axis)
    levels = [(threshold, said("threshold {value:g}", value=threshold), "--") for threshold in losses.thresholds]
    levels += [(losses.floor, said("floor {value:.4f}", value=losses.floor), ":")] if losses.floor else []
    # Lines upon lines would hide a name.
    horizontal(levels, panel == 0 and not many, axis, end)
    axis.set_ylabel(said("mean loss of the epoch"))
    finish(axis)


def _limits(losses: Losses, x: str, axis: Axes) -> None:
    """Give all panels one scale."""
    tables = [curve.seeds for curve in losses.curves]
    seeds = pd.concat(tables) if tables else pd.DataFrame({x: [], "loss": []})
    if x == "seconds":
        axis.set_xscale("log")
    if span := limits(seeds[x].to_numpy(float), is_logarithmic=x == "seconds"):
        axis.set_xlim(span)
    if span := limits([*seeds["loss"].to_numpy(float), *losses.thresholds, *([losses.floor] if losses.floor else [])]):
        axis.set_ylim(span[0] - 0.06 * (span[1] - span[0]), span[1])


def _name(ends: Sequence[tuple[str, float]], layout: Layout, axis: Axes) -> float:
    """Name the lines of each batch size, and shape if there are several, once: where half of them end below.

    Return where the names begin, as a share of the axis.
    """
    found: dict[tuple[int, int], list[float]] = {}
    for name, value in ends:
        if np.isfinite(value):
            found.setdefault((layout.size_of[name], layout.shape_of[name]), []).append(value)
    shapes_of: dict[int, set[int]] = {}
    for name, size in layout.size_of.items():
        shapes_of.setdefault(size, set()).add(layout.shape_of[name])

    def title(size: int, shape: int) -> str:
        return f"{size}, {layout.shapes[shape]}" if len(shapes_of[size]) > 1 else f"{size}"

    titles = [title(size, shape) for size, shapes in shapes_of.items() for shape in shapes]
    labels = [(float(np.median(values)), title(*key), color_of(key[0], layout.sizes)) for key, values in found.items()]
    # All shapes of one batch size beside many others would fill the axis with names.
    if len(titles) > MOST_NAMES:
        return 1
    return label_ends(labels, max(titles, key=len, default=""), axis)


def _color(configuration: str, layout: Layout) -> str:
    return color_of(layout.size_of[configuration], layout.sizes)


def fraction_reached(shares: Sequence[ReachedShare], layout: Layout, panel: int, axis: Axes) -> None:
    """Draw the share of a configuration's runs that are below the threshold by an epoch, a step line each."""
    if span := limits([epoch for each in shares for epoch in each.epochs]):
        axis.set_xlim(span)
    axis.set_ylim(-0.03, 1.05)
    own = [each for each in shares if each.epochs and layout.panel_of[each.configuration] == panel]
    for place, each in enumerate(own):
        # Lines that coincide are all visible, because the later ones are thinner.
        width = max(4 - 0.8 * place, 0.8) if len(shares) <= MOST_WITH_SEEDS else 0.9
        axis.step(
            each.epochs, each.shares, where="post", color=_color(each.configuration, layout), linewidth=width,
            linestyle=DASHES[layout.shape_of[each.configuration] % len(DASHES)],
        )  # fmt: skip
    _name([(each.configuration, each.shares[-1]) for each in own], layout, axis)
    counting(axis.xaxis)
    axis.set_xlabel(said("epoch"))
    axis.set_ylabel(said("share of the runs"))
    finish(axis)


def loss_against_examples(
    courses: Sequence[Course], thresholds: Sequence[float], noun: str, layout: Layout, panel: int, axis: Axes
) -> None:
    """Draw the loss at frozen weights against the examples trained on, a line a run, and the thresholds."""
    _course_limits(courses, [*thresholds, *(loss for course in courses for loss in course.loss)], False, axis)
    own = _lines(courses, "loss", layout, panel, axis)
    end = _name([(course.configuration, course.loss[-1]) for course in own], layout, axis)
    horizontal([(each, said("threshold {value:g}", value=each), "--") for each in thresholds], panel == 0, axis, end)
    counting(axis.xaxis)
    axis.set_xlabel(said("{noun} trained on", noun=noun))
    axis.set_ylabel(said("loss at frozen weights"))
    finish(axis)


def noise_scale(courses: Sequence[Course], noun: str, layout: Layout, panel: int, axis: Axes) -> None:
    """Draw the gradient noise scale against the examples trained on, a line a run, with the loss at some points."""
    axis.set_yscale("log")
    _course_limits(courses, [scale for course in courses for scale in course.noise_scale], True, axis)
    logarithmic(axis.yaxis)
    own = _lines(courses, "noise_scale", layout, panel, axis)
    _name([(course.configuration, course.noise_scale[-1]) for course in own], layout, axis)
    if len(courses) <= MOST_NOTED:
        for course in own:
            places = _spread(len(course.examples))
            axis.scatter(
                [course.examples[place] for place in places], [course.noise_scale[place] for place in places], s=9,
                color=_color(course.configuration, layout),
                urls=[
                    hover(said("{run}: loss {loss:.3g}", run=course.run, loss=course.loss[place])) for place in places
                ],
            )  # fmt: skip
    counting(axis.xaxis)
    axis.set_xlabel(said("{noun} trained on", noun=noun))
    axis.set_ylabel(said("gradient noise scale"))
    finish(axis)


def _course_limits(courses: Sequence[Course], values: Sequence[float], is_logarithmic: bool, axis: Axes) -> None:
    if span := limits([place for course in courses for place in course.examples]):
        axis.set_xlim(span)
    if span := limits(values, is_logarithmic):
        axis.set_ylim(span)
    axis.xaxis.set_major_formatter(plain)


def _lines(courses: Sequence[Course], what: str, layout: Layout, panel: int, axis: Axes) -> list[Course]:
    own = [course for course in courses if layout.panel_of[course.configuration] == panel]
    lines = []
    for course in own:
        values: list[float] = getattr(course, what)
        url = hover(
            said("{run}: {value:.4g} at the end", run=course.run, value=values[-1]), layout.numbers.get(course.run)
        )
        points = np.column_stack([course.examples, values]).astype(float)
        lines.append(Line(points, _color(course.configuration, layout), layout.shape_of[course.configuration], url))
    _draw(lines, 1, axis)
    return own


def _spread(count: int, most: int = 5) -> list[int]:
    """Return places from the first to the last of `count`, at most as many as can be told apart."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))})
