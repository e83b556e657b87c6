"""Which scaling rule keeps up with the batch size that it starts from?

    python docs/findings/rules.py outputs/sweeps/<date_time> [FIGURE.svg]

A rule starts from a learning rate at a reference batch size (`experiment=rules`). The loss and the error at the end of
its runs, at frozen weights and after equally many examples, are compared with those of the runs with that rate at that
batch size, seed by seed. Runs without a rule on the same seeds, which have tuned rates, are compared with one another.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from evidence import ended_runs, intervals, print_table, rate_text, read_arguments

from digits_sweep.report.statistics import Estimate, estimate
from digits_sweep.report.vega import Figure
from digits_sweep.report.words import localized
from digits_sweep.results.record import read_record

HEADER = ("rule", "from lr", "batch size", "lr", "seeds", "train loss", "above the reference", "test error", "above it")


@dataclass(frozen=True)
class Difference:
    """How far a measure is above that of the reference, seed by seed; in `larger` of `pairs` it is above."""

    above: Estimate
    larger: int
    pairs: int

    def text(self, form: str) -> str:
        """Return the median difference in a format, with its interval, and in how many pairs it is above."""
        values = (self.above.low, self.above.median, self.above.high)
        low, middle, high = (localized(format(value, form)) for value in values)
        return f"{middle} [{low}, {high}], above in {self.larger} of {self.pairs}"


@dataclass(frozen=True)
class Group:
    """The runs of one rule, rate and batch size; without a reference there is no difference from it."""

    rule: str
    origin_lr: float | None
    batch_size: int
    lr: float
    seeds: int
    train_loss: float
    test_error: float
    loss_above: Difference | None
    error_above: Difference | None


def evaluated_runs(sweep: Path) -> pd.DataFrame:
    """Return the runs that ended, with the last evaluation of each and what its rule starts from.

    Raises ValueError if a run was not evaluated, or if some were evaluated after more examples than others: a batch
    more or less does not count.
    """
    runs = ended_runs(sweep)
    rows = []
    for folder in runs["run_dir"]:
        evaluations = sweep / folder / "evaluations.csv"
        if not evaluations.exists():
            raise ValueError(f"{folder} was not evaluated; run experiment=rules")
        scaling = read_record(sweep / folder).config.get("scaling", {})
        origin = {f"origin_{key}": scaling.get(f"reference_{key}") for key in ("batch_size", "lr")}
        rows.append({"run_dir": folder, **origin, **pd.read_csv(evaluations).iloc[-1]})
    last = pd.DataFrame(rows)[["run_dir", "origin_batch_size", "origin_lr", "examples", "train_loss", "test_error"]]
    if last["examples"].max() - last["examples"].min() > runs["batch_size"].max():
        raise ValueError("its runs trained on different numbers of examples")
    return runs.merge(last, on="run_dir")


def compare(runs: pd.DataFrame) -> Iterator[Group]:
    """Yield a group for every rule, rate and batch size, compared with its reference."""
    keys = ["rule", "origin_lr", "batch_size", "lr"]
    for (rule, origin_lr, size, lr), own in runs.groupby(keys, sort=False, dropna=False):
        reference = reference_of(own, runs)
        yield Group(
            rule="-" if pd.isna(rule) else rule,
            origin_lr=None if pd.isna(origin_lr) else origin_lr,
            batch_size=size,
            lr=lr,
            seeds=own["seed"].nunique(),
            train_loss=own["train_loss"].median(),
            test_error=own["test_error"].median(),
            loss_above=_difference(own, reference, "train_loss"),
            error_above=_difference(own, reference, "test_error"),
        )


def reference_of(own: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that those of one group are compared with; none if they are themselves a reference."""
    first = own.iloc[0]
    if pd.isna(first["rule"]):
        # On the seeds of the rules a batch size without a rule has one rate: the one that was tuned on other seeds.
        ruled = runs["rule"].notna()
        others = runs[~ruled & runs["seed"].isin(runs.loc[ruled, "seed"])]
        return others[
            others["batch_size"].eq(others["batch_size"].max()) & (others["batch_size"] > first["batch_size"])
        ]
    is_reference = runs["batch_size"].eq(first["origin_batch_size"]) & runs["lr"].eq(first["origin_lr"])
    return runs[is_reference & (runs["batch_size"] != first["batch_size"])]


def _difference(own: pd.DataFrame, reference: pd.DataFrame, measure: str) -> Difference | None:
    ours, theirs = (part.drop_duplicates("seed").set_index("seed")[measure] for part in (own, reference))
    above = (ours - theirs).dropna()
    if above.empty:
        return None
    return Difference(estimate(above.tolist()), int((above > 0).sum()), len(above))


def figure(groups: list[Group]) -> Figure:
    """Draw by how much the loss of each rule is above its reference; left of 0 the rule is better."""
    rows = [
        (f"{group.rule}, from lr {rate_text(group.origin_lr)}", group.loss_above.above)
        for group in groups
        if group.loss_above and group.origin_lr
    ]
    return intervals("rules", "Scaling rules", rows, "loss above the reference", zero=True)


def main(sweep: Path, svg: Path | None) -> None:
    """Print the table of a sweep, and draw its figure into `svg`."""
    try:
        runs = evaluated_runs(sweep)
    except ValueError as error:
        sys.exit(f"{sweep}: {error}")
    groups = list(compare(runs))
    if not any(group.origin_lr and group.loss_above for group in groups):
        sys.exit(f"{sweep}: no rule here has runs at the batch size and the rate that it starts from")
    print_table(HEADER, [_cells(group) for group in groups])
    print(f"\nAfter {runs['examples'].median():,.0f} examples, at frozen weights; medians over the seeds.")
    if svg:
        figure(groups).save(svg)


def _cells(group: Group) -> list[object]:
    return [
        group.rule,
        rate_text(group.origin_lr) if group.origin_lr else "-",
        group.batch_size,
        rate_text(group.lr),
        group.seeds,
        f"{group.train_loss:.4f}",
        group.loss_above.text("+.4f") if group.loss_above else "-",
        localized(f"{group.test_error:.2%}"),
        group.error_above.text("+.2%") if group.error_above else "-",
    ]


if __name__ == "__main__":
    main(*read_arguments(__doc__.partition("\n")[0]))
