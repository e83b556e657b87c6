"""The critical batch size: its files, what it answers in words, its table and its figures."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from digits_sweep.config.text import to_text
from digits_sweep.errors import UnreadableRecord
from digits_sweep.report.figures import line_figure
from digits_sweep.report.layout import layout_of
from digits_sweep.report.statistics import Estimate, estimate, trained
from digits_sweep.report.study import Study
from digits_sweep.report.tables import Cell, Table
from digits_sweep.report.vega import (
    INK,
    SERIES,
    Figure,
    Spec,
    amount,
    color,
    layer,
    open_if_missed,
    size_axis,
    spec_of,
)
from digits_sweep.report.words import (
    _,
    capitalized,
    localized,
    noun_of,
    rounded,
    seconds,
    setting,
    short_seconds,
    two_digits,
)
from digits_sweep.results.cost import seconds_of_step
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
)

POINTS = 60
# A miss is drawn so many times above the largest number there is.
ABOVE = 1.5
HEADING = "Which batch size pays, and which is soonest?"
HOW_COUNTED = (
    "Steps are medians over fresh seeds at the rate with the least median while tuning, with their 95 % interval from "
    "order statistics (the whole range at 6 to 8 seeds). Seconds are steps at what a step costs here. A run that "
    "misses the goal counts as infinity, one that failed not at all. The curve is S^a = S_min^a + (E_min / B)^a, the "
    "critical batch size E_min / S_min (a = 1: McCandlish et al. 2018). Its 95 % interval comes from drawing the seeds "
    "anew, from what they leave open of the exponent, and from leaving out batch sizes."
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
    if answer.seconds_per_iteration is None or answer.seconds_per_example is None:
        return math.nan
    return answer.seconds_per_iteration + batch_size * answer.seconds_per_example


# --- Sentences.


def goal_of(answer: Answer) -> str:
    """Return the goal of an answer: `train error < 0.1`."""
    return f"{_(answer.target.replace('_', ' '))} < {localized(to_text(float(answer.threshold)))}"


def headline(answers: Sequence[Answer]) -> str:
    """Say which batch size to use, in one or two sentences: for the goal that takes the most examples."""
    if not (known := [answer for answer in answers if answer.law]):
        return _("Which batch size to use cannot be told: see the reasons below.")
    answer = max(known, key=lambda answer: answer.e_min or 0.0)
    size, goal = two_digits(answer.b_crit or 0.0), goal_of(answer)
    soonest, low, high = answer.soonest_batch_size, answer.within_low, answer.within_high
    if soonest is None or low is None or high is None:
        return _(
            "Up to about {size} a larger batch saves steps, beyond that hardly any (for {goal}).", size=size, goal=goal
        )
    use = _(
        "Use about {use} ({low} to {high} cost at most 10 % more time at these costs, for {goal})."
        if answer.cost_is_given
        else "Use about {use} ({low} to {high} cost at most 10 % more time here, for {goal}).",
        use=_one(soonest, low, high), low=two_digits(low), high=two_digits(high), goal=goal,
    )  # fmt: skip
    if high >= (answer.b_crit or 0.0):
        return use + " " + _("Larger hardly saves steps.")
    return use + " " + _("Larger pays only with parallel hardware, up to about {size}.", size=size)


def answer_sentence(answer: Answer) -> str:
    """Say which batch size is the critical one for a goal, by both usual definitions; or why the runs cannot tell."""
    goal = goal_of(answer)
    missing = ""
    if answer.missing_seeds:
        missing = " " + _("Fresh seeds that failed and count nowhere: {seeds}.", seeds=answer.missing_seeds)
    if answer.b_crit is None:
        reason = _(
            "{goal}: the critical batch size cannot be told ({reason}).", goal=goal, reason=_(answer.reason or "")
        )
        return f"{reason}{_guess(answer)}{missing}"
    size = f"{two_digits(answer.b_crit)} {_interval(answer.b_crit_low, answer.b_crit_high)}"
    if answer.b_20 is None:
        return _("{goal}: the critical batch size is {size}.", goal=goal, size=size) + missing
    other = f"{two_digits(answer.b_20)} {_interval(answer.b_20_low, answer.b_20_high)}"
    both = _(
        "{goal}: the critical batch size is {size}; {other} costs 20 % more examples than the fewest.",
        goal=goal, size=size, other=other,
    )  # fmt: skip
    return both + missing


def _guess(answer: Answer) -> str:
    if answer.noise_scale_at_target is None or answer.noise_scale_low is None or answer.noise_scale_high is None:
        return ""
    return " " + _(
        "A rough guess is the gradient noise scale on the way there: {size} ({low} to {high}).",
        size=two_digits(answer.noise_scale_at_target), low=two_digits(answer.noise_scale_low),
        high=two_digits(answer.noise_scale_high),
    )  # fmt: skip


def _interval(low: float | None, high: float | None) -> str:
    return _("(no interval: fewer than 3 seeds)") if low is None or high is None else f"[{_three(low)}, {_three(high)}]"


def law_sentence(answer: Answer) -> str | None:
    """Say what the steps reject: the law of McCandlish et al., or any law of this form; None if nothing."""
    lines, goal = [], goal_of(answer)
    low, high = answer.exponent_low, answer.exponent_high
    if low is not None and high is not None and not low <= 1 <= high:
        exponent = f"{answer.exponent:.2g} [{low:.2g}, {high:.2g}]"
        lines.append(_(
            "{goal}: the law S = S_min + E_min / B is rejected; the exponent is {exponent} in place of 1.",
            goal=goal, exponent=localized(exponent),
        ))  # fmt: skip
    if answer.p_value is not None and answer.p_value < REJECTED and answer.residuals:
        size, residual = max(answer.residuals.items(), key=lambda pair: abs(pair[1]))
        lines.append(_(
            "{goal}: no law of this form fits (p = {p}); batch size {size} takes {ratio} times the steps of the curve.",
            goal=goal, p=localized(f"{answer.p_value:.1g}"), size=size, ratio=localized(f"{math.exp(residual):.2f}"),
        ))  # fmt: skip
    return " ".join(lines) or None


def soonest_sentence(answer: Answer) -> str | None:
    """Say which batch size is soonest, at which costs; None if that is not known."""
    size = answer.soonest_batch_size
    if size is not None and answer.seconds_per_step:
        small, *_others, large = sorted(answer.seconds_per_step)
        return _(
            "{goal}: soonest is about {size} {interval}, at {least} a step of {small} up to {most} a step of {large} "
            "on {machine}; it needs {more:.0%} more examples than the fewest.",
            goal=goal_of(answer), size=two_digits(size), interval=_interval(answer.soonest_low, answer.soonest_high),
            least=_cost(answer.seconds_per_step[small]), small=small, most=_cost(answer.seconds_per_step[large]),
            large=localized(f"{large:,}"), machine=answer.machine or "", more=answer.examples_more or 0.0,
        )  # fmt: skip
    if size is None or answer.seconds_per_iteration is None or answer.seconds_per_example is None:
        return None
    return _(
        "{goal}: soonest is about {size} {interval}, at {iteration} an iteration and {example} an example; it needs "
        "{more:.0%} more examples than the fewest.",
        goal=goal_of(answer), size=two_digits(size), interval=_interval(answer.soonest_low, answer.soonest_high),
        iteration=_cost(answer.seconds_per_iteration), example=_cost(answer.seconds_per_example),
        more=answer.examples_more or 0.0,
    )  # fmt: skip


def elsewhere_sentence(answer: Answer) -> str | None:
    """Say whether the answer is another one on the machine that ran the study; None if its costs are not known."""
    here, low, high = answer.soonest_here, answer.within_low_here, answer.within_high_here
    there, from_, to = answer.soonest_batch_size, answer.within_low, answer.within_high
    if here is None or low is None or high is None or there is None or from_ is None or to is None:
        return None
    if max(low, from_) <= min(high, to):
        return _(
            "{goal}: {low} to {high} cost at most 10 % more time both at these costs and here.",
            goal=goal_of(answer), low=two_digits(max(low, from_)), high=two_digits(min(high, to)),
        )  # fmt: skip
    return _(
        "{goal}: the answer flips: about {there} ({from_} to {to}) is soonest at these costs, about {here} ({low} to "
        "{high}) here.",
        goal=goal_of(answer), there=two_digits(there), from_=two_digits(from_), to=two_digits(to),
        here=two_digits(here), low=two_digits(low), high=two_digits(high),
    )  # fmt: skip


def price_sentence(answer: Answer) -> str | None:
    """Say what reaching the goal takes at the soonest batch size, in seconds and money; None if there is no price."""
    law, size = answer.law, answer.soonest_batch_size
    if answer.price is None or law is None or size is None or math.isnan(per_step := seconds_per_step(answer, size)):
        return None
    taken = float(law.steps(size)) * per_step
    return _(
        "{goal}: batch size {size} takes {seconds}, which is {money} in money, at {price} an hour.",
        goal=goal_of(answer), size=two_digits(size), seconds=seconds(taken), price=localized(f"{answer.price:g}"),
        money=localized(f"{taken / SECONDS_AN_HOUR * answer.price:.3g}"),
    )  # fmt: skip


def check_sentence(answer: Answer) -> str | None:
    """Say what a batch size needs that is in no fit, beside what was expected; None if none was run."""
    check = answer.check
    if check is None:
        return None
    run = _("{goal}: batch size {size}, which is in no fit,", goal=goal_of(answer), size=check.batch_size)
    expected = _steps(check.expected)
    if check.median is None or check.low is None:
        return _("{run} did not reach the goal; {expected} steps were expected.", run=run, expected=expected)
    takes = _(
        "{run} takes {median} steps [{low}, {high}]{seconds}; expected: {expected}.",
        run=run, median=_steps(check.median), low=_steps(check.low),
        high=_("not reached") if check.high is None else _steps(check.high),
        seconds=_in_seconds(answer, check.batch_size, check.median), expected=expected,
    )  # fmt: skip
    beside = [
        _("{steps} at {size}{seconds}", size=size, steps=_steps(steps), seconds=_in_seconds(answer, int(size), steps))
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
    steps = (f"{two_digits(answer.b_crit or 0.0)} ({goal_of(answer)})" for answer in known)
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


def sentences(answers: Sequence[Answer]) -> list[str]:
    """Return every sentence of a study: which batch size to use, then what that follows from."""
    return [headline(answers), *details(answers)]


def details(answers: Sequence[Answer], branches: Branches | None = None) -> list[str]:
    """Return what the headline follows from, goal by goal: the answer, what is rejected, costs, checks, branches."""
    kinds = (
        answer_sentence, law_sentence, soonest_sentence, elsewhere_sentence, price_sentence, check_sentence,
    )  # fmt: skip
    lines = [moves_sentence(answers), *(kind(answer) for answer in answers for kind in kinds)]
    return [line for line in [*lines, branch_sentence(branches) if branches else None] if line]


def _cost(value: float) -> str:
    return seconds(value) if value >= 1 else short_seconds(value)


def _one(value: float, low: float, high: float) -> str:
    """Write a number with one digit if that lies between `low` and `high`, else with two."""
    rounded_ = float(f"{value:.1g}")
    return two_digits(rounded_ if low <= rounded_ <= high else value)


def _three(value: float) -> str:
    return localized(f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}")


def _steps(value: float) -> str:
    return localized(f"{value:,.0f}" if value >= 100 else f"{value:.3g}")


# --- The table.


def critical_table(study: Critical) -> Table:
    """Make a row for every goal and batch size."""
    header = [
        _("goal"),
        _("batch size"),
        _("learning rate"),
        _("steps"),
        _("over the curve"),
        _("while tuning"),
        _("examples"),
        _("seconds"),
    ]
    names = ["goal", "batch_size", "lr", "steps", "over_the_curve", "steps_while_tuning", "examples", "seconds"]
    rows = [_row(answer, row) for answer in study.answers for row in study.steps_to(answer).to_dict("records")]
    return Table(header, rows, names, [str(row[0].text) for row in rows])


def _row(answer: Answer, row: dict[Any, Any]) -> list[Cell]:
    size, median, low, high = int(row["batch_size"]), *(float(row[name]) for name in ("median", "low", "high"))
    real_size, tuned = float(row["real_batch_size"]), float(row["tuned_median"])
    per_step, residual = seconds_per_step(answer, real_size), (answer.residuals or {}).get(str(size))
    ends = _("{low} to {high}, {seeds} seeds", low=rounded(low), high=rounded(high), seeds=row["seeds"])
    goal = goal_of(answer)
    return [
        Cell(goal, value=f"{answer.target} < {answer.threshold}"),
        Cell(localized(f"{size:,}"), value=size),
        Cell(setting("lr", row["lr"]), value=_finite(row["lr"])),
        Cell(rounded(median), ends if math.isfinite(median) else "", *map(_finite, (median, low, high))),
        Cell(
            "-" if residual is None else localized(f"{math.exp(residual):.2f}"), value=residual and math.exp(residual)
        ),
        Cell(rounded(tuned), value=_finite(tuned)),
        Cell(rounded(median * real_size), value=_finite(median * real_size)),
        Cell("-" if math.isnan(per_step) else seconds(median * per_step), value=_finite(median * per_step)),
    ]


def answer_table(answers: Sequence[Answer]) -> Table:
    """Make a row for every goal: both critical batch sizes, the law, the soonest batch sizes and the noise scale."""
    columns = {
        "b_crit": (_("critical batch size"), "b_crit", "b_crit_low", "b_crit_high"),
        "b_20": (_("at 20 % more examples"), "b_20", "b_20_low", "b_20_high"),
        "exponent": (_("exponent"), "exponent", "exponent_low", "exponent_high"),
        "soonest": (_("soonest"), "soonest_batch_size", "soonest_low", "soonest_high"),
        "within": (_("within 10 % of it"), None, "within_low", "within_high"),
        "noise": (_("noise scale"), "noise_scale_at_target", "noise_scale_low", "noise_scale_high"),
    }
    rows = [
        [
            Cell(goal_of(answer), value=f"{answer.target} < {answer.threshold}"),
            *(_number_cell(*(getattr(answer, name) if name else None for name in names))
              for _title, *names in columns.values()),
        ]
        for answer in answers
    ]  # fmt: skip
    titles = [_("goal"), *(title for title, *_names in columns.values())]
    return Table(titles, rows, ["goal", *columns], [str(row[0].text) for row in rows])


def _number_cell(value: float | None, low: float | None, high: float | None) -> Cell:
    ends = "" if low is None or high is None else _("{low} to {high}", low=two_digits(low), high=two_digits(high))
    if value is None:
        return Cell(ends or "-")
    return Cell(two_digits(value), ends, value, low, high)


def _finite(value: Any) -> float | None:
    return None if pd.isna(value) or math.isinf(value) else float(value)


# --- Figures.


def critical_figures(study: Study, critical: Critical) -> list[Figure]:
    """Return every figure of a critical batch size that was found by the runs of `study`."""
    things = capitalized(noun_of(study.runs))
    kinds = [
        ("steps", _("Steps to the goal"), _("steps"),
         _("Along a dotted line twice the batch size needs half the steps.")),
        ("examples", _("{things} to the goal", things=things), _("examples"),
         _("Left of the bend they hardly grow with the batch size, right of it in proportion.")),
        ("seconds", _("Seconds to the goal"), _("seconds of training"),
         _("Steps at the measured cost of a step. Dash-dotted: the batch size that the fit expects to be soonest, in a "
           "band where the time is at most 10 % more; diamond: one near it, in no fit, run as a check.")),
    ]  # fmt: skip
    if all(math.isnan(seconds_per_step(answer, 1.0)) for answer in critical.answers):
        kinds.pop()
    # Open marks alone would say nothing.
    reached = np.isfinite(critical.steps["median"].astype(float)).any()
    return [
        *(against_batch_size(critical, *kind) for kind in kinds if reached),
        *rate_figure(critical),
        *response_figures(critical),
        *branch_figure(critical),
        *noise_figure(study, critical),
    ]


def _goal_color(critical: Critical) -> Spec:
    goals = [goal_of(answer) for answer in critical.answers]
    scale = {"domain": goals, "range": [SERIES[number % len(SERIES)] for number in range(len(goals))]}
    keys = {"title": None, "symbolType": "circle"} if len(goals) > 1 else None
    return {"field": "goal", "type": "nominal", "scale": scale, "legend": keys}


def _sizes(critical: Critical) -> list[int]:
    return sorted({int(size) for table in (critical.steps, critical.tuning) for size in table["batch_size"]})


def against_batch_size(critical: Critical, unit: str, title: str, label: str, caption: str) -> Figure:
    """Draw what every goal needs at every batch size: medians, the fit and B_crit, with their intervals."""
    rows: list[Spec] = []
    for answer in critical.answers:
        own = [{"goal": goal_of(answer), **row} for row in _amounts(critical, answer, unit)]
        rows += own
    table = pd.DataFrame(rows).reindex(
        columns=["goal", "kind", "place", "value", "low", "high", "missed", "batch_size"]
    )
    x, y = (
        size_axis(_sizes(critical)),
        amount("value", label, table["value"], kind="log", form="~s" if unit != "seconds" else ",.3~r"),
    )
    shade = _goal_color(critical)
    both = {"x": x, "y": y, "color": shade}
    fill = {**both, "fill": shade, "fillOpacity": open_if_missed()}
    layers = [
        layer("point", "median", fill, size=60, strokeWidth=1.5),
        layer(
            "rule", "median", {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": shade}, size=1.5
        ),
        layer("line", "fit", both, strokeWidth=1.2),
        layer("line", "perfect", both, strokeDash=[2, 3], strokeWidth=1.2),
        layer("rect", "b_crit", {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "fill": shade}, opacity=0.13),
        layer("rule", "b_crit", {"x": x, "color": shade}, strokeDash=[6, 3]),
        layer("rect", "soonest", {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "fill": shade}, opacity=0.08),
        layer("rule", "soonest", {"x": x, "color": shade}, strokeDash=[8, 3, 2, 3]),
        layer("point", "check", {**both, "shape": {"value": "diamond"}}, size=130, filled=False, strokeWidth=1.5),
    ]
    present = set(table["kind"])
    layers = [each for each in layers if any(f"'{kind}'" in str(each["transform"]) for kind in present)]
    signs = _(
        "Bars: the interval of the median; open: not reached. Dashed, with its interval: the critical batch size."
    )
    text = f"{title}: {' '.join(map(answer_sentence, critical.answers))}"
    spec = spec_of(layers, None, 250, x="place", y="value", log=["x", "y"], kinds=["median", "check"])
    return Figure(f"critical-{unit}", title, f"{caption} {signs}", text, table, spec)


def _amounts(critical: Critical, answer: Answer, unit: str) -> Iterator[Spec]:
    """Yield the rows of one goal: its medians, its fit and what is marked on the axis of batch sizes."""
    steps = critical.steps_to(answer)

    def per_step(size: float) -> float:
        return {"steps": 1.0, "examples": size, "seconds": seconds_per_step(answer, size)}[unit]

    sizes = steps["real_batch_size"].astype(float).tolist()
    medians = steps["median"].astype(float)
    highest = ABOVE * max((value * per_step(size) for size, value in zip(sizes, medians, strict=True)
                           if math.isfinite(value)), default=math.nan)  # fmt: skip
    for size, row in zip(sizes, steps.to_dict("records"), strict=True):
        median, low, high = (float(row[name]) * per_step(size) for name in ("median", "low", "high"))
        missed = not math.isfinite(median)
        ends = {"low": low, "high": high if math.isfinite(high) else ABOVE * median} if not missed else {}
        value = highest if missed else median
        yield {
            "kind": "median",
            "place": size,
            "batch_size": int(row["batch_size"]),
            "value": value,
            "missed": missed,
            **ends,
        }
    if (law := answer.law) is not None and sizes:
        for size in np.geomspace(min(sizes), max(sizes), POINTS):
            yield {"kind": "fit", "place": size, "value": law.steps(size) * per_step(size)}
    reached = [(size, value) for size, value in zip(sizes, medians, strict=True) if math.isfinite(value)]
    if unit == "steps" and len(reached) > 1:
        start = reached[0][0] * reached[0][1]
        for size in (reached[0][0], reached[-1][0]):
            yield {"kind": "perfect", "place": size, "value": start / size}
    if answer.b_crit is not None and unit != "seconds":
        yield {"kind": "b_crit", "place": answer.b_crit, "low": answer.b_crit_low, "high": answer.b_crit_high}
    if unit == "seconds" and answer.soonest_batch_size:
        yield {"kind": "soonest", "place": answer.soonest_batch_size,
               "low": answer.within_low, "high": answer.within_high}  # fmt: skip
    if unit == "seconds" and answer.check and answer.check.median is not None:
        size = answer.check.batch_size
        yield {"kind": "check", "place": size, "value": answer.check.median * per_step(size)}


def rate_figure(critical: Critical) -> Iterator[Figure]:
    """Yield the best learning rate at every batch size, and the lines of the square-root and the linear rule."""
    rows: list[Spec] = []
    for answer in critical.answers:
        rated = critical.steps_to(answer).dropna(subset=["lr"])
        pairs = list(zip(rated["batch_size"].astype(float), rated["lr"].astype(float), strict=True))
        rows += [{"goal": goal_of(answer), "kind": "best", "place": size, "lr": lr} for size, lr in pairs]
        if len(pairs) > 1:
            # The rules agree with the best rate at the batch size in the middle.
            middle, rate = pairs[(len(pairs) - 1) // 2]
            for kind, power in (("root", 0.5), ("linear", 1.0)):
                lines = [(size, rate * (size / middle) ** power) for size, lr in (pairs[0], pairs[-1])]
                rows += [{"goal": goal_of(answer), "kind": kind, "place": size, "lr": lr} for size, lr in lines]
    if not rows:
        return
    table = pd.DataFrame(rows, columns=["goal", "kind", "place", "lr"])
    x, y = size_axis(_sizes(critical)), amount("lr", _("learning rate"), kind="log", form=".0e")
    both = {"x": x, "y": y, "color": _goal_color(critical)}
    layers = [
        layer("point", "best", both, size=60, filled=True),
        layer("line", "root", both, strokeDash=[6, 3], strokeWidth=1.2),
        layer("line", "linear", both, strokeDash=[2, 3], strokeWidth=1.2),
    ]
    best = "; ".join(
        _("{value} at {size}", value=setting("lr", row["lr"]), size=row["batch_size"])
        for answer in critical.answers
        for row in critical.steps_to(answer).to_dict("records")
    )
    text = _("Best learning rate against batch size: {best}.", best=best)
    spec = spec_of(layers, None, x="place", y="lr", log=["x", "y"], kinds=["best"])
    caption = _("Dashed: the square-root rule; dotted: the linear rule.")
    yield Figure("critical-rates", _("Best learning rate"), caption, text, table, spec)


def response_figures(critical: Critical) -> Iterator[Figure]:
    """Yield the steps to each goal against the learning rate: a mark a run, a line through medians; open: missed."""
    for number, answer in enumerate(critical.answers):
        tuning = critical.tuning_of(answer)
        if not tuning["reached"].any():
            continue
        steps, lr = tuning["iterations"].astype(float), tuning["lr"].astype(float)
        runs = pd.DataFrame({"batch_size": tuning["batch_size"].astype(int), "lr": lr, "missed": steps.isna(),
                             "steps": steps.fillna(ABOVE * steps.max()), "kind": "run"})  # fmt: skip
        medians = steps.fillna(math.inf).groupby([runs["batch_size"], lr]).median().reset_index(name="steps")
        medians = medians[np.isfinite(medians["steps"])].assign(kind="median", missed=False)
        table = pd.concat([runs, medians])
        x = amount("lr", _("learning rate"), kind="log", form=".0e", grid=False)
        y, shade = amount("steps", _("steps"), table["steps"], "~s"), color(_sizes(critical), legend=True)
        layers = [
            layer("line", "median", {"x": x, "y": y, "color": shade}, strokeWidth=1.5),
            layer("point", "run", {"x": x, "y": y, "color": shade, "fill": shade, "fillOpacity": open_if_missed()},
                  size=25, opacity=0.8),
        ]  # fmt: skip
        title = _("Steps by learning rate, {goal}", goal=goal_of(answer))
        text = _("{title}, by batch size; the best are in the table.", title=title)
        caption = _(
            "A mark a tuning seed, a line through the medians. Open marks, at the top: given up or not reached."
        )
        spec = spec_of(layers, None, x="lr", y="steps", log=["x", "y"], kinds=["run", "median"])
        yield Figure(f"critical-response-{number}", title, caption, text, table, spec)


def branch_figure(critical: Critical) -> Iterator[Figure]:
    """Yield the loss of branches over that of the branch at the run's own batch size, with B_crit of every goal."""
    branches = critical.branches
    if branches is None:
        return
    rows: list[Spec] = [
        {"kind": "ratio", "place": size, "ratio": each.median, "low": each.low, "high": each.high}
        for size, each in zip(branches.batch_sizes, branches.ratios, strict=True)
    ]
    rows += [
        {"kind": "b_crit", "place": answer.b_crit, "goal": goal_of(answer)}
        for answer in critical.answers
        if answer.b_crit is not None
    ]
    x = size_axis(branches.batch_sizes)
    y = amount("ratio", _("loss above its floor, times that of the same batch size"))
    layers = [
        layer("line", "ratio", {"x": x, "y": y}, color=INK, point={"color": INK}),
        layer("rule", "ratio", {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}}),
        layer("rule", "b_crit", {"x": x, "color": _goal_color(critical)}, strokeDash=[6, 3]),
        {"data": {"values": [{"ratio": 1 + branches.tolerance}]}, "mark": {"type": "rule", "strokeDash": [2, 3]},
         "encoding": {"y": y}},
    ]  # fmt: skip
    caption = _(
        "What the loss exceeds its floor by at a multiple of the batch size, with the square-root rule, over that at "
        "the same batch size: medians with their intervals; dotted: the tolerance; dashed: the critical batch size."
    )
    table = pd.DataFrame(rows, columns=["kind", "place", "ratio", "low", "high", "goal"])
    spec = spec_of(layers, None, x="place", y="ratio", log=["x"], kinds=["ratio"])
    yield Figure("critical-branches", _("Branches of one run"), caption, branch_sentence(branches), table, spec)


def noise_figure(study: Study, critical: Critical) -> Iterator[Figure]:
    """Yield the gradient noise scale along runs, a color a batch size, and the critical batch size of every goal."""
    runs = trained(study.runs)
    rows = study.evaluations[study.evaluations["run_dir"].isin(runs["run_dir"])]
    measured = rows[np.isfinite(rows["noise_scale"]) & (rows["noise_scale"] > 0) & (rows["examples"] > 0)]
    if measured.empty:
        return
    noun, layout = noun_of(study.runs), layout_of(study)
    columns = ["run", "configuration", "kind", "examples", "noise_scale"]
    table = layout.join(measured.rename(columns={"run_dir": "run"}).assign(kind="seed")[columns])
    levels = [(answer.b_crit, f"B_crit, {goal_of(answer)}") for answer in critical.answers if answer.b_crit is not None]
    caption = _(
        "tr(Sigma) / |G|^2 (McCandlish et al. 2018) along the first fresh seed of each best rate, beside the critical "
        "batch size as measured."
    )
    title = _("Gradient noise scale along a run")
    text = _("{title}, beside the critical batch size.", title=title)
    x = amount("examples", _("{noun} trained on", noun=noun), kind="log", form="~s", grid=False)
    figure = line_figure("critical-noise", title, caption, text, table, layout, x,
                         amount("noise_scale", _("gradient noise scale"), kind="log", form="~s"), levels)  # fmt: skip
    yield figure
