"""The text alternatives of figures: the number of every configuration, of many the range and where all of them are."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from digits_sweep.report.analysis.curves.evaluated import Course
from digits_sweep.report.analysis.sentences.formatting import counted, listed
from digits_sweep.report.analysis.statistics.replicates import Estimate, Replicates
from digits_sweep.report.language import said

# Of more the text has the ends only: nobody listens to a hundred numbers.
MOST = 12
Described = TypeVar("Described", Replicates, Course)


def each_of(things: Sequence[Described], describe: Callable[[Described], str]) -> str:
    """Describe every configuration or course; of many, the first and the last."""
    if len(things) > MOST:
        ends = (things[0], things[-1])
        named = said(
            "{count} runs, such as {ends}"
            if isinstance(things[0], Course)
            else "{count} configurations, such as {ends}",
            count=len(things),
            ends=listed(_one(each, describe) for each in ends),
        )
        return named + said(_ALL)
    return "; ".join(_one(each, describe) for each in things) + "."


def medians_of(groups: Sequence[Replicates], name: str, write: Callable[[float], str]) -> str:
    """Describe the medians of an estimate of every configuration; of many, the least and the greatest."""

    def median(group: Replicates) -> float:
        estimate: Estimate = getattr(group, name)
        return estimate.median

    if len(groups) <= MOST:
        return each_of(groups, lambda group: write(median(group)))
    reached = sorted((group for group in groups if math.isfinite(median(group))), key=median)
    missed = len(groups) - len(reached)
    parts = [counted(len(groups), "configuration")]
    if reached:
        least, most = (_one(group, lambda each: write(median(each))) for group in (reached[0], reached[-1]))
        parts.append(said("least {least}; most {most}", least=least, most=most))
    if missed:
        parts.append(said("not reached by {count}", count=missed))
    return "; ".join(parts) + said(_ALL)


_ALL = ". All numbers are in the table of configurations and in that of every run."


def _one(thing: Described, describe: Callable[[Described], str]) -> str:
    return f"{thing.configuration}: {describe(thing)}"
