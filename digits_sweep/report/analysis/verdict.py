"""The answer in one sentence, or why these runs do not give one."""

import math

import pandas as pd

from digits_sweep.report.analysis.formatting import capitalised, counted, interval, seconds
from digits_sweep.report.analysis.replicates import CONFIDENCE, Middle, Replicates

ENOUGH_SEEDS = 6


def answer(runs: pd.DataFrame, groups: list[Replicates]) -> str:
    """Which configuration of a sweep gets below the threshold first in seconds, by how much and how surely.

    `runs` is what `with_configurations` gives, `groups` what `replicates` makes of it. Where single seeds,
    overlapping intervals or runs that shared the machine leave it open, the sentence says that.
    """
    if not groups:
        return "No run has ended yet, so there is nothing to answer from."
    if reason := _not_comparable(runs):
        return reason
    threshold = f"{runs['loss_threshold'].dropna().iloc[0]:g}"
    ranked = sorted(groups, key=lambda group: group.seconds_to_threshold.median)
    best = ranked[0]
    if not any(group.reached for group in groups):
        return f"No run got below {threshold}: {_longest(runs)}."
    if math.isinf(best.seconds_to_threshold.median):
        return f"No configuration got below {threshold} with more than half of its seeds."
    if len(ranked) == 1:
        return f"{capitalised(best.configuration)} gets below {threshold} after {_told(best.seconds_to_threshold)}."
    return _contest(best, ranked[1:], threshold)


def _not_comparable(runs: pd.DataFrame) -> str | None:
    for column, words in (("loss_threshold", "thresholds"), ("dataset", "data sets")):
        if runs[column].nunique() > 1:
            return f"These runs have different {words}, so they have no common answer; the table keeps them apart."
    most = runs["concurrent_runs"].max()
    if pd.notna(most) and most > 1:
        return (
            f"Up to {most} of these runs shared the machine, so their seconds are not those of runs alone and do not "
            "say which batch size is fastest. The epochs stand; for the seconds, run the sweep one run at a time."
        )
    return None


def _contest(best: Replicates, others: list[Replicates], threshold: str) -> str:
    first = best.seconds_to_threshold
    # The one whose interval comes nearest to the best one's: where that is apart, all are.
    second = others[0] if first.runs < 2 else min(others, key=lambda group: group.seconds_to_threshold.low)
    other = second.seconds_to_threshold
    if min(first.runs, other.runs) < 2:
        return (
            f"One run a configuration does not tell a batch size from a lucky seed. In these, {best.configuration} was "
            f"first below {threshold}, after {seconds(first.median)}, then {second.configuration} after "
            f"{seconds(other.median)}; seed=0,1,2,3,4,5 would make it an answer."
        )
    lead = f"{best.configuration} ({_told(first)})"
    if other.low <= first.high:
        return (
            f"The seeds do not say which is first below {threshold}: the intervals of {lead} and "
            f"{second.configuration} ({_told(other)}) overlap."
        )
    gain = "no other does with half of its seeds" if math.isinf(other.median) else _gain(first, others[0])
    sure = (
        ""
        if min(first.coverage, other.coverage) >= CONFIDENCE
        else f" {_few(min(first, other, key=lambda middle: middle.coverage))}"
    )
    return f"{capitalised(best.configuration)} gets below {threshold} first, after {_told(first)}: {gain}.{sure}"


def _gain(first: Middle, second: Replicates) -> str:
    other = second.seconds_to_threshold
    return f"{other.median / first.median:.2f} times as fast as {second.configuration} ({_told(other)})"


def _few(middle: Middle) -> str:
    return f"With {middle.runs} seeds the intervals hold the median with {middle.coverage:.0%} only."


def _told(middle: Middle) -> str:
    if middle.runs == 1:
        return f"{seconds(middle.median)} (one run)"
    return f"{seconds(middle.median)}, {interval(middle, seconds)} over {counted(middle.runs, 'seed')}"


def _longest(runs: pd.DataFrame) -> str:
    return f"the longest trained {counted(int(runs['epochs'].max()), 'epoch')}"
