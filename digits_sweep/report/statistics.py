"""Seeds summarized and configurations ranked: a miss is infinite and never dropped."""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import pandas as pd

from digits_sweep.report.study import Study, has_trained
from digits_sweep.results.record import Status

CONFIDENCE = 0.95
# Shares are told apart in so many steps.
STEPS = 2**52


# --- The binomial distribution, as far as it is needed: scipy has it, but takes a fifth of a second to import.


@cache
def at_most(hits: int, runs: int) -> float:
    """Return the probability of at most `hits` heads in `runs` throws of a fair coin, from whole numbers."""
    return sum(math.comb(runs, each) for each in range(hits + 1)) / 2**runs


@cache
def share_interval(hits: int, runs: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the exact interval of the share `hits` of `runs` (Clopper and Pearson 1934).

    Its ends are the shares at which so many hits or more, or so many or fewer, have probability (1 - confidence) / 2.
    """
    tail = (1 - confidence) / 2
    return (
        _share_with(lambda share: _at_least(hits, runs, share) >= tail) if hits else 0.0,
        _share_with(lambda share: _at_least(hits + 1, runs, share) >= 1 - tail) if hits < runs else 1.0,
    )


def _at_least(hits: int, runs: int, share: float) -> float:
    """Return the probability of `hits` or more of `runs` if each is one with probability `share`, between 0 and 1."""
    yes, no = math.log(share), math.log1p(-share)
    ways = math.lgamma(runs + 1)
    return math.fsum(
        math.exp(ways - math.lgamma(each + 1) - math.lgamma(runs - each + 1) + each * yes + (runs - each) * no)
        for each in range(hits, runs + 1)
    )


def _share_with(is_reached: Callable[[float], bool]) -> float:
    """Return the smallest share at which a probability that grows with it is reached."""
    return (bisect_left(range(1, STEPS), True, key=lambda step: is_reached(step / STEPS)) + 1) / STEPS


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values of several tests, adjusted so that any false one among them has 5 % in all (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda test: p_values[test])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for done, test in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - done) * p_values[test]))
        adjusted[test] = largest
    return adjusted


def seeds_agree(differences: Sequence[int]) -> float:
    """Return the two-sided p value of whole `differences`, one a seed: without an effect either sign is as likely.

    A seed's difference is the sum over all settings that were tried with it, because runs that share a seed are no
    independent pairs. The distribution of the sum over the seeds is exact.
    """
    ways = {0: 1}
    for difference in filter(None, differences):
        sums: dict[int, int] = {}
        for total, count in ways.items():
            for signed in (total + difference, total - difference):
                sums[signed] = sums.get(signed, 0) + count
        ways = sums
    extreme = abs(sum(differences))
    return sum(count for total, count in ways.items() if abs(total) >= extreme) / sum(ways.values())


# --- Seeds: the runs of one configuration, together.

# Runs that are the same in these columns, as far as there are some, are the same run.
SAME_RUN = ("sweep", "configuration", "seed")
# The columns of a study's runs that are summarized.
NEEDED = (
    *("configuration", "batch_size", "epochs", "ended", "never_predicted", "reached"),
    *("examples_to_goal", "iterations_to_goal", "seconds_to_goal", "first_epoch_below_threshold"),
    *("seconds_per_epoch", "final_loss", "test_accuracy", "loss_threshold"),
)
EPOCHS_TO_THRESHOLD = ("first_epoch_below_threshold", "epochs", "loss_threshold")


@dataclass(frozen=True)
class Estimate:
    """A median and an interval that contains the true median with probability `coverage`.

    Infinity stands for "not reached". A single run has no interval: `coverage` is 0.
    """

    median: float
    low: float
    high: float
    coverage: float
    runs: int


UNKNOWN = Estimate(math.nan, math.nan, math.nan, 0.0, 0)


@dataclass(frozen=True)
class Replicates:
    """The runs of one configuration together: they differ in the seed alone. A miss is infinite, never dropped.

    Of the `runs`, `known` are those of which one can tell if they reached the goal. `seconds_to_goal` are the
    iterations at their measured cost. In `dead` of the runs that reached the goal there is a class that is never
    predicted; `stopped` of the runs ended before their last epoch because they were asked to.
    """

    configuration: str
    batch_size: int
    runs: int
    known: int
    reached: int
    examples_to_goal: Estimate
    iterations_to_goal: Estimate
    seconds_to_goal: Estimate
    epochs_to_threshold: Estimate
    seconds_per_epoch: Estimate
    final_loss: Estimate
    test_accuracy: Estimate
    dead: int
    stopped: int
    epochs: int

    @property
    def reached_share(self) -> tuple[float, float]:
        """Return the exact 95 % interval of the share of runs that reach the goal."""
        return share_interval(self.reached, self.known) if self.known else (0.0, 1.0)


def estimate(values: Sequence[float]) -> Estimate:
    """Return the median of `values` and the interval between two of them that covers it with 95 %, if n is enough.

    By the binomial distribution of how many of n values lie below the true median, the interval from the k-th
    smallest to the k-th largest covers it with probability 1 - 2 P(X < k), X ~ B(n, 1/2) (David and Nagaraja, Order
    Statistics, 2003, section 7.1). The largest k with 95 % is taken: the whole range at 6 to 8 values. Below 6 values
    the range covers less than 95 %, and `coverage` says how much. Values may be infinite: a run that did not reach
    the threshold is. If half of them or more are infinite, so is the median. Raises ValueError if there is no value.
    """
    ordered = sorted(values)
    count = len(ordered)
    if not count:
        raise ValueError("the median of no values")
    if count == 1:
        return Estimate(ordered[0], ordered[0], ordered[0], 0.0, 1)
    ranks = [rank for rank in range(1, count // 2 + 1) if _coverage(rank, count) >= CONFIDENCE]
    rank = max(ranks, default=1)
    middle = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    return Estimate(middle, ordered[rank - 1], ordered[count - rank], _coverage(rank, count), count)


def _coverage(rank: int, count: int) -> float:
    return 1 - 2 * at_most(rank - 1, count)


# A study's own are asked for by every sentence, table and figure of a page.
@lru_cache(maxsize=4)
def groups_of(study: Study) -> list[Replicates]:
    """Return one entry for every configuration of a study that has a run which ended, in the order of the runs."""
    own = finished(study)[list(NEEDED)]
    # As lists, because a table of a few rows is a hundred times slower, and there may be hundreds of them.
    columns = {name: own[name].astype(object).where(own[name].notna(), None).tolist() for name in NEEDED}
    rows = own.reset_index(drop=True).groupby("configuration", sort=False).indices
    return [
        _of(str(name), {column: [values[row] for row in rows[name]] for column, values in columns.items()})
        for name in dict.fromkeys(columns["configuration"])
    ]


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
    rows = chosen.to_numpy(bool, copy=True)
    again = runs.loc[rows, [name for name in SAME_RUN if name in runs]].duplicated()
    rows[rows] = ~again.to_numpy()
    return runs[rows]


def or_infinity(column: Iterable[Any]) -> list[float]:
    """Return the values of a column, a missing one as infinity: that run did not reach the threshold."""
    return [math.inf if pd.isna(value) else float(value) for value in column]


def _of(configuration: str, group: dict[str, list[Any]]) -> Replicates:
    known = [row for row, reached in enumerate(group["reached"]) if reached is not None]
    reached = [row for row in known if group["reached"][row]]

    def to_goal(name: str) -> Estimate:
        return _estimate([group[name][row] for row in known])

    return Replicates(
        configuration=configuration,
        batch_size=int(group["batch_size"][0]),
        runs=len(group["reached"]),
        known=len(known),
        reached=len(reached),
        examples_to_goal=to_goal("examples_to_goal"),
        iterations_to_goal=to_goal("iterations_to_goal"),
        seconds_to_goal=to_goal("seconds_to_goal"),
        # A loop of the user's may have no epochs, or no threshold.
        epochs_to_threshold=_estimate(
            [
                epoch
                for epoch, *needed in zip(*(group[name] for name in EPOCHS_TO_THRESHOLD), strict=True)
                if epoch is not None or None not in needed
            ]
        ),
        seconds_per_epoch=_estimate([value for value in group["seconds_per_epoch"] if value is not None]),
        final_loss=_estimate([value for value in group["final_loss"] if value is not None]),
        test_accuracy=_estimate([value for value in group["test_accuracy"] if value is not None]),
        dead=sum((group["never_predicted"][row] or 0) > 0 for row in reached),
        stopped=sum(end is not None for end in group["ended"]),
        epochs=int(max((epochs for epochs in group["epochs"] if epochs is not None), default=0)),
    )


def _estimate(values: list[Any]) -> Estimate:
    return estimate(or_infinity(values)) if values else UNKNOWN


# --- Ranks: which configuration was soonest.


def is_timed(study: Study) -> bool:
    """Return whether seconds count: those of runs that shared a machine do not."""
    return not (finished(study)["concurrent_runs"].fillna(1) > 1).any()


def to_goal(group: Replicates, timed: bool) -> Estimate:
    """Return what a configuration is ranked by: seconds to the goal if they count, else examples."""
    return group.seconds_to_goal if timed and not math.isnan(group.seconds_to_goal.median) else group.examples_to_goal


def ranked(study: Study) -> list[Replicates]:
    """Return the configurations, the soonest first, then those that missed the goal, the least loss first."""
    timed = is_timed(study)

    def key(group: Replicates) -> tuple[float, float]:
        middle, loss = to_goal(group, timed).median, group.final_loss.median
        return (math.inf if math.isnan(middle) else middle, math.inf if math.isnan(loss) else loss)

    return sorted(groups_of(study), key=key)


# --- Timing.

# Timing is unsteady if the middle half of a run's epochs spreads over more than this share of their median.
UNSTEADY = 0.10


def unsteady(history: pd.DataFrame) -> pd.Series:
    """Return the spread of the epochs' seconds, as a share of their median, of every run whose timing is unsteady.

    The first epoch is left out: it pays for warming up.
    """
    seconds = history[history["epoch"] > 1].groupby("run_dir")["seconds"]
    spread = (seconds.quantile(0.75) - seconds.quantile(0.25)) / seconds.median()
    return spread[spread > UNSTEADY]


# --- Factors: which setting separates the configurations.


def explained(runs: pd.DataFrame, values: pd.Series) -> float:
    """Return the share of the variance of log(examples to the goal) within batch sizes that lies between `values`.

    A run that missed counts as twice the examples that it trained on.
    """
    examples = runs["examples_to_goal"].fillna(2 * runs["epochs"] * runs["train_samples"]).astype(float)
    log = np.log(examples.where(examples > 0).to_numpy())
    known = np.isfinite(log)
    within = log - _means(log, known, runs["batch_size"])
    total = float((within[known] ** 2).sum())
    between = _means(within, known, values)
    return float((between[known] ** 2).sum()) / total if total > 0 else 0.0


def _means(numbers: np.ndarray, known: np.ndarray, groups: pd.Series) -> np.ndarray:
    """Return for every number the mean of the known ones in its group."""
    codes = pd.factorize(groups, use_na_sentinel=False)[0]
    sums = np.bincount(codes[known], numbers[known], minlength=codes.max() + 1)
    return (sums / np.maximum(np.bincount(codes[known], minlength=codes.max() + 1), 1))[codes]
