"""Compute what a heat map shows: the median examples to the goal at every batch size and level of a factor."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from digits_sweep.report.analysis.panels import Factor
from digits_sweep.report.analysis.statistics.replicates import Replicates

# Fewer configurations are all legible as marks.
FEWEST = 7
FEWEST_LEVELS = 3
MOST_LEVELS = 40
MOST_MAPS = 2


@dataclass(frozen=True)
class Heat:
    """Medians over the configurations in a cell, a row a level of `factor` and a column a batch size.

    Infinity: half of them or more did not reach the goal. NaN: there is none. `shades` are places from 0 to 1 on a
    logarithmic scale from the fewest examples to the most, NaN if there is no finite median.
    """

    factor: Factor
    sizes: list[int]
    levels: list[str]
    medians: list[list[float]]
    shades: list[list[float]]


def heats(groups: Sequence[Replicates], factors: Sequence[Factor]) -> list[Heat]:
    """Return the maps of at most two factors that explain most; none if there are few configurations."""
    if len(groups) < FEWEST:
        return []
    wanted = [each for each in factors if each.name != "sweep" and FEWEST_LEVELS <= len(each.levels) <= MOST_LEVELS]
    found = [_heat(groups, factor) for factor in wanted[:MOST_MAPS]]
    return [heat for heat in found if any(shade == shade for row in heat.shades for shade in row)]


def _heat(groups: Sequence[Replicates], factor: Factor) -> Heat:
    table = pd.DataFrame(
        [(factor.level_of[each.configuration], each.batch_size, each.examples_to_goal.median) for each in groups],
        columns=["level", "batch_size", "median"],
    )
    sizes = sorted({int(size) for size in table["batch_size"]})
    medians = table.groupby(["level", "batch_size"])["median"].median()
    cells = [[float(medians.get((level, size), math.nan)) for size in sizes] for level in factor.levels]
    logs = [math.log(value) for row in cells for value in row if math.isfinite(value) and value > 0]
    low, width = min(logs, default=0.0), max(logs, default=0.0) - min(logs, default=0.0)

    def shade(value: float) -> float:
        if not math.isfinite(value) or value <= 0:
            return math.nan
        return (math.log(value) - low) / width if width else 0.0

    return Heat(factor, sizes, factor.levels, cells, [[shade(value) for value in row] for row in cells])
