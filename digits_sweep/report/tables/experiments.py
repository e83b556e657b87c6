"""Tables that some sweeps have something for: the lesson repeated, scaling rules, classes that are never predicted."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from digits_sweep.report.analysis.sentences.formatting import noun_of, number, of_shares, rounded, setting, share
from digits_sweep.report.analysis.sentences.lesson import Often, how_often
from digits_sweep.report.analysis.statistics.at_equal_examples import AtEqualExamples, Difference, at_equal_examples
from digits_sweep.report.analysis.statistics.matched import Matched, Share, dead_digits
from digits_sweep.report.analysis.study import Study
from digits_sweep.report.language import said
from digits_sweep.report.tables.configurations import Cell, Table


@dataclass(frozen=True)
class Experiment:
    """A table with its heading and a note on how it was counted."""

    name: str
    heading: str
    table: Table
    note: str


@lru_cache(maxsize=1)
def experiments(study: Study) -> tuple[Experiment, ...]:
    """Return the tables that this sweep has something for, for the terminal and for the page."""
    return tuple(_experiments(study))


def _experiments(study: Study) -> Iterator[Experiment]:
    if rows := how_often(study.runs):
        yield Experiment(
            "lesson-replicated", said("How often do the lesson's figures come out?"), _lesson(rows), said(SHARES)
        )
    if differences := at_equal_examples(study):
        examples = said(
            "After {count} {noun}, at frozen weights.", count=rounded(differences[0].examples), noun=noun_of(study.runs)
        )
        heading = said("Which rule keeps up with its reference?")
        yield Experiment("rules", heading, _rules(differences), f"{examples} {said(PAIRS)}")
    if found := dead_digits(study.runs):
        note = f"{said(MATCHED)} {said(SHARES)}"
        yield Experiment("never-predicted", said("When is a class never predicted?"), _matched(found), note)


SHARES = "Shares have their exact 95 % interval (Clopper and Pearson 1934)."
PAIRS = (
    "Differences are seed by seed against the reference: the median and the interval that contains it, and the p value "
    "of the two-sided sign test, which is 0.06 at least with five seeds."
)
MATCHED = (
    "At the end of the run, on the test set. Runs that differ in this factor alone, seed by seed; p: McNemar's exact "
    "test on the pairs that differ. A factor without such a pair has no row."
)


def _lesson(rows: list[Often]) -> Table:
    header = [said("row of the lesson"), said("what it does not state"), said("first epoch here")]
    header += [said("as in the lesson"), said("dead digit")]
    return Table(header, [_often(row) for row in rows])


def _often(row: Often) -> list[Cell]:
    stated = row.stated
    return [
        Cell(said("batch size {size}", size=stated.batch_size), f"lr {setting('lr', stated.lr)}"),
        Cell(row.setting),
        Cell(row.here),
        Cell(said("not stated")) if row.as_stated is None else _share(row.as_stated),
        _share(row.dead),
    ]


def _rules(rows: list[AtEqualExamples]) -> Table:
    header = [said("configuration"), said("rule"), said("reference"), said("train loss"), said("above the reference")]
    header += [said("test error"), said("above it")]
    return Table(header, [_rule(row) for row in rows])


def _rule(row: AtEqualExamples) -> list[Cell]:
    return [
        Cell(row.configuration),
        Cell(row.rule or "-"),
        Cell(row.reference or "-"),
        Cell(number(row.train_loss.value.median, ".4f")),
        _above(row.train_loss, "+.4f"),
        Cell(number(row.test_error.value.median, ".2%")),
        _above(row.test_error, "+.2%"),
    ]


def _above(found: Difference, form: str) -> Cell:
    if found.above is None:
        return Cell("-")
    low, high = (number(value, form) for value in (found.above.low, found.above.high))
    note = said(
        "{low} to {high}; above in {share}, p = {p:.2g}",
        low=low, high=high, share=share(found.larger, found.pairs), p=found.p_value,
    )  # fmt: skip
    return Cell(number(found.above.median, form), note)


def _matched(rows: list[Matched]) -> Table:
    header = [
        said("factor"),
        said("values"),
        said("first"),
        said("second"),
        said("only first"),
        said("only second"),
        "p",
    ]
    return Table(
        header,
        [
            [
                Cell(row.factor),
                Cell(f"{row.first}, {row.second}"),
                _share(row.of_first),
                _share(row.of_second),
                Cell(str(row.only_first)),
                Cell(str(row.only_second)),
                Cell(f"{row.p_value:.2g}"),
            ]
            for row in rows
        ],
    )


def _share(found: Share) -> Cell:
    return Cell(share(found.hits, found.runs), of_shares(found.low, found.high) if found.runs else "")
