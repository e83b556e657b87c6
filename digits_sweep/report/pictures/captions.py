"""Choose the figures of a page: each with its title, its caption, its text alternative and its drawing."""

from collections.abc import Iterator
from functools import partial

import pandas as pd

from digits_sweep.report.analysis.curves import along_epochs as curves
from digits_sweep.report.analysis.curves import cost, scaling
from digits_sweep.report.analysis.curves.heat import heats
from digits_sweep.report.analysis.goal import Goal
from digits_sweep.report.analysis.panels import Layout, layout_of
from digits_sweep.report.analysis.sentences.formatting import (
    capitalized,
    microseconds,
    noun_of,
    number,
    rounded,
    seconds,
    up_to,
)
from digits_sweep.report.analysis.statistics.comparison import Combined
from digits_sweep.report.analysis.statistics.replicates import Replicates, replicates, trained
from digits_sweep.report.analysis.study import Study
from digits_sweep.report.figures import batch_size
from digits_sweep.report.figures.heat import heat_map, height_of
from digits_sweep.report.language import said
from digits_sweep.report.pictures import along_runs, critical
from digits_sweep.report.pictures.alternatives import medians_of
from digits_sweep.report.pictures.experiments import experiments
from digits_sweep.report.pictures.picture import Picture, panelled, picture

# Of more configurations a page leaves out the figures that say in other units what others say already: it is then made
# in seconds.
MOST_WITH_ALL = 100


def pictures(tables: Study | Combined) -> list[Picture]:
    """Return every figure that the tables of a sweep, or of several, have something to show for."""
    if isinstance(tables, Study) and tables.critical:
        return list(critical.pictures(tables, tables.critical))
    runs = trained(tables.runs)
    if runs.empty:
        return []
    groups, layout = replicates(runs), layout_of(tables.runs)
    return [
        *_to_goal(runs, groups, tables.goal, layout),
        *_heat(groups, tables.goal, noun_of(runs), layout),
        *along_runs.evaluated(runs, tables.evaluations, layout),
        *along_runs.losses(runs, tables.history, groups, layout, against_seconds=len(groups) <= MOST_WITH_ALL),
        *_times(runs, groups, layout),
        *along_runs.reached(runs, groups, layout),
        *along_runs.misses(curves.predictions_of_misses(runs, tables.predictions)),
        *(experiments(tables) if isinstance(tables, Study) else ()),
    ]


def _times(runs: pd.DataFrame, groups: list[Replicates], layout: Layout) -> Iterator[Picture]:
    yield panelled(
        "seconds-epoch", said("Seconds per epoch"), said("Of a run: the median of its epochs without the first."),
        f"{said('Seconds per epoch')}. {medians_of(groups, 'seconds_per_epoch', seconds)}", layout,
        partial(batch_size.seconds_per_epoch, scaling.seconds_per_epoch(runs)),
    )  # fmt: skip
    if costs := cost.costs(runs):
        iteration, example = map(microseconds, (costs.seconds_per_iteration, costs.seconds_per_example))
        yield picture(
            "cost", said("Where an epoch's seconds go"),
            said(
                "Fitted: {iteration} for every iteration and {example} for every example.",
                iteration=iteration, example=example,
            ),
            said(
                "Seconds per epoch as {iteration} an iteration plus {example} an example, and as measured.",
                iteration=iteration, example=example,
            ),
            partial(batch_size.cost_split, costs),
        )  # fmt: skip


def _to_goal(runs: pd.DataFrame, groups: list[Replicates], goal: Goal, layout: Layout) -> Iterator[Picture]:
    noun, panels = noun_of(runs), runs["configuration"].map(layout.panel_of)
    perfect = [scaling.perfect_scaling(runs[panels == place]) for place in range(len(layout.panels))]
    yield panelled(
        "examples", capitalized(up_to(noun, goal)), said("The same on every machine."),
        f"{capitalized(up_to(noun, goal))}. {medians_of(groups, 'examples_to_goal', rounded)}", layout,
        partial(batch_size.examples_to_goal, scaling.examples_to_goal(runs), noun, str(goal)),
    )  # fmt: skip
    yield panelled(
        "seconds", capitalized(up_to(said("seconds"), goal)),
        said("These iterations at what one costs at this batch size, the median over its runs."),
        f"{capitalized(up_to(said('seconds'), goal))}. {medians_of(groups, 'seconds_to_goal', seconds)}", layout,
        partial(batch_size.seconds_to_goal, scaling.seconds_to_goal(runs), str(goal)),
    )  # fmt: skip
    yield panelled(
        "iterations", capitalized(up_to(said("iterations"), goal)),
        said("Dotted: perfect scaling, by which twice the batch size needs half the iterations (Shallue et al. 2019)."),
        f"{capitalized(up_to(said('iterations'), goal))}. {medians_of(groups, 'iterations_to_goal', rounded)}",
        layout,
        partial(
            batch_size.iterations_to_goal, scaling.iterations_to_goal(runs), perfect, str(goal)
        ),
    )  # fmt: skip
    if len(groups) > MOST_WITH_ALL:
        return
    yield panelled(
        "epochs", said("First epoch below the threshold"), said("The first epoch with a mean loss below it."),
        f"{said('First epoch below the threshold')}. {medians_of(groups, 'epochs_to_threshold', number)}", layout,
        partial(batch_size.epochs_to_threshold, scaling.epochs_to_threshold(runs)),
    )  # fmt: skip


def _heat(groups: list[Replicates], goal: Goal, noun: str, layout: Layout) -> Iterator[Picture]:
    for place, found in enumerate(heats(groups, layout.factors)):
        label = found.factor.label
        cells = "; ".join(
            f"{level}: "
            + ", ".join(
                said("{value} at {size}", value=rounded(value), size=size)
                for size, value in zip(found.sizes, row, strict=True)
            )
            for level, row in zip(found.levels, found.medians, strict=True)
        )
        title = said("{things} by batch size and {label}", things=capitalized(up_to(noun, goal)), label=label)
        yield picture(
            f"heat-{place}", title,
            said(
                "Medians over all else; {share:.0%} of the differences within a batch size lie between the values of "
                "{label}. A dash: half of the runs or more did not get there.",
                share=found.factor.explained, label=label,
            ),
            f"{title}. {cells}.", partial(heat_map, found),
            height=height_of(found),
        )  # fmt: skip
