"""How the configurations of a sweep are laid out in figures: a color a batch size, panels for what explains most."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from digits_sweep.report.analysis.configurations import labels, level, telling_apart
from digits_sweep.report.language import said

# So many configurations of one batch size stand in one panel, told apart by shape.
MOST_SHAPES = 3
MOST_LEVELS = 6
MOST_PANELS = 12
# A second factor is worth panels of its own only if it explains at least this share of what the batch size does not.
WORTH_A_PANEL = 0.01
# What stands beside one another at one batch size takes up this share of the distance to the next one, at most.
SPREAD = 0.4
STEP = 0.035
NO_RULE = "no rule"


@dataclass(frozen=True)
class Factor:
    """A setting that tells configurations apart, and the share of the variance within batch sizes that it explains.

    `levels` are its values as text, in order; `level_of` has the value of every configuration.
    """

    name: str
    label: str
    levels: list[str]
    level_of: dict[str, str]
    explained: float


@dataclass(frozen=True)
class Layout:
    """Where every configuration stands in all figures of a page.

    `size_of` is its batch size; `panel_of` is the place of its panel in `panels`, which have the titles of their column
    and their row; `shape_of` is that of its shape in `shapes`, which have titles too. `place_of` is its position on an
    axis of batch sizes: the batch size, or beside it if it shares the panel and the batch size with others. `columns`
    counts the panels in a row, `factors` has the factor that explains most first, and `numbers` has the place of every
    run in the table.
    """

    sizes: list[int]
    factors: list[Factor]
    panels: list[tuple[str, str]]
    columns: int
    shapes: list[str]
    size_of: dict[str, int]
    panel_of: dict[str, int]
    shape_of: dict[str, int]
    place_of: dict[str, float]
    numbers: dict[str, int]


def layout_of(runs: pd.DataFrame) -> Layout:
    """Return the layout of a study's `runs`, or of the runs of several sweeps, which then have panels of their own."""
    numbers = {str(name): place for place, name in enumerate(runs["run_dir"])}
    known = runs[runs["batch_size"].notna()]
    first = known.drop_duplicates("configuration").set_index("configuration")
    sizes = {str(name): int(size) for name, size in first["batch_size"].items()}
    factors = _factors(known, first)
    sweeps, others = ([factor for factor in factors if (factor.name == "sweep") == own] for own in (True, False))
    shapes = _shapes(others, sizes)
    chosen = _chosen(sweeps if shapes else factors)
    panels, columns, panel_of = _panels(chosen, list(sizes))
    names = {name: ", ".join(factor.level_of[name] for factor in others) for name in sizes}
    return Layout(
        sizes=sorted(set(sizes.values())),
        factors=factors,
        panels=panels,
        columns=columns,
        shapes=shapes,
        size_of=sizes,
        panel_of=panel_of,
        shape_of={name: shapes.index(names[name]) if shapes else 0 for name in sizes},
        place_of=_places(sizes, panel_of),
        numbers=numbers,
    )


def _factors(runs: pd.DataFrame, first: pd.DataFrame) -> list[Factor]:
    """Return the sweep, if there are several, then every other factor, what explains most first."""
    sweeps = [name for name in ("sweep",) if name in runs]
    names = telling_apart(runs, within=sweeps)
    words = labels(names)
    found = [_factor(name, words[name], first[name], runs) for name in names]
    if runs["rule"].nunique(dropna=False) > 1 and names:
        found.append(_factor("rule", "rule", first["rule"].fillna(said(NO_RULE)), runs))
    found = [factor for factor in found if len(factor.levels) > 1]
    found.sort(key=lambda factor: -factor.explained)
    return [*(_factor(name, name, first[name], runs) for name in sweeps), *found]


def _factor(name: str, label: str, values: pd.Series, runs: pd.DataFrame) -> Factor:
    present = sorted(values.dropna().unique()) if pd.api.types.is_numeric_dtype(values) else values.dropna().unique()
    no_rule, not_set = said(NO_RULE), said("not set")
    texts = {
        value: str(value) if value == no_rule or name == "sweep" else level(name, label, value) for value in present
    }
    level_of = {
        str(each): texts.get(value, not_set) if not pd.isna(value) else not_set for each, value in values.items()
    }
    levels = [*dict.fromkeys(texts.values()), *([not_set] if not_set in level_of.values() else [])]
    return Factor(name, label, levels, level_of, _explained(runs, level_of))


def _explained(runs: pd.DataFrame, level_of: dict[str, str]) -> float:
    """Return the share of the variance of log(examples to the goal) within batch sizes that lies between levels.

    A run that missed counts as twice the examples that it trained on.
    """
    examples = runs["examples_to_goal"].fillna(2 * runs["epochs"] * runs["train_samples"]).astype(float)
    log = np.log(examples.where(examples > 0))
    within = log - log.groupby(runs["batch_size"]).transform("mean")
    total = float((within**2).sum())
    between = within.groupby(runs["configuration"].map(level_of)).transform("mean")
    return float((between[within.notna()] ** 2).sum()) / total if total > 0 else 0.0


def _shapes(factors: Sequence[Factor], sizes: dict[str, int]) -> list[str]:
    """Return what few shapes can tell apart; nothing if there is nothing to tell apart, or too much."""
    names = {name: ", ".join(factor.level_of[name] for factor in factors) for name in sizes}
    found = list(dict.fromkeys(names.values()))
    return found if factors and len(found) <= MOST_SHAPES else []


def _chosen(factors: Sequence[Factor]) -> list[Factor]:
    """Return at most two factors whose levels are panels."""
    chosen: list[Factor] = []
    for factor in factors:
        worth = not chosen or factor.explained >= WORTH_A_PANEL
        count = math.prod(len(each.levels) for each in (*chosen, factor))
        if len(chosen) < 2 and worth and len(factor.levels) <= MOST_LEVELS and count <= MOST_PANELS:
            chosen.append(factor)
    return chosen


def _panels(chosen: Sequence[Factor], names: Sequence[str]) -> tuple[list[tuple[str, str]], int, dict[str, int]]:
    """Return the titles of the panels, how many stand in a row, and the panel of every configuration."""
    if not chosen:
        return [("", "")], 1, dict.fromkeys(names, 0)
    if len(chosen) == 1:
        (factor,) = chosen
        columns = {1: 1, 2: 2, 3: 3, 4: 2}.get(len(factor.levels), 3)
        return (
            [(level, "") for level in factor.levels],
            columns,
            {name: factor.levels.index(factor.level_of[name]) for name in names},
        )
    across, down = sorted(chosen, key=lambda factor: len(factor.levels) > 3)
    titles = [(over, beside) for beside in down.levels for over in across.levels]
    columns = len(across.levels)
    panel_of = {
        name: down.levels.index(down.level_of[name]) * columns + across.levels.index(across.level_of[name])
        for name in names
    }
    return titles, columns, panel_of


def _places(sizes: dict[str, int], panel_of: dict[str, int]) -> dict[str, float]:
    """Return where every configuration stands on a logarithmic axis of batch sizes.

    Those that share panel and batch size stand side by side around it, within a share of the distance to the next one.
    """
    logs = sorted({math.log(size) for size in sizes.values()})
    gaps = [right - left for left, right in pairwise(logs)]
    gap = {
        log: min([*gaps[max(place - 1, 0) : place + 1], *([] if gaps else [math.log(2)])])
        for place, log in enumerate(logs)
    }
    span = logs[-1] - logs[0] if gaps else math.log(4)
    shared: dict[tuple[int, int], list[str]] = {}
    for name, size in sizes.items():
        shared.setdefault((panel_of[name], size), []).append(name)
    places = {}
    for (_, size), names in shared.items():
        room = SPREAD * gap[math.log(size)]
        step = min(STEP * span, room / (len(names) - 1)) if len(names) > 1 else 0
        for place, name in enumerate(names):
            places[name] = size * math.exp(step * (place - (len(names) - 1) / 2))
    return places
