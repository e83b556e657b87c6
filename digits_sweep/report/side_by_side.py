"""Sweeps side by side: what they share and differ in, and which differences between them are more than noise."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

import pandas as pd

from digits_sweep.report.pairs import Paired, decided, paired
from digits_sweep.report.statistics import UNKNOWN, Estimate, estimate, finished, holm, or_infinity, unsteady
from digits_sweep.report.study import Goal, Study, goal_of, settings, with_configurations, with_goal
from digits_sweep.results.columns import COLUMNS

SIGNIFICANT = 0.05


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
    contrast in the first sweep itself, for a configuration that it does not have, and to goals that are not the same.
    `is_unsteady` if seconds of one of the two were timed unsteadily.
    """

    configuration: str
    sweep: str
    seconds_per_epoch: Estimate
    examples_to_goal: Estimate
    seconds_to_goal: Estimate
    per_epoch: Contrast | None
    examples: Paired | None
    examples_decided: bool
    to_goal: Contrast | None
    is_unsteady: bool


def sweep_labels(studies: Sequence[Study]) -> list[str]:
    """Return what the sweeps are called on a page: A, B and so on, S27 after Z."""
    return [chr(ord("A") + number) if number < 26 else f"S{number + 1}" for number in range(len(studies))]


def combine(studies: Sequence[Study]) -> Study:
    """Put several sweeps in one, each table with a column `sweep`; the names of runs start with its letter.

    `configuration` names what the sweeps share, and leaves out what they don't.
    """
    named = list(zip(sweep_labels(studies), studies, strict=True))

    def together(name: str) -> pd.DataFrame:
        tables = [
            getattr(study, name).assign(sweep=label, run_dir=f"{label}/" + getattr(study, name)["run_dir"].astype(str))
            for label, study in named
        ]
        return pd.concat(tables, ignore_index=True)

    runs, history, evaluations, targets = map(together, ("runs", "history", "evaluations", "targets"))
    goal = goal_of(runs, targets)
    runs = with_configurations(with_goal(runs, targets, goal), leave_out=between_sweeps(runs))
    names = runs.set_index("run_dir")["configuration"]
    return replace(
        studies[0], runs=runs, targets=targets, goal=goal, critical=None,
        history=history.assign(configuration=history["run_dir"].map(names)),
        evaluations=evaluations.assign(configuration=evaluations["run_dir"].map(names)),
        predictions=pd.concat([study.predictions.rename(index=f"{label}/{{}}".format) for label, study in named]),
        records={f"{label}/{name}": each for label, study in named for name, each in study.records.items()},
    )  # fmt: skip


def with_sweep_names(combined: Study) -> Study:
    """Return the same with every sweep's configurations apart: `A: batch size 20`, `B: batch size 20`."""
    runs, history, evaluations = (
        table.assign(configuration=table["sweep"] + ": " + table["configuration"].astype("string"))
        for table in (combined.runs, combined.history, combined.evaluations)
    )
    return replace(combined, runs=runs, history=history, evaluations=evaluations)


def between_sweeps(runs: pd.DataFrame) -> list[str]:
    """Return the columns that are the same for all runs of a sweep and differ from sweep to sweep."""
    mixtures = [column.name for column in COLUMNS if column.mixture]
    within = runs.groupby("sweep")
    return [
        name
        for name in dict.fromkeys([*settings(runs), *mixtures])
        if within[name].nunique().le(1).all() and runs[name].nunique() > 1
    ]


def compare(combined: Study) -> list[Compared]:
    """Compare every configuration of the sweeps with the same configuration of the first sweep, A.

    What is decided and the p values are those of all rows together, by `decided` and `holm`.
    """
    groups = finished(combined).groupby("configuration", sort=False)
    restless = set(unsteady(combined.history).index)
    return _judged_together(
        [row for name, group in groups for row in _compared(str(name), group, combined.goal, restless)]
    )


def _judged_together(rows: list[Compared]) -> list[Compared]:
    """Return the rows with the evidence of a column's differences adjusted, because the largest catch the eye."""
    of_examples = iter(decided([row.examples.looks for row in rows if row.examples]))
    per_epoch, to_goal = (_holm([getattr(row, name) for row in rows]) for name in ("per_epoch", "to_goal"))
    return [
        replace(
            row,
            examples_decided=next(of_examples) if row.examples else False,
            per_epoch=of_epoch,
            to_goal=of_goal,
        )
        for row, of_epoch, of_goal in zip(rows, per_epoch, to_goal, strict=True)
    ]


def _holm(contrasts: Sequence[Contrast | None]) -> list[Contrast | None]:
    p_values = iter(holm([each.p_value for each in contrasts if each and each.p_value is not None]))
    return [replace(each, p_value=next(p_values)) if each and each.p_value is not None else each for each in contrasts]


def _compared(configuration: str, runs: pd.DataFrame, goal: Goal, restless: set[str]) -> Iterator[Compared]:
    sweeps = {str(sweep): own for sweep, own in runs.groupby("sweep")}
    for sweep, own in sweeps.items():
        base = sweeps.get("A") if sweep != "A" else None
        alike = None if goal.problem else base
        pair = own if base is None else pd.concat([own, base])
        yield Compared(
            configuration=configuration,
            sweep=sweep,
            seconds_per_epoch=_known(own, "seconds_per_epoch"),
            examples_to_goal=_known(own, "examples_to_goal"),
            seconds_to_goal=_known(own, "own_seconds_to_goal"),
            per_epoch=None if base is None else _contrast(own, base, "seconds_per_epoch"),
            examples=None if alike is None else paired(alike, own, "examples_to_goal"),
            examples_decided=False,
            to_goal=None if alike is None else _contrast(own, alike, "own_seconds_to_goal"),
            is_unsteady=base is not None and not restless.isdisjoint(pair["run_dir"]),
        )


def _known(runs: pd.DataFrame, column: str) -> Estimate:
    """Summarize a column of the runs of which one can tell if they reached the goal."""
    values = or_infinity(runs.loc[runs["reached"].notna(), column])
    return estimate(values) if values else UNKNOWN


def _contrast(own: pd.DataFrame, base: pd.DataFrame, column: str) -> Contrast:
    return contrast(or_infinity(own[column]), or_infinity(base[column]))


def contrast(values: Sequence[float], base: Sequence[float]) -> Contrast:
    """Compare the seconds of some runs with those of `base`; infinity is a run that did not reach the threshold.

    The p value is that of the two-sided test of Mann and Whitney (1947) over the runs, not over their epochs.
    """
    ours, theirs = median(values), median(base)
    neither = math.isinf(ours) and math.isinf(theirs)
    ratio = math.nan if neither else theirs / ours
    if 2 / math.comb(len(values) + len(base), len(base)) >= SIGNIFICANT:
        return Contrast(ratio, None)
    # Takes a second to import, which a page of one sweep need not wait for.
    from scipy.stats import mannwhitneyu

    return Contrast(ratio, float(mannwhitneyu(values, base).pvalue))
