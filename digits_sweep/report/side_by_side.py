"""Sweeps side by side: what they share and differ in, and which differences between them are more than noise."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

import pandas as pd

from digits_sweep.report.pairs import Paired, decided, paired
from digits_sweep.report.statistics import UNKNOWN, Estimate, estimate, finished, holm, or_infinity, unsteady
from digits_sweep.report.study import Study, goal_of, settings, with_configurations, with_goal
from digits_sweep.results.columns import COLUMNS

SIGNIFICANT = 0.05


@dataclass
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


@dataclass
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
    per_epoch: Contrast | None = None
    examples: Paired | None = None
    examples_decided: bool = False
    to_goal: Contrast | None = None
    is_unsteady: bool = False


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

    What is decided and the p values are those of all rows together, by `decided` and `holm`: the largest differences of
    a column catch the eye.
    """
    rows = list(_compared(combined))
    paired_rows = [(row, row.examples) for row in rows if row.examples]
    for (row, _pairs), is_decided in zip(paired_rows, decided([pair.looks for _row, pair in paired_rows]), strict=True):
        row.examples_decided = is_decided
    for contrasts in ([row.per_epoch for row in rows], [row.to_goal for row in rows]):
        known = [(each, each.p_value) for each in contrasts if each and each.p_value is not None]
        for (each, _own), adjusted in zip(known, holm([p_value for _each, p_value in known]), strict=True):
            each.p_value = adjusted
    return rows


def _compared(combined: Study) -> Iterator[Compared]:
    restless = set(unsteady(combined.history).index)
    for configuration, runs in finished(combined).groupby("configuration", sort=False):
        sweeps = {str(sweep): own for sweep, own in runs.groupby("sweep")}
        for sweep, own in sweeps.items():
            row = Compared(
                str(configuration), sweep, _known(own, "seconds_per_epoch"), _known(own, "examples_to_goal"),
                _known(own, "own_seconds_to_goal"),
            )  # fmt: skip
            if sweep != "A" and (base := sweeps.get("A")) is not None:
                row.per_epoch = _contrast(own, base, "seconds_per_epoch")
                row.is_unsteady = not restless.isdisjoint([*own["run_dir"], *base["run_dir"]])
                if not combined.goal.problem:
                    row.examples = paired(base, own, "examples_to_goal")
                    row.to_goal = _contrast(own, base, "own_seconds_to_goal")
            yield row


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
