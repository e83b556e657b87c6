"""What a page shows of a critical batch size: its table, and its figures with captions and text alternatives."""

import math
from collections.abc import Iterator
from functools import partial

import pandas as pd

from digits_sweep.report.analysis.curves.critical import Critical, noise_along_runs, seconds_per_step
from digits_sweep.report.analysis.sentences.critical import answer_sentence, branch_sentence, check_sentence, goal_of
from digits_sweep.report.analysis.sentences.formatting import capitalized, noun_of, rounded, seconds, setting
from digits_sweep.report.analysis.study import Study
from digits_sweep.report.figures import critical as figures
from digits_sweep.report.language import said
from digits_sweep.report.pictures.picture import Picture, picture
from digits_sweep.report.tables.configurations import Cell, Table
from digits_sweep.results.critical import Answer

HEADING = "Which batch size pays, and which is soonest?"
HOW_COUNTED = (
    "Steps are medians over fresh seeds at the rate with the least median while tuning, with their 95 % interval from "
    "order statistics (the whole range at 6 to 8 seeds); the same on every machine. Seconds are steps at what a step "
    "costs here. A run that misses the goal counts as infinity. The curve is S = S_min + E_min / B, the critical batch "
    "size E_min / S_min (McCandlish et al. 2018), its interval from drawing the seeds anew."
)


def table(found: Critical) -> Table:
    """Make a row for every goal and batch size."""
    header = [said("goal and batch size"), said("learning rate"), said("steps"), said("while tuning")]
    header += [said("examples"), said("seconds")]
    rows = [_row(answer, row) for answer in found.answers for _, row in found.steps_to(answer).iterrows()]
    return Table(header, rows)


def checks(found: Critical) -> list[str]:
    """Return a sentence for every batch size that was run because an answer calls it soonest, and for the branches."""
    lines = [line for line in map(check_sentence, found.answers) if line]
    return [*lines, branch_sentence(found.branches)] if found.branches else lines


def _row(answer: Answer, row: pd.Series) -> list[Cell]:
    size, median = int(row["batch_size"]), float(row["median"])
    reached = math.isfinite(median)
    per_step = seconds_per_step(answer, size)
    low, high = (rounded(float(row[name])) for name in ("low", "high"))
    interval = said("{low} to {high}, {seeds} seeds", low=low, high=high, seeds=row["seeds"]) if reached else ""
    return [
        Cell(said("{goal}, batch size {size}", goal=goal_of(answer), size=size)),
        Cell(setting("lr", row["lr"])),
        Cell(rounded(median), interval),
        Cell(rounded(float(row["tuned_median"]))),
        Cell(rounded(median * size)),
        Cell("-" if math.isnan(per_step) else seconds(median * per_step)),
    ]


def pictures(study: Study, found: Critical) -> Iterator[Picture]:
    """Yield every figure of the critical batch size that was found by the runs of `study`."""
    noun = noun_of(study.runs)
    yield picture(
        "critical-steps", said("Steps to the goal"),
        said(
            "Bars: the interval of the median. Along a dotted line twice the batch size needs half the steps. Dashed, "
            "with its interval: the critical batch size. Open marks: not reached."
        ),
        f"{said('Steps against batch size.')} {_medians(found, 1)} {_answers(found)}", partial(figures.steps, found),
    )  # fmt: skip
    yield picture(
        "critical-examples", said("{things} to the goal", things=capitalized(noun)),
        said("At the critical batch size twice as many as the fewest possible are needed."),
        f"{said('{things} against batch size.', things=capitalized(noun))} {_medians(found)}",
        partial(figures.examples, found),
    )  # fmt: skip
    if any(each.seconds_per_iteration is not None for each in found.answers):
        yield picture(
            "critical-seconds", said("Seconds to the goal"),
            said(
                "Steps at the measured cost of a step. Dash-dotted: the batch size that the fit expects to be soonest; "
                "open diamond: a round one near it, run as a check."
            ),
            f"{said('Seconds of training against batch size.')} {_answers(found)} {' '.join(checks(found))}",
            partial(figures.seconds, found),
        )  # fmt: skip
    yield picture(
        "critical-rates", said("Best learning rate"), said("Dashed: the square-root rule; dotted: the linear rule."),
        f"{said('Best learning rate against batch size.')} {_rates(found)}", partial(figures.rates, found),
    )  # fmt: skip
    for number, answer in enumerate(found.answers):
        tuning = found.tuning_of(answer)
        if tuning["reached"].any():
            yield picture(
                f"critical-response-{number}", said("Steps by learning rate, {goal}", goal=goal_of(answer)),
                said(
                    "A mark a tuning seed, a line through the medians. Open marks, at the top: given up or not reached."
                ),
                said(
                    "Steps to {goal} against the learning rate, by batch size. Best: {rates}",
                    goal=goal_of(answer), rates=_rates(found, answer),
                ),
                partial(figures.response, tuning, figures.sizes_of(found)),
            )  # fmt: skip
    if branches := found.branches:
        yield picture(
            "critical-branches", said("Branches of one run"),
            said(
                "The loss at a multiple of the batch size, with the square-root rule, over that at the same batch size:"
                " medians with their intervals; dotted: the tolerance; dashed: the critical batch size."
            ),
            branch_sentence(branches), partial(figures.branches, found, branches),
        )  # fmt: skip
    if noise := noise_along_runs(study.evaluations, study.runs):
        ends = "; ".join(f"{said('batch size {size}', size=size)}: {_ends(runs[0])}" for size, runs in noise.items())
        yield picture(
            "critical-noise", said("Gradient noise scale along a run"),
            said(
                "tr(Sigma) / |G|^2 (McCandlish et al. 2018) along the first fresh seed of each best rate, beside the "
                "critical batch size as measured."
            ),
            f"{said('Gradient noise scale against {noun}', noun=noun)}. {ends}.",
            partial(figures.noise_scale, found, noise, noun),
        )  # fmt: skip


def _ends(rows: pd.DataFrame) -> str:
    first, last = (rounded(float(rows["noise_scale"].iloc[place])) for place in (0, -1))
    return said("from {first} to {last}", first=first, last=last)


def _answers(found: Critical) -> str:
    return " ".join(map(answer_sentence, found.answers))


def _medians(found: Critical, power: int = 2) -> str:
    """Write the median steps (power 1) or examples of every goal and batch size."""
    return " ".join(
        f"{goal_of(answer)}: " + ", ".join(_median(row, power) for _, row in found.steps_to(answer).iterrows()) + "."
        for answer in found.answers
    )


def _median(row: pd.Series, power: int) -> str:
    size = int(row["batch_size"])
    return said("{value} at {size}", value=rounded(float(row["median"]) * size ** (power - 1)), size=size)


def _rates(found: Critical, only: Answer | None = None) -> str:
    return " ".join(
        f"{goal_of(answer)}: "
        + ", ".join(
            said("{value} at {size}", value=setting("lr", row["lr"]), size=row["batch_size"])
            for _, row in found.steps_to(answer).iterrows()
        )
        + "."
        for answer in ([only] if only else found.answers)
    )
