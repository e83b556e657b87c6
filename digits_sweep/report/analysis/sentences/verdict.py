"""State the verdict: the numbers in one sentence, how far they can be relied on in the next."""

import math
from collections.abc import Sequence

import pandas as pd

from digits_sweep.report.analysis.configurations import shortened
from digits_sweep.report.analysis.goal import RUNNING_LOSS, Goal
from digits_sweep.report.analysis.sentences.formatting import (
    capitalized,
    counted,
    listed,
    noun_of,
    rounded,
    seconds,
    share,
)
from digits_sweep.report.analysis.statistics.pairs import Paired, paired
from digits_sweep.report.analysis.statistics.ranking import is_timed, ranked, to_goal
from digits_sweep.report.analysis.statistics.replicates import Replicates
from digits_sweep.report.language import said

# Of more configurations than a sentence can hold the first are named; the table has all of them.
MOST_NAMED, FIRST_NAMED = 6, 3
MORE_SEEDS = "seed=0,1,2,3,4,5"
# Fewer pairs cannot pass the sign test at 5 %, even if all agree.
FEWEST_PAIRS = 6


def verdict(runs: pd.DataFrame, groups: Sequence[Replicates], goal: Goal) -> str:
    """Say after how many examples and seconds each configuration reached the goal, and which was soonest.

    `runs` are those of a study that ended, `groups` what `replicates` makes of them. Seconds are left out if runs
    shared the machine. Examples and iterations are the same there.
    """
    if not groups:
        return said("No run has ended yet, so there is no verdict.")
    if runs["dataset"].nunique() > 1:
        return said("These runs have different data sets, so they are not ranked; the table lists them separately.")
    if goal.problem:
        return said("{problem}; the table lists them separately.", problem=capitalized(goal.problem))
    timed, order = is_timed(runs), ranked(runs, groups)
    reached = [group for group in order if math.isfinite(to_goal(group, timed).median)]
    if not any(group.reached for group in groups):
        epochs = counted(max(group.epochs for group in groups), "epoch")
        sentences = [said("No run passed {goal} within {epochs}.", goal=goal, epochs=epochs)]
    else:
        sentences = [_numbers(runs, order, reached, goal, timed), *_caveat(runs, reached, timed)]
    if not timed:
        most = int(runs["concurrent_runs"].max())
        sentences.append(said("Up to {most} runs shared the machine, so their seconds are not compared.", most=most))
    return " ".join(sentences)


def how_counted(goal: Goal) -> str:
    """Say what the goal is and how its examples and seconds are counted."""
    if goal.measure == RUNNING_LOSS:
        what = said(
            "The running loss is the mean over the last 3,000 examples trained on: good for an order, and late by some "
            "percent where the loss is steep. The loss at frozen weights (evaluation=fine) is exact."
        )
    else:
        what = said(
            "The {measure} at frozen weights, interpolated between the evaluations before and after.",
            measure=said(goal.measure.replace("_", " ")),
        )
    cost = said("Seconds are the iterations to it at what one costs at that batch size, the median over its runs.")
    return f"{what} {cost}"


def _numbers(
    runs: pd.DataFrame, order: Sequence[Replicates], reached: Sequence[Replicates], goal: Goal, timed: bool
) -> str:
    noun, most = noun_of(runs), MOST_NAMED if len(order) <= MOST_NAMED else FIRST_NAMED
    named = [
        said(
            "{configuration} passed {goal} after {amount}" if place == 0 else "{configuration} after {amount}",
            configuration=_short(group) if place else group.configuration,
            goal=goal,
            amount=_amount(group, noun, timed),
        )
        for place, group in enumerate(reached[:most])
    ]
    if len(reached) > most:
        named.append(said("{count} more later (see the table)", count=len(reached) - most))
    missed = [group for group in order if group not in reached]
    named += [_missed(group, goal) for group in missed[:most]] if len(missed) <= most else [_all_missed(missed, goal)]
    between = "; " if any("," in group.configuration for group in order) else ", "
    seeds = sorted({group.runs for group in order})
    if seeds == [1]:
        how = said(
            "one run each: more seeds ({seeds}) show by how much a seed moves these"
            if len(named) > 1
            else "one run: more seeds ({seeds}) show by how much a seed moves this",
            seeds=MORE_SEEDS,
        )
    elif len(seeds) == 1:
        how = said("medians of {count} seeds", count=seeds[0])
    else:
        how = said("medians of {least} to {most} seeds", least=seeds[0], most=seeds[-1])
    return f"{capitalized(between.join(named))}; {how}."


def _short(group: Replicates) -> str:
    return shortened(group.configuration)


def _amount(group: Replicates, noun: str, timed: bool) -> str:
    """Write `46,600 digits (0.37 s)`; in iterations if the seconds do not count."""
    examples, iterations = group.examples_to_goal.median, group.iterations_to_goal.median
    beside = seconds(group.seconds_to_goal.median) if timed else said("{count} iterations", count=rounded(iterations))
    return f"{rounded(examples)} {noun} ({beside})"


def _missed(group: Replicates, goal: Goal) -> str:
    return said(
        "{configuration} passed {goal} in {share} runs within {epochs}"
        if group.reached
        else "{configuration} did not pass {goal} within {epochs}",
        configuration=group.configuration,
        goal=goal,
        share=share(group.reached, group.runs),
        epochs=counted(group.epochs, "epoch"),
    )


def _all_missed(groups: Sequence[Replicates], goal: Goal) -> str:
    return said(
        "{count} configurations did not pass {goal}"
        if all(group.runs == 1 for group in groups)
        else "{count} configurations did not pass {goal} in half of their runs or more",
        count=len(groups),
        goal=goal,
    )


def _caveat(runs: pd.DataFrame, reached: Sequence[Replicates], timed: bool) -> list[str]:
    """Say whether the first one's lead is more than the noise between seeds: by pairs of runs with the same seed."""
    if len(reached) < 2 or max(group.runs for group in reached) == 1:
        return []
    best, *others = reached
    compared = {other: _paired(runs, best, other, timed) for other in others}
    open_ = [other for other, found in compared.items() if found is None or not found.is_significant]
    if not open_:
        return [_lead(best, others[0], compared[others[0]], said("seconds") if timed else noun_of(runs))]
    return [_undecided(best, open_, compared[open_[0]], timed)]


def _paired(runs: pd.DataFrame, best: Replicates, other: Replicates, timed: bool) -> Paired | None:
    """Compare seed by seed, with the noise of the timing; at one batch size an iteration costs the same."""
    column = "own_seconds_to_goal" if timed and best.batch_size != other.batch_size else "examples_to_goal"
    ours, theirs = (runs[runs["configuration"] == group.configuration] for group in (best, other))
    return paired(ours, theirs, column)


def _lead(best: Replicates, second: Replicates, found: Paired | None, needs: str) -> str:
    assert found is not None
    ratio = found.ratio
    return said(
        "Seed by seed {second} needs {ratio.median:.3g} times the {needs} of {best} ({ratio.low:.3g} to "
        "{ratio.high:.3g}), more of them in {share} seeds: that is no noise between seeds.",
        second=_short(second),
        best=_short(best),
        ratio=ratio,
        needs=needs,
        share=share(found.smaller, found.pairs),
    )


def _undecided(best: Replicates, others: Sequence[Replicates], found: Paired | None, timed: bool) -> str:
    names = [f"({_short(each)})" if "," in each.configuration else _short(each) for each in (best, *others)]
    start = said("The seeds do not decide between {names}", names=listed(names, most=4))
    if found is None:
        return f"{start}: " + said("they have no seed in common ({seeds} for every one).", seeds=MORE_SEEDS)
    first = said(
        "{best} was sooner in {share} seeds" if timed else "{best} was the one with fewer in {share} seeds",
        best=_short(best),
        share=share(found.smaller, found.pairs),
    )
    few = said("; {count} seeds that agree are the fewest that can", count=FEWEST_PAIRS)
    return f"{start}: {first}{few if found.pairs < FEWEST_PAIRS else ''}."
