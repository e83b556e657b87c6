"""The critical batch size: its files, and what they answer in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from digits_sweep.config.text import to_text
from digits_sweep.errors import UnreadableRecord
from digits_sweep.report.statistics import Estimate, estimate
from digits_sweep.report.words import _, localized, rounded, seconds, short_seconds, two_digits
from digits_sweep.results.critical import (
    ANSWERS,
    BRANCHES,
    BRANCHES_COLUMNS,
    STEPS,
    TUNING,
    TUNING_COLUMNS,
    Answer,
    read_answers,
    read_steps,
    read_study_table,
    seconds_of_step,
)

HEADING = "Which batch size pays, and which is soonest?"
HOW_COUNTED = (
    "Steps are medians over fresh seeds at the rate with the least median while tuning, with their 95 % interval from "
    "order statistics (the whole range at 6 to 8 seeds). Seconds are steps at what a step costs here. A run that "
    "misses the goal counts as infinity, one that failed not at all. The curve is S^a = S_min^a + (E_min / B)^a, the "
    "critical batch size E_min / S_min (a = 1: McCandlish et al. 2018). Its 95 % interval comes from drawing the seeds "
    "anew, from what they leave open of the exponent, and from leaving out batch sizes."
)
HOW_COUNTED_QUICKLY = (
    "Steps are those of one run at each batch size, at the rate that took the fewest; a run is given up at twice the "
    "fewest. Seconds are steps at what a step costs here. The curve is S^a = S_min^a + (E_min / B)^a, the critical "
    "batch size E_min / S_min, with the exponent that is usual: three batch sizes hardly tell it. One seed has no "
    "interval; the factor is how far such answers lay from those of full studies."
)
SECONDS_AN_HOUR = 3_600
# No law is said to be rejected at a larger probability of its residuals.
REJECTED = 0.001


@dataclass(frozen=True)
class Branches:
    """From the run at `batch_sizes[0]`: the loss after `examples` more, over that of the branch at that batch size.

    What a loss exceeds its floor by is compared. One ratio a batch size, seed by seed. `limit` is the largest batch
    size up to which every median ratio is at most 1 + `tolerance`.
    """

    batch_sizes: list[int]
    ratios: list[Estimate]
    examples: int
    tolerance: float
    limit: int

    @property
    def is_open(self) -> bool:
        """Whether no batch size that was tried went beyond the tolerance."""
        return self.limit == self.batch_sizes[-1]


@dataclass(frozen=True)
class Critical:
    """A study of the critical batch size: an answer a goal, the columns of its two tables, and its branches if any."""

    answers: list[Answer]
    steps: pd.DataFrame
    tuning: pd.DataFrame
    branches: Branches | None = None

    @property
    def how_counted(self) -> str:
        """How steps and answers of this study came about."""
        return _(HOW_COUNTED_QUICKLY if any(answer.factor for answer in self.answers) else HOW_COUNTED)

    def steps_to(self, answer: Answer) -> pd.DataFrame:
        """Return the rows of a goal in `steps_to_target.csv`, the smallest batch size first."""
        return _of_goal(self.steps, answer).sort_values("batch_size")

    def tuning_of(self, answer: Answer) -> pd.DataFrame:
        """Return the rows of a goal in `tuning.csv`."""
        return _of_goal(self.tuning, answer)


def _of_goal(table: pd.DataFrame, answer: Answer) -> pd.DataFrame:
    return table[(table["target"] == answer.target) & (table["threshold"] == answer.threshold)]


def load_critical(folder: Path, floor: float = 0.0) -> Critical | None:
    """Read the study of a critical batch size in a sweep's folder; None if it holds none.

    `floor` is what the loss of its runs cannot fall below.
    Raises `UnreadableRecord` if one of its files cannot be read.
    """
    if not (folder / ANSWERS).is_file():
        return None
    answers, steps = read_answers(folder), read_steps(folder / STEPS)
    tuning = read_study_table(folder / TUNING, TUNING_COLUMNS)
    if lost := next((answer for answer in answers if _of_goal(steps, answer).empty), None):
        raise UnreadableRecord(f"{STEPS}: has no row of {lost.target} < {lost.threshold}, which {ANSWERS} has")
    branches = None
    if (folder / BRANCHES).is_file():
        branches = branches_of(read_study_table(folder / BRANCHES, BRANCHES_COLUMNS), floor)
    return Critical(answers, steps, tuning, branches)


def branches_of(table: pd.DataFrame, floor: float = 0.0) -> Branches | None:
    """Summarize `branches.csv`; None if it has no row. The branch at the run's own batch size has the ratio 1.

    Ratios are those of the losses' excess over their `floor`: 5 % of a loss of 1.59 are 46 % of what a softmax's
    exceeds its floor of 1.46 by.
    """
    if table.empty:
        return None
    losses = table.pivot_table(index="seed", columns="batch_size", values="train_loss").astype(float) - floor
    ratios = losses.div(losses[losses.columns.min()], axis=0)
    estimates = {int(size): estimate(ratios[size].dropna().tolist()) for size in sorted(ratios.columns)}
    tolerance = float(table["tolerance"].iloc[0])
    limit = next(iter(estimates))
    for size, ratio in estimates.items():
        if ratio.median > 1 + tolerance:
            break
        limit = size
    return Branches(list(estimates), list(estimates.values()), int(table["examples"].iloc[0]), tolerance, limit)


def seconds_per_step(answer: Answer, batch_size: float) -> float:
    """Return what a step at a batch size costs, in seconds; NaN if that was not measured."""
    if answer.seconds_per_step:
        return float(seconds_of_step(answer.seconds_per_step, batch_size))
    known = _numbers(answer, "seconds_per_iteration", "seconds_per_example")
    return known[0] + batch_size * known[1] if known else math.nan


def _numbers(answer: Answer, *names: str) -> list[float] | None:
    """Return some numbers of an answer; None if one of them is not known."""
    numbers = [getattr(answer, name) for name in names]
    return None if None in numbers else numbers


# --- Sentences.


def goal_text(answer: Answer) -> str:
    """Return the goal of an answer: `train error < 0.1`."""
    return f"{_(answer.target.replace('_', ' '))} < {localized(to_text(float(answer.threshold)))}"


def headline(answers: Sequence[Answer]) -> str:
    """Say which batch size to use, in one or two sentences: for the goal that takes the most examples."""
    if not (known := [answer for answer in answers if answer.law]):
        return _("Which batch size to use cannot be told: see the reasons below.")
    answer = max(known, key=lambda answer: answer.e_min or 0.0)
    critical, goal = answer.b_crit or 0.0, goal_text(answer)
    size = two_digits(critical)
    if answer.factor:
        size = _("{size} (give or take a factor of {times:.3g})", size=size, times=answer.factor.times)
    if not (times := _numbers(answer, "soonest_batch_size", "within_low", "within_high")):
        return _(
            "Up to about {size} a larger batch saves steps, beyond that hardly any (for {goal}).", size=size, goal=goal
        )
    soonest, low, high = times
    one = float(f"{soonest:.1g}")
    use = _(
        "Use about {use} ({low} to {high} cost at most 10 % more time at these costs, for {goal})."
        if answer.cost_is_given
        else "Use about {use} ({low} to {high} cost at most 10 % more time here, for {goal}).",
        use=two_digits(one if low <= one <= high else soonest), low=two_digits(low), high=two_digits(high), goal=goal,
    )  # fmt: skip
    if high < critical:
        return use + " " + _("Larger pays only with parallel hardware, up to about {size}.", size=size)
    if answer.factor:
        return use + " " + _("Larger hardly saves steps: the critical batch size is about {size}.", size=size)
    return use + " " + _("Larger hardly saves steps.")


def answer_sentence(answer: Answer) -> str:
    """Say which batch size is the critical one for a goal, by both usual definitions; or why the runs cannot tell."""
    goal = goal_text(answer)
    if answer.b_crit is None:
        reason = _(answer.reason or "")
        text = _("{goal}: the critical batch size cannot be told ({reason}).", goal=goal, reason=reason)
        if guess := _numbers(answer, "noise_scale_at_target", "noise_scale_low", "noise_scale_high"):
            size, low, high = map(two_digits, guess)
            text += " " + _(
                "A rough guess is the gradient noise scale on the way there: {size} ({low} to {high}).",
                size=size, low=low, high=high,
            )  # fmt: skip
    elif answer.factor is not None:
        text = _(
            "{goal}: the critical batch size is about {size}, a quick answer: one seed a rate, no interval. In {held} "
            "of {tried} comparisons it was within a factor of {times:.3g} of the full study's.",
            goal=goal, size=two_digits(answer.b_crit), held=answer.factor.held, tried=answer.factor.of,
            times=answer.factor.times,
        )  # fmt: skip
    else:
        text = _(
            "{goal}: the critical batch size is {size}."
            if answer.b_20 is None
            else "{goal}: the critical batch size is {size}; {other} costs 20 % more examples than the fewest.",
            goal=goal, size=_with_interval(answer, "b_crit"), other=_with_interval(answer, "b_20"),
        )  # fmt: skip
    if answer.missing_seeds:
        text += " " + _("Fresh seeds that failed and count nowhere: {seeds}.", seeds=answer.missing_seeds)
    return text


def law_sentence(answer: Answer) -> str | None:
    """Say what the steps reject: the law of McCandlish et al., or any law of this form; None if nothing."""
    lines, goal = [], goal_text(answer)
    exponent = _numbers(answer, "exponent", "exponent_low", "exponent_high")
    if exponent and not exponent[1] <= 1 <= exponent[2]:
        lines.append(_(
            "{goal}: the law S = S_min + E_min / B is rejected; the exponent is {exponent:.2g} [{low:.2g}, {high:.2g}] "
            "in place of 1.",
            goal=goal, exponent=exponent[0], low=exponent[1], high=exponent[2],
        ))  # fmt: skip
    if answer.p_value is not None and answer.p_value < REJECTED and answer.residuals:
        size, residual = max(answer.residuals.items(), key=lambda pair: abs(pair[1]))
        lines.append(_(
            "{goal}: no law of this form fits (p = {p:.1g}); batch size {size} takes {ratio:.2f} times the steps of "
            "the curve.",
            goal=goal, p=answer.p_value, size=size, ratio=math.exp(residual),
        ))  # fmt: skip
    return " ".join(lines) or None


def soonest_sentence(answer: Answer) -> str | None:
    """Say which batch size is soonest, at which costs; None if that is not known."""
    if answer.soonest_batch_size is None:
        return None
    size, more = _with_interval(answer, "soonest_batch_size", "soonest"), answer.examples_more or 0.0
    if answer.seconds_per_step:
        small, *_others, large = sorted(answer.seconds_per_step)
        return _(
            "{goal}: soonest is about {size}, at {least} a step of {small} up to {most} a step of {large:,} on "
            "{machine}; it needs {more:.0%} more examples than the fewest.",
            goal=goal_text(answer), size=size, least=short_seconds(answer.seconds_per_step[small]), small=small,
            most=short_seconds(answer.seconds_per_step[large]), large=large, machine=answer.machine or "", more=more,
        )  # fmt: skip
    if not (costs := _numbers(answer, "seconds_per_iteration", "seconds_per_example")):
        return None
    iteration, example = map(short_seconds, costs)
    return _(
        "{goal}: soonest is about {size}, at {iteration} an iteration and {example} an example; it needs {more:.0%} "
        "more examples than the fewest.",
        goal=goal_text(answer), size=size, iteration=iteration, example=example, more=more,
    )  # fmt: skip


def elsewhere_sentence(answer: Answer) -> str | None:
    """Say whether the answer is another one on the machine that ran the study; None if its costs are not known."""
    there = _numbers(answer, "soonest_batch_size", "within_low", "within_high")
    here = _numbers(answer, "soonest_here", "within_low_here", "within_high_here")
    if not there or not here:
        return None
    low, high = max(there[1], here[1]), min(there[2], here[2])
    if low <= high:
        return _(
            "{goal}: {low} to {high} cost at most 10 % more time both at these costs and here.",
            goal=goal_text(answer), low=two_digits(low), high=two_digits(high),
        )  # fmt: skip
    names = ("there", "from_", "to", "here", "low", "high")
    return _(
        "{goal}: the answer flips: about {there} ({from_} to {to}) is soonest at these costs, about {here} ({low} to "
        "{high}) here.",
        goal=goal_text(answer), **dict(zip(names, map(two_digits, there + here), strict=True)),
    )  # fmt: skip


def price_sentence(answer: Answer) -> str | None:
    """Say what reaching the goal takes at the soonest batch size, in seconds and money; None if there is no price."""
    law, size = answer.law, answer.soonest_batch_size
    if answer.price is None or law is None or size is None or math.isnan(per_step := seconds_per_step(answer, size)):
        return None
    taken = float(law.steps(size)) * per_step
    return _(
        "{goal}: batch size {size} takes {seconds}, which is {money:.3g} in money, at {price:g} an hour.",
        goal=goal_text(answer), size=two_digits(size), seconds=seconds(taken), price=answer.price,
        money=taken / SECONDS_AN_HOUR * answer.price,
    )  # fmt: skip


def check_sentence(answer: Answer) -> str | None:
    """Say what a batch size needs that is in no fit, beside what was expected; None if none was run."""
    check = answer.check
    if check is None:
        return None
    run = _("{goal}: batch size {size}, which is in no fit,", goal=goal_text(answer), size=check.batch_size)
    expected = rounded(check.expected)
    if check.median is None or check.low is None:
        return _("{run} did not reach the goal; {expected} steps were expected.", run=run, expected=expected)
    takes = _(
        "{run} takes {median} steps [{low}, {high}]{seconds}; expected: {expected}.",
        run=run, median=rounded(check.median), low=rounded(check.low),
        high=rounded(math.inf if check.high is None else check.high),
        seconds=_in_seconds(answer, check.batch_size, check.median), expected=expected,
    )  # fmt: skip
    beside = [
        _("{steps} at {size}{seconds}", size=size, steps=rounded(steps), seconds=_in_seconds(answer, int(size), steps))
        for size, steps in check.neighbours.items()
    ]  # fmt: skip
    return takes + (" " + _("Its neighbours: {beside}.", beside="; ".join(beside)) if beside else "")


def _in_seconds(answer: Answer, batch_size: float, steps: float) -> str:
    per_step = seconds_per_step(answer, batch_size)
    return "" if math.isnan(per_step) else f", {seconds(steps * per_step)}"


def moves_sentence(answers: Sequence[Answer]) -> str | None:
    """Say how the critical batch size moves from goal to goal; None if it is known for fewer than two."""
    known = sorted((answer for answer in answers if answer.law), key=lambda answer: answer.e_min or 0.0)
    if len(known) < 2:
        return None
    steps = (f"{two_digits(answer.b_crit or 0.0)} ({goal_text(answer)})" for answer in known)
    return _("It holds for its goal alone: the critical batch size is {sizes}.", sizes=_(", then ").join(steps))


def branch_sentence(branches: Branches) -> str:
    """Say up to which batch size a run can be branched without losing anything."""
    upto = _(
        "up to batch size {size:,}, the largest that was tried," if branches.is_open else "up to batch size {size:,}",
        size=branches.limit,
    )
    return _(
        "Branched from the run at batch size {size:,}, with the square-root rule, {upto} what the loss exceeds its "
        "floor by after {examples:,} more examples is at most {tolerance:.0%} above that of the same batch size "
        "(medians of {orders} orders).",
        size=branches.batch_sizes[0], upto=upto, examples=branches.examples, tolerance=branches.tolerance,
        orders=branches.ratios[0].runs,
    )  # fmt: skip


def details(answers: Sequence[Answer], branches: Branches | None = None) -> list[str]:
    """Return what the headline follows from, goal by goal: the answer, what is rejected, costs, checks, branches."""
    kinds = (
        answer_sentence, law_sentence, soonest_sentence, elsewhere_sentence, price_sentence, check_sentence,
    )  # fmt: skip
    lines = [moves_sentence(answers), *(kind(answer) for answer in answers for kind in kinds)]
    return [line for line in [*lines, branch_sentence(branches) if branches else None] if line]


def _with_interval(answer: Answer, name: str, ends: str = "") -> str:
    if (value := getattr(answer, name)) is None:
        return ""
    if not (interval := _numbers(answer, f"{ends or name}_low", f"{ends or name}_high")):
        return f"{two_digits(value)} {_('(no interval: fewer than 3 seeds)')}"
    return f"{two_digits(value)} [{rounded(interval[0])}, {rounded(interval[1])}]"
