"""Figures of the experiments that have tables of their own, with captions and text alternatives."""

from collections import Counter
from collections.abc import Iterator
from functools import partial

from digits_sweep.report.analysis.sentences.formatting import noun_of, number, rounded, setting, share
from digits_sweep.report.analysis.sentences.lesson import STATED_EPOCHS, Often, how_often
from digits_sweep.report.analysis.statistics.at_equal_examples import at_equal_examples
from digits_sweep.report.analysis.statistics.matched import Matched, Share, dead_digits
from digits_sweep.report.analysis.study import Study
from digits_sweep.report.figures.experiments import FirstEpochs, Interval, first_epochs, intervals
from digits_sweep.report.language import said
from digits_sweep.report.pictures.picture import Picture, picture

# Inches for the axis, and for a row.
AXIS, ROW = 0.7, 0.36


def experiments(study: Study) -> Iterator[Picture]:
    """Yield the figures that this sweep has something for."""
    if rows := _lesson(how_often(study.runs)):
        yield picture(
            "lesson-replicated", said("How often the lesson's figures come out"),
            said(
                "Bars: so many runs were first below the threshold in this epoch, or in none of {count}. Framed: the "
                "lesson's epoch.",
                count=STATED_EPOCHS,
            ),
            "; ".join(f"{row.name}: {_counted(row)}" for row in rows) + ".",
            partial(first_epochs, rows, STATED_EPOCHS), height=AXIS + 0.62 * len(rows),
        )  # fmt: skip
    compared = [each for each in at_equal_examples(study) if each.origin and each.train_loss.above]
    if compared:
        found = [
            Interval(_rule(each.rule, each.origin[1]), above.median, above.low, above.high)
            for each in compared
            if each.origin and (above := each.train_loss.above)
        ]
        yield picture(
            "rules", said("Scaling rules against their reference"),
            said(
                "Loss at frozen weights after {count} {noun}, less that of the reference, seed by seed: median and "
                "interval. Left of 0 the rule is better.",
                count=rounded(compared[0].examples), noun=noun_of(study.runs),
            ),
            "; ".join(f"{each.name}: {number(each.value, '+.4f')}" for each in found) + ".",
            partial(intervals, found, 0.0, said("loss above the reference")), height=AXIS + ROW * len(found),
        )  # fmt: skip
    if pairs := dead_digits(study.runs):
        shares = list(dict.fromkeys(each for pair in pairs for each in _shares(pair)))
        yield picture(
            "never-predicted", said("Runs with a class that is never predicted"),
            said(
                "Share of the runs, with its exact 95 % interval; runs that differ in this setting alone are compared."
            ),
            "; ".join(f"{each.name}: {each.value:.0%}" for each in shares) + ".",
            partial(intervals, shares, None, said("share of the runs")), height=AXIS + ROW * len(shares),
        )  # fmt: skip


def _rule(rule: str | None, lr: float) -> str:
    return said("{rule}, from lr {lr}", rule=rule, lr=setting("lr", lr))


def _lesson(rows: list[Often]) -> list[FirstEpochs]:
    """Count the first epochs of every row that the lesson states one for, over all settings that it does not state."""
    counts: dict[str, tuple[float, Counter[float]]] = {}
    for row in rows:
        if row.as_stated is not None:
            name = said("batch size {size}", size=row.stated.batch_size)
            counts.setdefault(name, (row.stated.first_epoch, Counter()))[1].update(row.first_epochs)
    return [FirstEpochs(name, dict(sorted(found.items())), expected) for name, (expected, found) in counts.items()]


def _counted(row: FirstEpochs) -> str:
    shown = share(row.counts.get(row.expected, 0), sum(row.counts.values()))
    return said("{share} as in the lesson", share=shown)


def _shares(pair: Matched) -> Iterator[Interval]:
    values: tuple[tuple[str, Share], ...] = ((pair.first, pair.of_first), (pair.second, pair.of_second))
    for value, found in values:
        yield Interval(f"{pair.factor} {value}", found.hits / max(found.runs, 1), found.low, found.high)
