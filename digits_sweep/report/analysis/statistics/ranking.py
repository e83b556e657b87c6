"""Rank the configurations of a sweep: which was soonest."""

from collections.abc import Sequence

import pandas as pd

from digits_sweep.report.analysis.statistics.replicates import Estimate, Replicates


def is_timed(runs: pd.DataFrame) -> bool:
    """Return whether seconds count: those of runs that shared a machine do not."""
    return not (runs["concurrent_runs"].fillna(1) > 1).any()


def to_goal(group: Replicates, timed: bool) -> Estimate:
    """Return what a configuration is ranked by: seconds to the goal if they count, else examples."""
    return group.seconds_to_goal if timed else group.examples_to_goal


def ranked(runs: pd.DataFrame, groups: Sequence[Replicates]) -> list[Replicates]:
    """Return the configurations, the soonest first, those that did not reach the goal last."""
    timed = is_timed(runs)
    return sorted(groups, key=lambda group: to_goal(group, timed).median)
