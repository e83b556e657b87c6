"""The sentences of the critical batch size: what a study answers, and what a run says of that answer."""

from collections.abc import Sequence

from digits_sweep.config.text import to_text
from digits_sweep.report.analysis.curves.branches import Branches
from digits_sweep.report.analysis.sentences.formatting import microseconds, seconds
from digits_sweep.report.language import said
from digits_sweep.results.critical import Answer, Check


def goal_of(answer: Answer) -> str:
    """Return the goal of an answer: `train error < 0.1`."""
    return f"{said(answer.target.replace('_', ' '))} < {to_text(float(answer.threshold))}"


def answer_sentence(answer: Answer) -> str:
    """Say which batch size pays, and which is soonest; or why the runs cannot tell."""
    if answer.b_crit is None or answer.b_crit_low is None or answer.b_crit_high is None:
        return said(
            "{goal}: the critical batch size cannot be told ({reason}).",
            goal=goal_of(answer), reason=said(answer.reason or ""),
        )  # fmt: skip
    interval = f"[{_three(answer.b_crit_low)}, {_three(answer.b_crit_high)}]"
    pays = said(
        "{goal}: well below batch size {size} {interval} twice the batch needs about half the steps, well above it "
        "hardly fewer",
        goal=goal_of(answer), size=_two(answer.b_crit), interval=interval,
    )  # fmt: skip
    return f"{pays}; {_soonest(answer)}" if answer.seconds_per_iteration is not None else f"{pays}."


def _soonest(answer: Answer) -> str:
    iteration, example = answer.seconds_per_iteration or 0.0, answer.seconds_per_example or 0.0
    machine = said("on a machine with these costs") if answer.cost_is_given else said("on this machine")
    cost = said(
        "{machine} ({iteration} an iteration, {example} an example)",
        machine=machine, iteration=_cost(iteration), example=_cost(example),
    )  # fmt: skip
    if not iteration:
        return said("{cost} an iteration costs nothing, and the smallest batch size is soonest.", cost=cost)
    if not example:
        return said("{cost} an example costs nothing, and the largest batch size is soonest.", cost=cost)
    return said(
        "{cost} about {size} is soonest, at {more:.0%} more examples than the fewest possible.",
        cost=cost, size=_two(answer.soonest_batch_size or 0.0), more=answer.examples_more or 0.0,
    )  # fmt: skip


def check_sentence(answer: Answer) -> str | None:
    """Say what the batch size that is called soonest needs, beside what was expected; None if it was not run."""
    check = answer.check
    if check is None:
        return None
    found = said("{goal}: run at batch size {size}", goal=goal_of(answer), size=check.batch_size)
    expected = _steps(check.expected)
    if check.median is None or check.low is None:
        return said(
            "{found}, the goal was not reached; {expected} steps were expected.", found=found, expected=expected
        )
    return said(
        "{found}, it takes {median} steps [{low}, {high}] on {seeds} fresh seeds{seconds}; expected: {expected}.",
        found=found, median=_steps(check.median), low=_steps(check.low),
        high=said("not reached") if check.high is None else _steps(check.high),
        seeds=check.seeds, seconds=_in_seconds(answer, check), expected=expected,
    )  # fmt: skip


def branch_sentence(found: Branches) -> str:
    """Say up to which batch size a run can be branched without losing anything."""
    upto = said(
        "up to batch size {size:,}, the largest that was tried," if found.is_open else "up to batch size {size:,}",
        size=found.limit,
    )
    return said(
        "Branched from the run at batch size {size:,}, with the square-root rule, {upto} the loss after {examples:,} "
        "more examples is at most {tolerance:.0%} above that of the same batch size (medians of {orders} orders).",
        size=found.batch_sizes[0], upto=upto, examples=found.examples, tolerance=found.tolerance,
        orders=found.ratios[0].runs,
    )  # fmt: skip


def _in_seconds(answer: Answer, check: Check) -> str:
    if answer.seconds_per_iteration is None or answer.seconds_per_example is None or check.median is None:
        return ""
    per_step = answer.seconds_per_iteration + check.batch_size * answer.seconds_per_example
    return said(", {seconds} of training", seconds=seconds(check.median * per_step))


def sentences(answers: Sequence[Answer]) -> list[str]:
    """Return every sentence of a study, goal by goal."""
    return [line for each in answers for line in (answer_sentence(each), check_sentence(each)) if line]


def _cost(value: float) -> str:
    return microseconds(value) if value < 1e-3 else f"{value * 1e3:.3g} ms" if value < 1 else seconds(value)


def _two(value: float) -> str:
    return f"{float(f'{value:.2g}'):,.0f}" if value >= 10 else f"{value:.2g}"


def _three(value: float) -> str:
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


def _steps(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
