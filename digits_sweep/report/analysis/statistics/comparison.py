"""Compare two or more sweeps: how many times faster, and is that more than the noise between runs?"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb
from statistics import median

import pandas as pd

from digits_sweep.report.analysis.configurations import labels, settings, with_configurations
from digits_sweep.report.analysis.goal import Goal, goal_of, with_goal
from digits_sweep.report.analysis.sentences.formatting import cell
from digits_sweep.report.analysis.statistics.pairs import SIGNIFICANT, Paired, paired
from digits_sweep.report.analysis.statistics.replicates import ended, or_infinity
from digits_sweep.report.analysis.study import Study
from digits_sweep.report.language import said
from digits_sweep.results.columns import COLUMNS


@dataclass(frozen=True)
class Combined:
    """The runs, histories and predictions of several sweeps in one table each, as a `Study` has them.

    `runs`, `history` and `evaluations` have a column `sweep`, and `run_dir` and the index of `predictions` start with
    its letter.
    """

    runs: pd.DataFrame
    history: pd.DataFrame
    predictions: pd.DataFrame
    evaluations: pd.DataFrame
    goal: Goal


@dataclass(frozen=True)
class Contrast:
    """How many times as fast some runs are as those of the first sweep, by their medians.

    `ratio` is infinite if only they reach the threshold, 0 if only the first sweep's do, NaN if neither do. `p_value`
    is None if there are too few runs for any difference to be significant.
    """

    ratio: float
    p_value: float | None

    @property
    def is_significant(self) -> bool:
        """Whether the difference is more than the noise between runs, at 5 %."""
        return self.p_value is not None and self.p_value < SIGNIFICANT


@dataclass(frozen=True)
class Compared:
    """One configuration in one sweep: its medians, and how they compare with the first sweep's.

    Examples are compared seed by seed, seconds by all runs, because their noise is that of the machine. There is no
    contrast in the first sweep itself, and for a configuration that it does not have.
    """

    configuration: str
    sweep: str
    seconds_per_epoch: float
    examples_to_goal: float
    seconds_to_goal: float
    per_epoch: Contrast | None
    examples: Paired | None
    to_goal: Contrast | None


def sweep_labels(studies: Sequence[Study]) -> list[str]:
    """Return what the sweeps are called on a page: A, B and so on, S27 after Z."""
    return [chr(ord("A") + place) if place < 26 else f"S{place + 1}" for place in range(len(studies))]


def combine(studies: Sequence[Study]) -> Combined:
    """Put several sweeps in one table; `configuration` names what the sweeps share, and leaves out what they don't."""
    named = list(zip(sweep_labels(studies), studies, strict=True))

    def together(name: str) -> pd.DataFrame:
        return pd.concat([_marked(getattr(study, name), label) for label, study in named], ignore_index=True)

    runs, history, evaluations, targets = map(together, ("runs", "history", "evaluations", "targets"))
    goal = goal_of(runs, targets)
    runs = with_configurations(with_goal(runs, targets, goal), leave_out=_between_sweeps(runs))
    names = runs.set_index("run_dir")["configuration"]
    history, evaluations = (table.assign(configuration=table["run_dir"].map(names)) for table in (history, evaluations))
    predictions = pd.concat([study.predictions.rename(index=f"{label}/{{}}".format) for label, study in named])
    return Combined(runs, history, predictions, evaluations, goal)


def _marked(table: pd.DataFrame, label: str) -> pd.DataFrame:
    return table.assign(sweep=label, run_dir=f"{label}/" + table["run_dir"].astype("string"))


def apart(combined: Combined) -> Combined:
    """Return the same with every sweep's configurations apart: `A: batch size 20`, `B: batch size 20`."""
    runs, history, evaluations = (
        table.assign(configuration=table["sweep"] + ": " + table["configuration"].astype("string"))
        for table in (combined.runs, combined.history, combined.evaluations)
    )
    return Combined(runs, history, combined.predictions, evaluations, combined.goal)


def _between_sweeps(runs: pd.DataFrame) -> list[str]:
    """Return what is the same for all runs of a sweep and differs from sweep to sweep."""
    mixtures = [column.name for column in COLUMNS if column.mixture]
    within = runs.groupby("sweep")
    return [
        name
        for name in dict.fromkeys([*settings(runs), *mixtures])
        if within[name].nunique().le(1).all() and runs[name].nunique() > 1
    ]


def differences(combined: Combined) -> list[str]:
    """Return what differs between the sweeps, a sentence each: `engine: lesson in A, closed_form in B`."""
    values = combined.runs.groupby("sweep")[_between_sweeps(combined.runs)].first()
    return [
        f"{label}: "
        + ", ".join(said("{value} in {sweep}", value=cell(value), sweep=sweep) for sweep, value in values[name].items())
        for name, label in labels(list(values.columns)).items()
    ]


def compare(combined: Combined) -> list[Compared]:
    """Compare every configuration of the sweeps with the same configuration of the first sweep, A."""
    groups = ended(combined.runs).groupby("configuration", sort=False)
    return [row for name, group in groups for row in _compared(str(name), group)]


def _compared(configuration: str, runs: pd.DataFrame) -> Iterator[Compared]:
    sweeps = {str(sweep): own for sweep, own in runs.groupby("sweep")}
    for sweep, own in sweeps.items():
        base = sweeps.get("A") if sweep != "A" else None
        yield Compared(
            configuration=configuration,
            sweep=sweep,
            seconds_per_epoch=median(or_infinity(own["seconds_per_epoch"])),
            examples_to_goal=median(or_infinity(own["examples_to_goal"])),
            seconds_to_goal=median(or_infinity(own["own_seconds_to_goal"])),
            per_epoch=None if base is None else _contrast(own, base, "seconds_per_epoch"),
            examples=None if base is None else paired(base, own, "examples_to_goal"),
            to_goal=None if base is None else _contrast(own, base, "own_seconds_to_goal"),
        )


def _contrast(own: pd.DataFrame, base: pd.DataFrame, column: str) -> Contrast:
    return contrast(or_infinity(own[column]), or_infinity(base[column]))


def contrast(values: Sequence[float], base: Sequence[float]) -> Contrast:
    """Compare the seconds of some runs with those of `base`; infinity is a run that did not reach the threshold.

    The p value is that of the two-sided test of Mann and Whitney (1947) over the runs, not over their epochs.
    """
    ratio = _ratio(median(values), median(base))
    if 2 / comb(len(values) + len(base), len(base)) >= SIGNIFICANT:
        return Contrast(ratio, None)
    # Takes a second to import, which a page of one sweep need not wait for.
    from scipy.stats import mannwhitneyu

    return Contrast(ratio, float(mannwhitneyu(values, base).pvalue))


def _ratio(ours: float, theirs: float) -> float:
    if math.isinf(ours):
        return math.nan if math.isinf(theirs) else 0.0
    return theirs / ours
