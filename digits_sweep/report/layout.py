"""Where configurations stand in figures: a color a batch size, a panel or a shape for what else tells them apart."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from digits_sweep.report.ranking import trained
from digits_sweep.report.statistics import explained
from digits_sweep.report.study import GROWTH, Study, first_runs, labels, level, odd_settings, telling_apart
from digits_sweep.report.words import _

# So many configurations of one batch size stand in one panel, told apart by shape or dashes.
MOST_VARIANTS = 3
MOST_LEVELS, MOST_PANELS = 6, 12
# A second factor is worth panels of its own only if it explains this share of what the batch size does not.
WORTH_A_PANEL = 0.01


@dataclass(frozen=True)
class Layout:
    """Where every configuration stands in all figures of a page.

    `of` has a row a configuration: its `batch_size`, `panel`, `variant` (told apart by shape), `place` (its position on
    an axis of batch sizes) and `note`: the setting that changes with its batch size, if one does and it `is_odd`.
    `factors` has the values of what tells configurations apart, what explains most first.
    """

    of: pd.DataFrame
    sizes: list[int]
    panels: list[str]
    columns: int
    variants: list[str]
    factors: dict[str, dict[str, str]]

    def of_panels(self, panels: Iterable[str]) -> "Layout":
        """Return the layout without the panels that none of the rows stands in."""
        drawn = set(panels)
        wanted = [panel for panel in self.panels if panel in drawn]
        return replace(self, panels=wanted, columns=min(self.columns, len(wanted)))

    def join(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return a table with the columns of the layout for its `configuration`."""
        return table.drop(columns=[name for name in self.of if name in table]).join(self.of, on="configuration")


def factors_of(runs: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Return what tells configurations apart, what explains most first: the value of every configuration by name."""
    sweeps = ["sweep"] if "sweep" in runs else []
    names = telling_apart(runs, within=sweeps)
    words = labels(names)
    first = first_runs(runs)

    def values(name: str) -> dict[str, str]:
        column = first[name]
        order = column.dropna().sort_values() if pd.api.types.is_numeric_dtype(column) else column.dropna()
        texts = {value: str(value) if name == "sweep" else level(name, words[name], value) for value in order}
        ordered = [*order.index, *column.index[column.isna()]]
        missing = _("one size") if name == GROWTH else _("not set")
        return {str(each): texts.get(column[each], missing) for each in ordered}

    names.sort(key=lambda name: -explained(runs, runs[name]))
    factors = {name: values(name) for name in [*sweeps, *names]}
    return {name: own for name, own in factors.items() if len(set(own.values())) > 1}


@lru_cache(maxsize=4)
def layout_of(study: Study) -> Layout:
    """Return the layout of the runs of a study that trained."""
    runs = trained(study)
    factors = factors_of(runs)
    first = first_runs(runs)
    sizes = first["batch_size"].astype(int)
    variant = {name: ", ".join(each[str(name)] for each in factors.values()) for name in first.index}
    # What most have is drawn in the plainest way.
    often = Counter(variant.values())
    variants = sorted(_ordered(variant, factors), key=lambda name: -often[name])
    panels, columns, panel = [""], 1, dict.fromkeys(variant, "")
    if len(variants) > MOST_VARIANTS:
        # The one with more levels is across, the other one down.
        chosen = sorted(_chosen(runs, factors), key=lambda each: len(set(each.values())))
        columns = min(len(set(chosen[-1].values())), 4) if chosen else 1
        panel = {name: ", ".join(each[str(name)] for each in reversed(chosen)) for name in first.index}
        panels = _ordered(panel, dict(enumerate(chosen)))
        variants, variant = [""], dict.fromkeys(variant, "")
    table = pd.DataFrame({"batch_size": sizes, "panel": panel, "variant": variant}, index=first.index)
    odd = odd_settings(runs)
    notes = pd.Series([odd.get(str(name), "") for name in first.index], index=first.index)
    placed = table.assign(place=_places(table), note=notes, is_odd=notes != "")
    # Of several side by side one note is enough.
    placed.loc[placed.duplicated(["panel", "batch_size", "note"], keep="last"), "note"] = ""
    return Layout(placed, sorted(set(sizes)), panels, columns, variants, factors)


def _ordered(names: dict[Any, str], factors: dict[Any, dict[str, str]]) -> list[str]:
    """Return the different names, in the order of the levels of their factors."""
    ranks = [{text: rank for rank, text in enumerate(dict.fromkeys(each.values()))} for each in factors.values()]
    order = {
        name: tuple(rank[each[str(key)]] for rank, each in zip(ranks, factors.values(), strict=True))
        for key, name in names.items()
    }
    return sorted(order, key=lambda name: order[name])


def _chosen(runs: pd.DataFrame, factors: dict[str, dict[str, str]]) -> list[dict[str, str]]:
    """Return at most two factors whose levels are panels."""
    chosen: list[dict[str, str]] = []
    for name, values in factors.items():
        count = len(set(values.values()))
        others = math.prod(len(set(each.values())) for each in chosen)
        worth = not chosen or explained(runs, runs[name]) >= WORTH_A_PANEL
        if len(chosen) < 2 and worth and count <= MOST_LEVELS and count * others <= MOST_PANELS:
            chosen.append(values)
    return chosen


def _places(table: pd.DataFrame) -> pd.Series:
    """Return positions on a logarithmic axis: configurations of one panel and batch size stand side by side."""
    logs = sorted(set(map(math.log, table["batch_size"])))
    gap = min((right - left for left, right in pairwise(logs)), default=math.log(2))
    span = logs[-1] - logs[0] if len(logs) > 1 else math.log(4)
    groups = table.groupby(["panel", "batch_size"])["variant"]
    count, index = groups.transform("size"), groups.cumcount()
    step = np.minimum(0.035 * span, 0.4 * gap / np.maximum(count - 1, 1))
    return table["batch_size"] * np.exp(step * (index - (count - 1) / 2))
