"""Figures against the batch size: a mark a run or a configuration, and where an epoch's seconds go."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes

from digits_sweep.report.analysis.curves.cost import Costs
from digits_sweep.report.analysis.curves.scaling import Marks
from digits_sweep.report.analysis.panels import Layout
from digits_sweep.report.analysis.sentences.formatting import microseconds, rounded, seconds, up_to
from digits_sweep.report.figures.style import INK, MARKERS, SERIES, color_of, finish, label_ends, room, width_of
from digits_sweep.report.figures.svg import hover
from digits_sweep.report.figures.ticks import limits, logarithmic, plain, size_ticks
from digits_sweep.report.language import said

# Of more configurations the runs are not drawn beside their median.
MOST_WITH_RUNS = 24
# Areas of marks in square points.
LARGE, SMALL = 38, 11


@dataclass(frozen=True)
class Point:
    """A mark: where it is, its look, and what it shows under the mouse."""

    x: float
    y: float
    marker: str
    area: float
    color: str
    is_open: bool
    url: str


def seconds_per_epoch(marks: Sequence[Marks], layout: Layout, panel: int, axis: Axes) -> None:
    """Draw the seconds per epoch against the batch size, both logarithmic, of the configurations in a panel."""
    _against_batch_size(marks, layout, panel, seconds, axis)
    axis.set_ylabel(said("seconds per epoch"))


def seconds_to_goal(marks: Sequence[Marks], goal: str, layout: Layout, panel: int, axis: Axes) -> None:
    """Draw the seconds to the goal; open: not reached in as many seconds of training."""
    _against_batch_size(marks, layout, panel, seconds, axis)
    axis.set_ylabel(up_to(said("seconds"), goal))


def examples_to_goal(marks: Sequence[Marks], noun: str, goal: str, layout: Layout, panel: int, axis: Axes) -> None:
    """Draw the examples to the goal; open: not reached with as many."""
    _against_batch_size(marks, layout, panel, lambda value: f"{rounded(value)} {noun}", axis)
    axis.set_ylabel(up_to(noun, goal))


def epochs_to_threshold(marks: Sequence[Marks], layout: Layout, panel: int, axis: Axes) -> None:
    """Draw the first epoch below the threshold; open: not reached, at the last epoch trained."""
    _against_batch_size(marks, layout, panel, lambda value: said("epoch {number:g}", number=value), axis)
    axis.set_ylabel(said("epochs to the threshold"))


def iterations_to_goal(
    marks: Sequence[Marks], perfect: Sequence[pd.DataFrame], goal: str, layout: Layout, panel: int, axis: Axes
) -> None:
    """Draw the iterations to the goal and the line of perfect scaling in each panel."""
    _against_batch_size(marks, layout, panel, lambda value: said("{count} iterations", count=rounded(value)), axis)
    axis.set_ylabel(up_to(said("iterations"), goal))
    if len(line := perfect[panel]):
        axis.plot(line["batch_size"], line["iterations_to_goal"], color=INK, linestyle=":", linewidth=1)


def _against_batch_size(
    marks: Sequence[Marks], layout: Layout, panel: int, write: Callable[[float], str], axis: Axes
) -> None:
    drawn = [each for each in marks if each.configuration in layout.place_of]
    size_ticks(layout.sizes, axis)
    if span := limits([value for each in drawn for value in (*each.reached, *each.missed)], is_logarithmic=True):
        axis.set_ylim(span)
    logarithmic(axis.yaxis)
    own = [each for each in drawn if layout.panel_of[each.configuration] == panel and each.count]
    points = [point for each in own for point in _points(each, layout, len(drawn) <= MOST_WITH_RUNS, write)]
    for marker in MARKERS:
        _scatter([point for point in points if point.marker == marker], marker, axis)
    bars = [each for each in own if each.count > 1]
    axis.vlines(
        [layout.place_of[each.configuration] for each in bars], [each.low for each in bars],
        [each.high for each in bars], linewidth=1.6,
        colors=[color_of(layout.size_of[each.configuration], layout.sizes) for each in bars],
    )  # fmt: skip
    axis.set_xlabel(said("batch size"))
    finish(axis)


def _points(each: Marks, layout: Layout, with_runs: bool, write: Callable[[float], str]) -> Iterator[Point]:
    """Yield a mark for a single run; for several their median, and before it the runs, small, if `with_runs`."""
    name, several, area = each.configuration, each.count > 1, LARGE if with_runs else SMALL
    place, color = layout.place_of[name], color_of(layout.size_of[name], layout.sizes)
    marker = MARKERS[layout.shape_of[name] % len(MARKERS)]
    for run, reached, missed in zip(each.runs, each.reached, each.missed, strict=True):
        is_missed = math.isnan(reached)
        value = missed if is_missed else reached
        if not math.isnan(value) and (with_runs or not several):
            text = f"{run}: {said('not reached in {amount}', amount=write(value)) if is_missed else write(value)}"
            yield Point(
                place, value, marker, SMALL if several else area, color, is_missed, hover(text, layout.numbers.get(run))
            )
    if several:
        high = said("not reached") if each.high_missed else write(each.high)
        middle = said("not reached") if each.middle_missed else write(each.middle)
        text = said(
            "{name}: {middle} ({low} to {high}, {count} runs)",
            name=name, middle=middle, low=write(each.low), high=high, count=each.count,
        )  # fmt: skip
        yield Point(place, each.middle, marker, area, color, each.middle_missed, hover(text))


def _scatter(points: Sequence[Point], marker: str, axis: Axes) -> None:
    if points:
        axis.scatter(
            [point.x for point in points], [point.y for point in points], s=[point.area for point in points],
            marker=marker, linewidths=1, edgecolors=[point.color for point in points],
            facecolors=["none" if point.is_open else point.color for point in points],
            urls=[point.url for point in points], zorder=3,
        )  # fmt: skip


def cost_split(costs: Costs, axis: Axes) -> None:
    """Draw the two parts of an epoch's seconds, stacked for every batch size, and what was measured beside them."""
    parts, places = costs.parts, range(len(costs.parts))
    axis.bar(places, parts["examples"], width=0.55, color=SERIES[0])
    axis.bar(places, parts["iterations"], width=0.55, bottom=parts["examples"], color=SERIES[1])
    axis.plot(places, parts["measured"], "o", color=INK, markersize=5)
    axis.set_xlim(-0.6, len(parts) - 0.4)
    last = parts.iloc[-1]
    names = [
        (last["examples"] / 2, said("{cost} an example", cost=microseconds(costs.seconds_per_example)), SERIES[0]),
        (
            last["examples"] + last["iterations"] / 2,
            said("{cost} an iteration", cost=microseconds(costs.seconds_per_iteration)),
            SERIES[1],
        ),
        (last["measured"], said("measured"), INK),
    ]
    label_ends(names, max((name for _, name, _ in names), key=len), axis)
    # As many ticks as the widest of them has room for.
    widest = max(width_of(plain(size)) for size in parts.index) + 4
    every = math.ceil(widest * len(parts) / (room(axis)[0] * 2 / 3))
    axis.set_xticks(places[::every], [plain(size) for size in parts.index[::every]])
    axis.set_xlabel(said("batch size"))
    axis.set_ylabel(said("seconds per epoch"))
    finish(axis)
