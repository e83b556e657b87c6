"""Which figures a page shows: each with its title, what it says in words, and its drawing."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pandas as pd
from matplotlib.axes import Axes

from digits_sweep.report import figures
from digits_sweep.report.analysis.formatting import counted, number, seconds, share
from digits_sweep.report.analysis.replicates import Middle, Replicates, ended, replicates
from digits_sweep.report.style import as_svg

# A row for every run that missed; of more than these the first are drawn, and the caption says so.
MOST_MISSES = 24


@dataclass(frozen=True)
class Picture:
    """A figure as the page shows it: an inline SVG element whose text alternative is `words`."""

    name: str
    title: str
    caption: str
    svg: str


def gallery(runs: pd.DataFrame, history: pd.DataFrame, answers: pd.DataFrame) -> list[Picture]:
    """Every figure that these tables have something to show for.

    `runs` and `history` as a `Study` has them, `answers` a row a run with the answers per class (`Study.answers`).
    """
    runs = runs[runs["epochs"].fillna(0) > 0]
    if runs.empty:
        return []
    drawn = [*_losses(runs, history), *_against_batch_size(runs)]
    if len(finished := ended(runs)):
        drawn.append(_fraction(finished))
        drawn += _misses(finished, answers)
    return drawn


def _losses(runs: pd.DataFrame, history: pd.DataFrame) -> Iterator[Picture]:
    if history.empty:
        return
    several = runs.groupby("configuration").size().gt(1).any()
    lines = "Thin: every seed; thick: their median, with a band" if several else "With a band"
    final = _each(replicates(runs), lambda group: f"ends at {number(group.final_loss.median, '.4f')}")
    band = f"{lines} of one standard deviation over an epoch's iterations."
    yield _picture(
        "loss-epoch", "Loss against epoch", f"{band} Behind the softmax the loss cannot fall below the floor.",
        f"Mean loss of every epoch. {final}", partial(figures.loss_against_epoch, runs, history),
    )  # fmt: skip
    yield _picture(
        "loss-seconds", "Loss against seconds", "The same losses, against the seconds that their epochs took.",
        f"Mean loss against the seconds trained. {final}", partial(figures.loss_against_seconds, runs, history),
    )  # fmt: skip


def _against_batch_size(runs: pd.DataFrame) -> Iterator[Picture]:
    groups = replicates(runs)
    open_marks = "Open marks: not reached, drawn at the last epoch trained."
    yield _picture(
        "seconds-epoch", "Seconds per epoch", "A mark a run: the median of its epochs without the first.",
        f"Seconds per epoch. {_medians(groups, 'seconds_per_epoch', seconds)}",
        partial(figures.seconds_per_epoch, runs),
    )  # fmt: skip
    if _timed_alike(runs) and (cost := figures.cost_of_iterations_and_examples(runs)):
        iteration, example = (f"{1e6 * part:.3g} \u00b5s" for part in cost)
        yield _picture(
            "cost", "Where an epoch's seconds go",
            f"Fitted: {iteration} for every iteration and {example} for every example.",
            f"Seconds per epoch as {iteration} an iteration plus {example} an example, and as measured.",
            partial(figures.cost_split, runs),
        )  # fmt: skip
    yield _picture(
        "epochs", "Epochs to the threshold", open_marks,
        f"First epoch below the threshold. {_medians(groups, 'epochs_to_threshold', number)}",
        partial(figures.epochs_to_threshold, runs),
    )  # fmt: skip
    yield _picture(
        "iterations", "Iterations to the threshold",
        f"Perfect scaling: twice the batch needs half the iterations (Shallue et al. 2019). {open_marks}",
        f"Iterations to the threshold. {_medians(groups, 'iterations_to_threshold', number)}",
        partial(figures.iterations_to_threshold, runs),
    )  # fmt: skip
    yield _picture(
        "seconds", "Seconds to the threshold", open_marks,
        f"Seconds to the threshold. {_medians(groups, 'seconds_to_threshold', seconds)}",
        partial(figures.seconds_to_threshold, runs),
    )  # fmt: skip


def _timed_alike(runs: pd.DataFrame) -> bool:
    """Whether nothing but the batch size and the rates tells these runs' seconds apart."""
    return all(runs[name].nunique() == 1 for name in ("engine", "device", "model", "hidden_size", "optimizer"))


def _fraction(runs: pd.DataFrame) -> Picture:
    reached = _each(replicates(runs), lambda group: share(group.reached, group.runs))
    return _picture(
        "reached", "Runs below the threshold", "The share of the runs that have been below the threshold by an epoch.",
        f"Runs that got below the threshold. {reached}", partial(figures.fraction_reached, runs),
    )  # fmt: skip


def _misses(runs: pd.DataFrame, answers: pd.DataFrame) -> Iterator[Picture]:
    missed = runs[runs["first_epoch_below_threshold"].isna()]
    answers = answers[answers.index.isin(missed["run_dir"])]
    if answers.empty:
        return
    shown = answers.head(MOST_MISSES)
    never = {name: [str(digit) for digit in row.index[row == 0]] for name, row in shown.iterrows()}
    words = "; ".join(
        f"{name} never answers {', '.join(digits) or 'none too rarely'}" for name, digits in never.items()
    )
    rest = f" The first {MOST_MISSES} of {len(answers)}." if len(answers) > MOST_MISSES else ""
    yield _picture(
        "misses", "What the runs answer that missed the threshold",
        f"Answers on the test digits; framed: a digit that is never answered.{rest}",
        f"Answers of {counted(len(shown), 'run')}: {words}.", partial(figures.answers_of_misses, shown),
        height=0.7 + 0.45 * len(shown),
    )  # fmt: skip


def _picture(
    name: str, title: str, caption: str, words: str, draw: Callable[[Axes], None], height: float = 3.1
) -> Picture:
    return Picture(name, title, caption, as_svg(name, words, draw, height))


def _each(groups: list[Replicates], say: Callable[[Replicates], str]) -> str:
    return "; ".join(f"{group.configuration}: {say(group)}" for group in groups) + "."


def _medians(groups: list[Replicates], name: str, write: Callable[[float], str]) -> str:
    def median(group: Replicates) -> str:
        value: Middle = getattr(group, name)
        return write(value.median)

    return _each(groups, median)
