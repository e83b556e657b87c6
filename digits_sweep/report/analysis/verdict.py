"""State the verdict in one sentence, or why these runs do not give one."""

import math

import pandas as pd

from digits_sweep.report.analysis.formatting import capitalized, counted, interval, seconds
from digits_sweep.report.analysis.replicates import CONFIDENCE, Estimate, Replicates


def verdict(runs: pd.DataFrame, groups: list[Replicates]) -> str:
    """Say which configuration gets below the threshold first in seconds, by how much and how surely.

    `runs` are those of a study that ended, `groups` what `replicates` makes of them. If single seeds, overlapping
    intervals or runs that shared the machine leave it open, the sentence says so.
    """
    if not groups:
        return "No run has ended yet, so there is no verdict."
    if reason := _not_comparable(runs):
        return reason
    threshold = f"{runs['loss_threshold'].dropna().iloc[0]:g}"
    ranked = sorted(groups, key=lambda group: group.seconds_to_threshold.median)
    best = ranked[0]
    if not any(group.reached for group in groups):
        return f"No run got below {threshold}; the longest trained for {_longest(runs)}."
    if math.isinf(best.seconds_to_threshold.median):
        return f"No configuration got below {threshold} with more than half of its seeds."
    if len(ranked) == 1:
        return f"{capitalized(best.configuration)} gets below {threshold} after {_measured(best.seconds_to_threshold)}."
    return _contest(best, ranked[1:], threshold)


def _not_comparable(runs: pd.DataFrame) -> str | None:
    for column, noun in (("loss_threshold", "thresholds"), ("dataset", "data sets")):
        if runs[column].nunique() > 1:
            return f"These runs have different {noun}, so they have no common verdict; the table lists them separately."
    most = runs["concurrent_runs"].max()
    if pd.notna(most) and most > 1:
        return (
            f"Up to {most} of these runs shared the machine, which makes their seconds longer, so they do not show "
            "which batch size is fastest. Their epochs are valid; to compare seconds, run the sweep one run at a time."
        )
    return None


def _contest(best: Replicates, others: list[Replicates], threshold: str) -> str:
    first = best.seconds_to_threshold
    # The one whose interval starts earliest: if that does not overlap with the best one's, none does.
    second = others[0] if first.runs < 2 else min(others, key=lambda group: group.seconds_to_threshold.low)
    other = second.seconds_to_threshold
    if min(first.runs, other.runs) < 2:
        return (
            f"With one run per configuration, the effect of the batch size cannot be separated from that of the seed. "
            f"Here {best.configuration} was first below {threshold}, after {seconds(first.median)}, then "
            f"{second.configuration}, after {seconds(other.median)}; run more seeds (seed=0,1,2,3,4,5) for a verdict."
        )
    lead = f"{best.configuration} ({_measured(first)})"
    if other.low <= first.high:
        return (
            f"The seeds do not show which configuration is first below {threshold}: the intervals of {lead} and "
            f"{second.configuration} ({_measured(other)}) overlap."
        )
    gain = "no other one does with more than half of its seeds" if math.isinf(other.median) else _gain(first, others[0])
    sentence = f"{capitalized(best.configuration)} gets below {threshold} first, after {_measured(first)}: {gain}."
    least = min(first, other, key=lambda each: each.coverage)
    return sentence if least.coverage >= CONFIDENCE else f"{sentence} {_few(least)}"


def _gain(first: Estimate, second: Replicates) -> str:
    other = second.seconds_to_threshold
    return f"{other.median / first.median:.2f} times as fast as {second.configuration} ({_measured(other)})"


def _few(estimate: Estimate) -> str:
    return f"With {estimate.runs} seeds the intervals contain the true median only {estimate.coverage:.0%} of the time."


def _measured(estimate: Estimate) -> str:
    if estimate.runs == 1:
        return f"{seconds(estimate.median)} (one run)"
    return f"{seconds(estimate.median)}, {interval(estimate, seconds)} over {counted(estimate.runs, 'seed')}"


def _longest(runs: pd.DataFrame) -> str:
    return counted(int(runs["epochs"].max()), "epoch")
