"""The sentences of the critical batch size: what a study answers, and what a run says of that answer."""

from collections.abc import Sequence

from digits_sweep.config.keys import written
from digits_sweep.report.analysis.curves.branches import Branches
from digits_sweep.report.analysis.sentences.formatting import microseconds, seconds
from digits_sweep.results.critical import Answer, Check


def goal_of(answer: Answer) -> str:
    """Return the goal of an answer: `train error < 0.1`."""
    return f"{answer.target.replace('_', ' ')} < {written(float(answer.threshold))}"


def answer_sentence(answer: Answer) -> str:
    """Say which batch size pays, and which is soonest; or why the runs cannot tell."""
    if answer.b_crit is None or answer.b_crit_low is None or answer.b_crit_high is None:
        return f"{goal_of(answer)}: the critical batch size cannot be told ({answer.reason})."
    interval = f"[{_three(answer.b_crit_low)}, {_three(answer.b_crit_high)}]"
    pays = (
        f"{goal_of(answer)}: well below batch size {_two(answer.b_crit)} {interval} twice the batch needs about half "
        "the steps, well above it hardly fewer"
    )
    return f"{pays}; {_soonest(answer)}" if answer.seconds_per_iteration is not None else f"{pays}."


def _soonest(answer: Answer) -> str:
    iteration, example = answer.seconds_per_iteration or 0.0, answer.seconds_per_example or 0.0
    machine = "a machine with these costs" if answer.cost_is_given else "this machine"
    cost = f"{_cost(iteration)} an iteration, {_cost(example)} an example"
    if not iteration:
        return f"on {machine} ({cost}) an iteration costs nothing, and the smallest batch size is soonest."
    if not example:
        return f"on {machine} ({cost}) an example costs nothing, and the largest batch size is soonest."
    size, more = answer.soonest_batch_size or 0.0, answer.examples_more or 0.0
    return f"on {machine} ({cost}) about {_two(size)} is soonest, at {more:.0%} more examples than the fewest possible."


def check_sentence(answer: Answer) -> str | None:
    """Say what the batch size that is called soonest needs, beside what was expected; None if it was not run."""
    check = answer.check
    if check is None:
        return None
    found = f"{goal_of(answer)}: run at batch size {check.batch_size}"
    if check.median is None or check.low is None:
        return f"{found}, the goal was not reached; {_steps(check.expected)} steps were expected."
    high = "not reached" if check.high is None else _steps(check.high)
    steps = f"{_steps(check.median)} steps [{_steps(check.low)}, {high}] on {check.seeds} fresh seeds"
    return f"{found}, it takes {steps}{_in_seconds(answer, check)}; expected: {_steps(check.expected)}."


def branch_sentence(found: Branches) -> str:
    """Say up to which batch size a run can be branched without losing anything."""
    upto = f"up to batch size {found.limit:,}" + (", the largest that was tried," if found.is_open else "")
    return (
        f"Branched from the run at batch size {found.batch_sizes[0]:,}, with the square-root rule, {upto} the loss "
        f"after {found.examples:,} more examples is at most {found.tolerance:.0%} above that of the same batch size "
        f"(medians of {found.ratios[0].runs} orders)."
    )


def _in_seconds(answer: Answer, check: Check) -> str:
    if answer.seconds_per_iteration is None or answer.seconds_per_example is None or check.median is None:
        return ""
    per_step = answer.seconds_per_iteration + check.batch_size * answer.seconds_per_example
    return f", {seconds(check.median * per_step)} of training"


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
