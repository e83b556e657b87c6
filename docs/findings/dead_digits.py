"""When is a digit never predicted?

    python docs/findings/dead_digits.py outputs/sweeps/<date_time> [FIGURE.svg]

Runs that differ in one setting alone are pairs, seed by seed. A setting counts if a digit is never predicted at the
end of one run of a pair and of the other not.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
from evidence import Share, ended_runs, intervals, print_table, rate_text, read_arguments

from digits_sweep.config.text import to_text
from digits_sweep.report.statistics import holm, seeds_agree
from digits_sweep.report.vega import Figure
from digits_sweep.results.columns import COLUMNS, ColumnRole

HEADER = (
    "setting",
    "first",
    "second",
    "digit never predicted: first",
    "second",
    "only first",
    "only second",
    "p (Holm)",
)
# The batch size is a setting in any case. A rule is no setting of its own: its rates are.
RATES = ("lr", "weight_decay")
APART = ("batch_size", "seed", "rule")


@dataclass(frozen=True)
class Pairs:
    """Runs with `first` and `second` as the value of one setting, otherwise the same, seed by seed.

    In `only_first` pairs a digit is never predicted by the first run alone, in `only_second` by the second alone.
    `p_value` takes the seeds for clusters, and is adjusted by Holm for all rows of the table.
    """

    setting: str
    first: str
    second: str
    of_first: Share
    of_second: Share
    only_first: int
    only_second: int
    p_value: float


def dead_digits(runs: pd.DataFrame) -> list[Pairs]:
    """Return the pairs of every two values of every setting, if they differ in some pair."""
    runs = runs.dropna(subset=["classes_never_predicted"])
    runs = runs.assign(dead=runs["classes_never_predicted"].gt(0).astype(bool))
    settings = varied(runs)
    pairs = (each for setting in settings for each in _pairs(runs, setting, settings))
    differing = [each for each in pairs if each.only_first or each.only_second]
    adjusted = holm([each.p_value for each in differing])
    return [replace(each, p_value=p_value) for each, p_value in zip(differing, adjusted, strict=True)]


def varied(runs: pd.DataFrame) -> list[str]:
    """Return the settings that were varied; of several that change together, such as the two rates, the first.

    Choices such as the model come before numbers, because rates often follow from them.
    """
    columns = [column for column in COLUMNS if column.role is ColumnRole.SETTING and column.name not in APART]
    columns.sort(key=lambda column: column.dtype != "string")
    known = {column.name for column in COLUMNS}
    found = ["batch_size"]
    for name in [*(column.name for column in columns), *(name for name in runs if name not in {*known, "dead"})]:
        if runs.groupby(found, dropna=False)[name].nunique().gt(1).any():
            found.append(name)
    return found


def _pairs(runs: pd.DataFrame, setting: str, settings: list[str]) -> Iterator[Pairs]:
    others = [*(name for name in settings if name != setting), "seed"]
    for (first, ours), (second, theirs) in combinations(runs.groupby(setting, sort=False), 2):
        ours, theirs = (part.drop_duplicates(others)[[*others, "dead"]] for part in (ours, theirs))
        pairs = ours.merge(theirs, on=others, suffixes=("_first", "_second"))
        if len(pairs):
            dead_first, dead_second = pairs["dead_first"], pairs["dead_second"]
            yield Pairs(
                setting=setting.rpartition(".")[2].replace("_", " "),
                first=_text(setting, first),
                second=_text(setting, second),
                of_first=Share(int(dead_first.sum()), len(pairs)),
                of_second=Share(int(dead_second.sum()), len(pairs)),
                only_first=int((dead_first & ~dead_second).sum()),
                only_second=int((dead_second & ~dead_first).sum()),
                p_value=seeds_agree((dead_first.astype(int) - dead_second).groupby(pairs["seed"]).sum().tolist()),
            )


def _text(setting: str, value: Any) -> str:
    return rate_text(value) if setting in RATES else to_text(value)


def figure(pairs: list[Pairs]) -> Figure:
    """Draw the share of the runs with such a digit for each value of a setting."""
    shares = dict.fromkeys(
        (f"{each.setting} {value}", share)
        for each in pairs
        for value, share in ((each.first, each.of_first), (each.second, each.of_second))
    )
    rows = [(name, share.estimate) for name, share in shares]
    title = "Digits that are never predicted"
    return intervals("dead-digits", title, rows, "share of the runs in which a digit is never predicted")


def main(sweep: Path, svg: Path | None) -> None:
    """Print the table of a sweep, and draw its figure into `svg`."""
    pairs = dead_digits(ended_runs(sweep))
    if not pairs:
        sys.exit(f"{sweep}: no two runs here differ in one setting alone and in whether a digit is never predicted")
    print_table(HEADER, [[*[*vars(each).values()][:-1], f"{each.p_value:.2g}"] for each in pairs])
    print(f"\np: exact, with the seeds as clusters, adjusted by Holm for all {len(pairs)} rows.")
    if svg:
        figure(pairs).save(svg)


if __name__ == "__main__":
    main(*read_arguments(__doc__.partition("\n")[0]))
