"""What scaling rules come to: the loss at frozen weights after equally many examples, seed by seed.

A rule starts from a learning rate at a reference batch size. The runs at that batch size with that rate are what its
runs at other batch sizes are compared with.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from digits_sweep.report.analysis.statistics.pairs import sign_test
from digits_sweep.report.analysis.statistics.replicates import Estimate, ended, estimate
from digits_sweep.report.analysis.study import Study
from digits_sweep.results.record import Record

MEASURES = ("train_loss", "test_error")


@dataclass(frozen=True)
class Difference:
    """One measure of a configuration, and by how much it is above the reference, seed by seed.

    `above` is None without a pair; in `larger` of `pairs` it is above, `p_value` is that of the sign test.
    """

    value: Estimate
    above: Estimate | None
    larger: int
    pairs: int
    p_value: float


@dataclass(frozen=True)
class AtEqualExamples:
    """The runs of one configuration after `examples`; `rule` and `reference` are None if no rule made its rates.

    `origin` is the batch size and the learning rate that the rule starts from.
    """

    configuration: str
    rule: str | None
    origin: tuple[int, float] | None
    reference: str | None
    examples: float
    train_loss: Difference
    test_error: Difference


def at_equal_examples(study: Study) -> list[AtEqualExamples]:
    """Compare every configuration with the reference of its rule; nothing if there is none, or the lengths differ.

    The last evaluations count: those of all runs must lie within one batch of one another.
    """
    if study.evaluations.empty:
        return []
    runs = ended(study.runs)
    last = study.evaluations.sort_values("examples").groupby("run_dir").last().drop(columns="configuration")
    runs = runs.merge(last[["examples", *MEASURES]], left_on="run_dir", right_index=True)
    if runs.empty or runs["examples"].max() - runs["examples"].min() > runs["batch_size"].max():
        return []
    found = list(_compared(runs, {name: _origin(record) for name, record in study.records.items()}))
    return found if any(each.reference for each in found) else []


def _origin(record: Record) -> tuple[int, float] | None:
    """Return the batch size and the rate that a run's rule starts from."""
    scaling = record.config.get("scaling", {})
    size, lr = scaling.get("reference_batch_size"), scaling.get("reference_lr")
    return (size, lr) if scaling.get("rule") and size and lr else None


def _compared(runs: pd.DataFrame, origins: dict[str, tuple[int, float] | None]) -> Iterator[AtEqualExamples]:
    for (name, rule), own in runs.groupby(["configuration", "rule"], sort=False, dropna=False):
        origin = origins.get(str(own["run_dir"].iloc[0]))
        if origin is None or own["batch_size"].iloc[0] == origin[0]:
            reference = runs.head(0)
        else:
            reference = runs[runs["batch_size"].eq(origin[0]) & runs["lr"].eq(origin[1])]
        yield AtEqualExamples(
            configuration=str(name),
            rule=rule if isinstance(rule, str) else None,
            origin=origin,
            reference=None if reference.empty else str(reference["configuration"].iloc[0]),
            examples=float(own["examples"].median()),
            **{each: _difference(own, reference, each) for each in MEASURES},
        )


def _difference(own: pd.DataFrame, reference: pd.DataFrame, measure: str) -> Difference:
    ours, theirs = (table.drop_duplicates("seed").set_index("seed")[measure] for table in (own, reference))
    above = (ours - theirs).dropna()
    larger, smaller = int((above > 0).sum()), int((above < 0).sum())
    return Difference(
        value=estimate(ours.tolist()),
        above=estimate(above.tolist()) if len(above) else None,
        larger=larger,
        pairs=len(above),
        p_value=sign_test(smaller, larger),
    )
