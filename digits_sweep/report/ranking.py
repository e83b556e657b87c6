"""Configurations ranked and compared: their seeds together, the lead of the first, and several sweeps side by side.

The runs of one configuration differ in the seed alone. A miss of the goal is infinite, and never dropped.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from digits_sweep.report.statistics import (
    Estimate,
    decided,
    estimate,
    evidence,
    holm,
    or_infinity,
    share_interval,
    unsteady,
)
from digits_sweep.report.study import Study, as_dicts, grouped, has_trained, settings, study_from
from digits_sweep.results.columns import COLUMNS
from digits_sweep.results.record import Status

# Runs that are the same in these columns, as far as there are some, are the same run.
SAME_RUN = ("sweep", "configuration", "seed")
SIGNIFICANT = 0.05


# --- Seeds: the runs of one configuration, together. A study's own are asked for by every sentence, table and figure.


class Replicates:
    """The runs of one configuration together, a dictionary of cells each; one that is missing is None.

    Of the `runs`, `known` are those of which one can tell if they reached the goal. In `dead` of those that reached it
    there is a class that is never predicted; `stopped` of the runs ended before their last of `epochs` because they
    were asked to.
    """

    def __init__(self, configuration: str, runs: list[dict[str, Any]]) -> None:
        self.configuration, self.batch_size = configuration, int(runs[0]["batch_size"])
        self._runs, self._known = runs, [run for run in runs if run["reached"] is not None]
        reached = [run for run in self._known if run["reached"]]
        self.runs, self.known, self.reached = len(runs), len(self._known), len(reached)
        self.dead = sum((run["never_predicted"] or 0) > 0 for run in reached)
        self.stopped = sum(run["ended"] is not None for run in runs)
        self.epochs = int(max((run["epochs"] for run in runs if run["epochs"] is not None), default=0))

    def of(self, column: str) -> Estimate:
        """Return the median of a column. That a run did not get to the goal, or below the threshold, is infinity."""
        if column.endswith("_to_goal"):
            return estimate(or_infinity(run[column] for run in self._known))
        if column == "first_epoch_below_threshold":
            # A loop of the user's may have no epochs, or no threshold.
            could = [run for run in self._runs if None not in (run["epochs"], run["loss_threshold"])]
            return estimate(or_infinity(run[column] for run in could))
        return estimate([float(run[column]) for run in self._runs if run[column] is not None])

    @property
    def reached_share(self) -> tuple[float, float]:
        """Return the exact 95 % interval of the share of runs that reach the goal."""
        return share_interval(self.reached, self.known) if self.known else (0.0, 1.0)


@lru_cache(maxsize=4)
def groups_of(study: Study) -> list[Replicates]:
    """Return one entry for every configuration of a study that has a run which ended, in the order of the runs."""
    groups = grouped((str(run["configuration"]), run) for run in as_dicts(finished(study)))
    return [Replicates(configuration, own) for configuration, own in groups.items()]


def has_seeds(study: Study) -> bool:
    """Return whether some configuration was trained with several seeds."""
    return any(group.runs > 1 for group in groups_of(study))


@lru_cache(maxsize=4)
def finished(study: Study) -> pd.DataFrame:
    """Return the runs that trained to their end: of the others it is unknown if they would reach the threshold.

    Those whose record can be read are among them, whatever else of them cannot.
    """
    runs = study.runs
    has_ended = runs["status"].isin([status.value for status in Status if status.has_ended])
    return _counted_once(runs, has_ended | (runs["status"].eq(Status.UNKNOWN.value) & runs["batch_size"].notna()))


@lru_cache(maxsize=4)
def trained(study: Study) -> pd.DataFrame:
    """Return the runs that trained for an iteration or more."""
    return _counted_once(study.runs, has_trained(study.runs))


def _counted_once(runs: pd.DataFrame, chosen: pd.Series) -> pd.DataFrame:
    """Return one of the `chosen` runs whose whole configuration is the same: they are one run, and no evidence of two.

    A rule at its own reference batch size is the same run as no rule.
    """
    return runs[chosen.to_numpy(bool)].drop_duplicates([name for name in SAME_RUN if name in runs])


# --- Ranks: which configuration was soonest.


def is_timed(study: Study) -> bool:
    """Return whether seconds count: those of runs that shared a machine do not."""
    return not (finished(study)["concurrent_runs"].fillna(1) > 1).any()


def to_goal(group: Replicates, timed: bool) -> Estimate:
    """Return what a configuration is ranked by: seconds to the goal if they count, else examples."""
    taken = group.of("seconds_to_goal")
    return taken if timed and not math.isnan(taken.median) else group.of("examples_to_goal")


def ranked(study: Study) -> list[Replicates]:
    """Return the configurations, the soonest first, then those that missed the goal, the least loss first."""
    timed = is_timed(study)

    def key(group: Replicates) -> list[float]:
        return or_infinity([to_goal(group, timed).median, group.of("final_loss").median])

    return sorted(groups_of(study), key=key)


# --- Pairs of runs with the same seed: is one configuration before another, or is that the noise between seeds?


@dataclass(frozen=True)
class Paired:
    """Two configurations seed by seed.

    `ratio` is the second one's value over the first one's; infinite if only the first has one, 0 if only the second
    has. In `smaller` of `pairs` seeds the first one's value is smaller, in `larger` of them it is larger; in the others
    both may be, as far as the measure can tell. `looks` has the evidence of a difference after each pair.
    """

    ratio: Estimate
    smaller: int
    larger: int
    pairs: int
    looks: tuple[float, ...]


def paired(first: pd.DataFrame, second: pd.DataFrame, column: str) -> Paired | None:
    """Compare a column of two configurations' runs, which may miss a value, by their `seed`; None without a pair.

    A run of which nobody knows if it reached the goal has no pair. Where the crossing of the one lies within what the
    other's may be early by (`lateness`), neither is the smaller.
    """
    ours, theirs = (_by_seed(runs, column) for runs in (first, second))
    pairs = pd.concat([ours, theirs], axis=1, join="inner").sort_index()
    if pairs.empty:
        return None
    earliest, value, other_earliest, other_value = pairs.to_numpy().T
    smaller, larger = value < other_earliest, earliest > other_value
    with np.errstate(divide="ignore", invalid="ignore"):
        # Two misses are a tie.
        ratios = np.nan_to_num(other_value / value, nan=1.0, posinf=np.inf)
        # Rounded, because a/b and b/a are not always equally far from 1.
        differences = np.where(smaller | larger, np.round(np.log(ratios), 12), 0.0)
    return Paired(
        ratio=estimate(ratios.tolist()),
        smaller=int(smaller.sum()),
        larger=int(larger.sum()),
        pairs=len(pairs),
        looks=tuple(evidence(differences).tolist()),
    )


def _by_seed(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return for every seed the least value that the run may have, `earliest`, and the `value` that it has."""
    known = runs[runs["seed"].notna() & runs["reached"].notna()].drop_duplicates("seed").set_index("seed")
    value = known[column].astype("Float64").fillna(math.inf).astype(float)
    return pd.DataFrame({"earliest": value * (1 - known["lateness"].fillna(0).astype(float)), "value": value})


@dataclass(frozen=True)
class Lead:
    """The lead of the first configuration over another one: by their pairs, None without one, and if it is decided."""

    over: Replicates
    pairs: Paired | None
    is_decided: bool


# The sentences of a verdict and `seeds=until_decided` ask for the same ones.
@lru_cache(maxsize=4)
def leads(study: Study) -> list[Lead]:
    """Return the lead of the first configuration of a study over every other one, all of them judged together."""
    best, *others = ranked(study)
    pairs = [_over(study, best, other) for other in others]
    looks = [pair.looks if pair and pair.smaller > pair.larger else (0.0,) for pair in pairs]
    return [Lead(*lead) for lead in zip(others, pairs, decided(looks, 1 + len(others)), strict=True)]


def _over(study: Study, best: Replicates, other: Replicates) -> Paired | None:
    """Compare seed by seed, with the noise of the timing; at one fixed batch size an iteration costs the same."""
    runs = finished(study)
    ours, theirs = (runs[runs["configuration"] == group.configuration] for group in (best, other))
    costs_differ = best.batch_size != other.batch_size or pd.concat([ours, theirs])["batch_schedule"].notna().any()
    column = "own_seconds_to_goal" if is_timed(study) and costs_differ else "examples_to_goal"
    return paired(ours, theirs, column)


def still_compared(study: Study) -> list[str]:
    """Return the configurations whose seeds may decide who leads: the leader, and those that it has not beaten.

    None if every lead is decided, or if there is nothing to decide because no run reached the goal.
    """
    order = ranked(study)
    if study.goal.problem or not any(group.reached for group in order):
        return []
    undecided = [lead.over.configuration for lead in leads(study) if not lead.is_decided]
    return [order[0].configuration, *undecided] if undecided else []


# --- Sweeps side by side: what they share and differ in, and which differences between them are more than noise.


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
    return study_from(
        runs, history, evaluations, targets, between_sweeps(runs), folder=studies[0].folder,
        records={f"{label}/{name}": each for label, study in named for name, each in study.records.items()},
        manifest=studies[0].manifest,
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
    names = dict.fromkeys([*settings(runs), *(column.name for column in COLUMNS if column.mixture)])
    within = runs.groupby("sweep")
    return [name for name in names if within[name].nunique().le(1).all() and runs[name].nunique() > 1]


@dataclass
class Contrast:
    """How many times as fast some runs are as those of the first sweep, by their medians.

    `ratio` is infinite if only they reach the threshold, 0 if only the first sweep's do, NaN if neither do. `p_value`
    is None if there are too few runs for any difference to be significant.
    """

    ratio: float
    p_value: float | None


def contrast(own: pd.DataFrame, base: pd.DataFrame, column: str) -> Contrast:
    """Compare a column of seconds; a missing one is that of a run that did not reach the threshold.

    The p value is that of the two-sided test of Mann and Whitney (1947) over the runs, not over their epochs.
    """
    values, others = or_infinity(own[column]), or_infinity(base[column])
    ours, theirs = median(values), median(others)
    ratio = math.nan if math.isinf(ours) and math.isinf(theirs) else theirs / ours
    if 2 / math.comb(len(values) + len(others), len(others)) >= SIGNIFICANT:
        return Contrast(ratio, None)
    # Takes a second to import, which a page of one sweep need not wait for.
    from scipy.stats import mannwhitneyu

    return Contrast(ratio, float(mannwhitneyu(values, others).pvalue))


@dataclass
class Compared:
    """One configuration in one sweep: its runs, and how their medians compare with the first sweep's.

    Examples are compared seed by seed, seconds by all runs, because their noise is that of the machine. There is no
    contrast in the first sweep itself, for a configuration that it does not have, and to goals that are not the same.
    `is_unsteady` if seconds of one of the two were timed unsteadily.
    """

    configuration: str
    sweep: str
    runs: pd.DataFrame
    per_epoch: Contrast | None = None
    examples: Paired | None = None
    examples_decided: bool = False
    to_goal: Contrast | None = None
    is_unsteady: bool = False

    def median(self, column: str) -> float:
        """Return the median of a column over the runs of which one can tell if they reached the goal."""
        return estimate(or_infinity(self.runs.loc[self.runs["reached"].notna(), column])).median


def compare(combined: Study) -> list[Compared]:
    """Compare every configuration of the sweeps with the same configuration of the first sweep, A.

    What is decided and the p values are those of all rows together, by `decided` and `holm`: the largest differences of
    a column catch the eye.
    """
    rows = list(_compared(combined))
    with_pairs = [row for row in rows if row.examples]
    is_decided = decided([row.examples.looks for row in with_pairs if row.examples])
    for row, examples_decided in zip(with_pairs, is_decided, strict=True):
        row.examples_decided = examples_decided
    for name in ("per_epoch", "to_goal"):
        tested = [each for row in rows if (each := getattr(row, name)) and each.p_value is not None]
        for each, p_value in zip(tested, holm([each.p_value for each in tested]), strict=True):
            each.p_value = p_value
    return rows


def _compared(combined: Study) -> Iterator[Compared]:
    restless = set(unsteady(combined.history).index)
    for configuration, runs in finished(combined).groupby("configuration", sort=False):
        base = runs[runs["sweep"] == "A"]
        for sweep, own in runs.groupby("sweep"):
            row = Compared(str(configuration), str(sweep), own)
            if sweep != "A" and len(base):
                row.per_epoch = contrast(own, base, "seconds_per_epoch")
                row.is_unsteady = not restless.isdisjoint([*own["run_dir"], *base["run_dir"]])
                if not combined.goal.problem:
                    row.examples = paired(base, own, "examples_to_goal")
                    row.to_goal = contrast(own, base, "own_seconds_to_goal")
            yield row
