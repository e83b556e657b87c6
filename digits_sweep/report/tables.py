"""The report's tables: configurations, runs and sweeps side by side, for a page, a terminal and a pipe."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from digits_sweep.errors import one_line
from digits_sweep.report.pairs import Paired
from digits_sweep.report.side_by_side import Compared, Contrast, compare
from digits_sweep.report.statistics import (
    UNKNOWN,
    Estimate,
    Replicates,
    estimate,
    finished,
    groups_of,
    or_infinity,
    ranked,
)
from digits_sweep.report.study import (
    GROWTH,
    Goal,
    Study,
    has_trained,
    labels,
    rows_of,
    settings,
    shared_goals,
    shortened,
    telling_apart,
)
from digits_sweep.report.words import (
    _,
    cell,
    counted,
    interval,
    listed,
    localized,
    noun_of,
    number,
    rounded,
    seconds,
    setting,
    share,
    up_to,
)
from digits_sweep.results.columns import OWN_LOOP
from digits_sweep.results.record import Status

# Of more configurations the table is ordered by what came soonest.
MOST_IN_ORDER = 6
# What a run of this program's own always has.
OF_SOME = ("first_epoch_below_threshold", "seconds_per_epoch", "test_accuracy")
# The settings that every table of runs has a column for.
FIXED = ("batch_size", "lr", "weight_decay")


@dataclass(frozen=True)
class Cell:
    """One cell of a table: a figure, and in small print how certain it is; and the plain numbers for a program."""

    text: str
    note: str = ""
    value: Any = None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        return f"{self.text} ({self.note})" if self.note else self.text


@dataclass(frozen=True)
class Table:
    """Titles and rows of cells. `names` are the titles for a program; `keys` says what each row is about.

    A column whose name is in `ranges` has the ends of an interval beside its value.
    """

    header: list[str]
    rows: list[list[Cell]]
    names: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def as_text(self) -> list[list[str]]:
        """Return rows of text, the header first, the small print in brackets."""
        return [self.header, *([str(cell) for cell in row] for row in self.rows)]

    @property
    def ranges(self) -> set[str]:
        """Return the names of the columns in which a cell has an interval."""
        return {name for row in self.rows for name, cell in zip(self.names, row, strict=True) if cell.low is not None}


Make = Callable[[Replicates], Cell]


def configuration_table(study: Study) -> Table:
    """Make a row for every configuration: what differs between them, and what was measured."""
    runs, noun = study.runs, noun_of(study.runs)
    first = runs.drop_duplicates("configuration").set_index("configuration")
    names = setting_columns(runs)
    columns: list[tuple[str, str, Make]] = [
        (title, name, lambda group, name=name: _setting(name, first.at[group.configuration, name]))  # type: ignore[misc]
        for name, title in names.items()
    ]
    columns += [
        (up_to(noun, study.goal), "examples_to_goal", lambda group: _estimate(group.examples_to_goal, rounded)),
        (_("iterations"), "iterations_to_goal", lambda group: _estimate(group.iterations_to_goal, rounded)),
        (_("seconds"), "seconds_to_goal", lambda group: _estimate(group.seconds_to_goal, seconds)),
        (_("reached"), "reached", _reached),
    ]
    for goal in other_goals(study):
        estimates = to_another_goal(study, goal)
        name = f"examples_to_{goal.measure}_{goal.threshold:g}"
        columns.append((up_to(noun, goal), name, _from(estimates)))
    columns += [
        (first_epoch_title(runs), "first_epoch_below_threshold", lambda g: _estimate(g.epochs_to_threshold, number)),
        (_("s/epoch"), "seconds_per_epoch", lambda group: _estimate(group.seconds_per_epoch, significant)),
        (_("final loss"), "final_loss", lambda group: _at_the_stop(group, group.final_loss, ".4f")),
        (_("test accuracy"), "test_accuracy", lambda group: _at_the_stop(group, group.test_accuracy, ".2%")),
    ]
    groups = in_order(study)
    if (runs["engine"] == OWN_LOOP).all():
        # It may have no epochs, no threshold and no classes.
        empty = {name for title, name, make in columns if all(make(group).text == "-" for group in groups)}
        columns = [each for each in columns if each[1] not in empty.intersection(OF_SOME)]
    return Table(
        [title for title, name, make in columns],
        [[make(group) for title, name, make in columns] for group in groups],
        [name for title, name, make in columns],
        [group.configuration for group in groups],
    )


def in_order(study: Study) -> list[Replicates]:
    """Return the configurations in the order of the runs; of many, or if all missed, the soonest or nearest first."""
    groups = groups_of(study)
    if len(groups) > MOST_IN_ORDER or not any(group.reached for group in groups):
        return ranked(finished(study), groups)
    return groups


def setting_columns(runs: pd.DataFrame) -> dict[str, str]:
    """Return the columns that tell configurations apart, with their titles: batch size, and what else differs."""
    known = runs[runs["batch_size"].notna()]
    several = [name for name in settings(known) if known[name].nunique() > 1]
    others = list(dict.fromkeys([*telling_apart(known), *several]))
    others += ["rule"] if known["rule"].nunique(dropna=False) > 1 else []
    sweep = ["sweep"] if "sweep" in runs else []
    return {**{name: _(name) for name in sweep}, "batch_size": _("batch size"), **labels(others)}


def other_goals(study: Study, most: int = 6) -> list[Goal]:
    """Return the targets of a sweep besides its goal."""
    known = study.runs[has_trained(study.runs)]
    return [goal for goal in shared_goals(known, study.targets) if goal != study.goal][:most]


def to_another_goal(study: Study, goal: Goal) -> dict[str, Estimate]:
    """Return the examples to a goal of every configuration whose runs ended."""
    rows = rows_of(goal, study.targets).merge(finished(study)[["run_dir", "configuration"]], on="run_dir")
    known = rows[rows["reached"].notna()]
    return {
        str(name): estimate(or_infinity(own["examples"].where(own["reached"].fillna(False).astype(bool))))
        for name, own in known.groupby("configuration", sort=False)
    }


def _from(estimates: dict[str, Estimate]) -> Make:
    return lambda group: _estimate(estimates.get(group.configuration, UNKNOWN), rounded)


def _setting(name: str, value: Any) -> Cell:
    plain = None if pd.isna(value) else value.item() if hasattr(value, "item") else value
    return Cell(setting(name, value), value=plain)


def _estimate(figure: Estimate, write: Callable[[float], str]) -> Cell:
    if not figure.runs:
        return Cell("-")
    numbers = [each if math.isfinite(each) else None for each in (figure.median, figure.low, figure.high)]
    value, low, high = numbers if figure.runs > 1 else (numbers[0], None, None)
    return Cell(write(figure.median), interval(figure, write), value, low, high)


def _at_the_stop(group: Replicates, figure: Estimate, form: str) -> Cell:
    """Write a figure of the end of the runs, and that they ended before their last epoch if they did."""
    usual = _estimate(figure, lambda value: number(value, form))
    stopped = _("at the stop of {share}", share=share(group.stopped, group.runs)) if group.stopped else ""
    return Cell(usual.text, "; ".join(filter(None, [usual.note, stopped])), usual.value, usual.low, usual.high)


def _reached(group: Replicates) -> Cell:
    low, high = group.reached_share
    ends = {"low": localized(f"{low:.0%}"), "high": localized(f"{high:.0%}")}
    notes = [_("{low} to {high}", **ends)] if group.known > 1 else []
    notes += [_("{count} with a class never predicted", count=group.dead)] if group.dead else []
    notes += [_("{count} unknown", count=group.runs - group.known)] if group.known < group.runs else []
    of = share(group.reached, group.known) if group.known else _("unknown")
    several = group.known > 1
    value = group.reached / group.known if group.known else None
    return Cell(of, "; ".join(notes), value, low if several else None, high if several else None)


def significant(value: float) -> str:
    """Write seconds with two decimals, and with as many as two digits need below 0.1."""
    if not math.isfinite(value):
        return "-"
    digits = 2 if value >= 0.1 or value <= 0 else 1 - math.floor(math.log10(value))
    return localized(f"{value:.{digits}f}")


# --- Sweeps side by side.


def comparison_table(combined: Study) -> Table:
    """Make a row for every configuration and sweep, each figure compared with the first sweep's."""
    header = [_("configuration"), _("sweep"), _("s/epoch"), _("against A")]
    header += [up_to(_("seconds"), combined.goal), _("against A")]
    header += [up_to(noun_of(combined.runs), combined.goal), _("against A")]
    names = ["configuration", "sweep", "seconds_per_epoch", "per_epoch_against_a", "seconds_to_goal"]
    names += ["seconds_against_a", "examples_to_goal", "examples_against_a"]
    compared = compare(combined)
    rows = [
        [
            Cell(row.configuration, value=row.configuration),
            Cell(row.sweep, value=row.sweep),
            _median(row.seconds_per_epoch, seconds),
            _contrast(row.per_epoch, row.is_unsteady),
            _median(row.seconds_to_goal, seconds),
            _contrast(row.to_goal, row.is_unsteady) if row.to_goal else _incomparable(row, combined.goal),
            _median(row.examples_to_goal, rounded),
            _paired(row.examples, row.examples_decided) if row.examples else _incomparable(row, combined.goal),
        ]
        for row in compared
    ]
    return Table(header, rows, names, [row.configuration for row in compared])


def _median(figure: Estimate, write: Callable[[float], str]) -> Cell:
    return Cell(write(figure.median), value=figure.median if math.isfinite(figure.median) else None)


def _incomparable(row: Compared, goal: Goal) -> Cell:
    return Cell(_("another goal") if goal.problem and row.per_epoch else "")


def _contrast(contrast: Contrast | None, is_unsteady: bool) -> Cell:
    """Write `1.23 times as fast`, and whether that is more than the noise between runs and was timed steadily."""
    if contrast is None:
        return Cell("")
    ratio = contrast.ratio
    if math.isnan(ratio):
        return Cell(_("neither reaches it"))
    if math.isinf(ratio):
        return Cell(_("reached; not in A"))
    if not ratio:
        return Cell(_("not reached"))
    notes = [_("timed unsteadily")] if is_unsteady else []
    if contrast.p_value is None:
        notes.append(_("too few runs to tell from noise"))
    else:
        notes.append(
            _(
                "more than the noise, p = {p:.2g}" if contrast.is_significant else "within the noise, p = {p:.2g}",
                p=contrast.p_value,
            )
        )
    return Cell(_("{ratio} times as fast", ratio=localized(f"{ratio:.3g}")), "; ".join(notes), ratio)


def _paired(pairs: Paired, is_decided: bool) -> Cell:
    """Write `1.14 times as many`, and in how many pairs of runs with the same seed."""
    ratio = pairs.ratio.median
    often = _(
        "fewer in {share} seeds, more than the noise" if is_decided else "fewer in {share} seeds, undecided",
        share=share(pairs.larger, pairs.pairs),
    )
    if pairs.smaller == pairs.larger == 0:
        return Cell(_("the same"), _("in {seeds}", seeds=counted(pairs.pairs, "seed")), 1.0)
    if math.isinf(ratio):
        return Cell(_("not reached"), often)
    if not ratio:
        return Cell(_("reached; not in A"), often)
    return Cell(_("{ratio} times as many", ratio=localized(f"{ratio:.3g}")), often, ratio)


# --- Runs.


def run_table(runs: pd.DataFrame, fixed: Sequence[str] = FIXED) -> Table:
    """Make a row for every run of a study's `runs`, in its order.

    Settings that differ between the runs have a column besides the `fixed` ones.
    """
    varying = differing(runs, fixed)
    titles = {"batch_size": _("batch size"), "lr": _("lr"), "weight_decay": _("weight decay")}
    header = [*(titles[name] for name in fixed), _("s/epoch"), first_epoch_title(runs)]
    header += [_("{noun} to it", noun=noun_of(runs)), _("final loss"), _("test accuracy")]
    names = [*fixed, "seconds_per_epoch", "first_epoch_below_threshold", "examples_to_goal", "final_loss"]
    names += ["test_accuracy", *(hint := _of_hints(runs)), *varying, "status"]
    header += [_("hint") for _name in hint]
    rows = [_run_cells(run, fixed, [*hint, *varying]) for run in runs.to_dict("records")]
    return Table([*header, *labels(varying).values(), _("status")], rows, names, list(runs["run_dir"].astype(str)))


def named_table(runs: pd.DataFrame) -> list[list[str]]:
    """Return rows of text, the header first: the name of every run, and its row in the table of runs."""
    table = run_table(runs)
    rows = [[name, *map(str, row)] for name, row in zip(table.keys, table.rows, strict=True)]
    return [[_("run"), *table.header], *rows]


def differing(runs: pd.DataFrame, fixed: Sequence[str] = FIXED) -> list[str]:
    """Return the settings besides the `fixed` ones that are not the same for all runs, and how their batches grow."""
    others = ["seed", "rule", *(name for name in settings(runs) if name not in fixed)]
    return [
        name
        for name in others
        if runs[name].nunique(dropna=name != "rule") > 1 or (name == GROWTH and runs[name].notna().any())
    ]


def _of_hints(runs: pd.DataFrame) -> list[str]:
    """Return the column of the hints, if a run has one."""
    return ["batch_size_hint"] if runs["batch_size_hint"].notna().any() else []


def _run_cells(run: dict[Any, Any], fixed: Sequence[str], others: Sequence[str]) -> list[Cell]:
    def plain(name: str) -> Any:
        return None if pd.isna(run[name]) else run[name]

    took = "-" if pd.isna(run["seconds_per_epoch"]) else significant(float(run["seconds_per_epoch"]))
    examples = "-" if pd.isna(run["examples_to_goal"]) else rounded(run["examples_to_goal"])
    return [
        *(_setting(name, run[name]) for name in fixed),
        Cell(took + _concurrent(run["concurrent_runs"]), value=plain("seconds_per_epoch")),
        Cell(_first_epoch(run), value=plain("first_epoch_below_threshold")),
        Cell(examples, value=plain("examples_to_goal")),
        Cell(cell(run["final_loss"], ".4f"), value=plain("final_loss")),
        Cell(cell(run["test_accuracy"], ".2%"), value=plain("test_accuracy")),
        *(_setting(name, run[name]) for name in others),
        Cell(outcome(run), value=plain("status")),
    ]


def outcome(run: "dict[Any, Any] | pd.Series") -> str:
    """Write how a run ended, and why if there is a reason: `failed: OSError: no space left`."""
    return ": ".join(_(cell(run[name])) for name in ("status", "ended", "error") if not pd.isna(run[name]))


def _first_epoch(run: dict[Any, Any]) -> str:
    """Write the epoch, or that it was not reached, which is not the same as no figure at all."""
    if not pd.isna(run["first_epoch_below_threshold"]):
        return str(run["first_epoch_below_threshold"])
    if pd.isna(run["epochs"]) or run["epochs"] == 0:
        return "-"
    return _("not reached in {epochs}", epochs=counted(run["epochs"], "epoch"))


def _concurrent(runs: Any) -> str:
    """Runs at the same time share cores and caches: their seconds are not those of a run alone."""
    return "" if pd.isna(runs) or runs < 2 else _(" ({count} at once)", count=runs)


def first_epoch_title(runs: pd.DataFrame) -> str:
    """Return the title of the column with the first epoch below the threshold."""
    thresholds = runs["loss_threshold"].dropna().unique()
    if len(thresholds) == 1:
        return _("first epoch < {threshold:g}", threshold=thresholds[0])
    return _("first epoch below threshold")


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """Write rows of text, the header first, in Markdown, with aligned columns that read well on a terminal too."""
    escaped = [[one_line(text).replace("|", "\\|") for text in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*escaped, strict=True)]
    escaped.insert(1, ["-" * width for width in widths])
    return "".join(
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |\n"
        for row in escaped
    )


# --- On a terminal: short titles, the name first, and below what has to be said in words.

MISSED = ">30: not reached in 30 epochs, and so on"
TOGETHER = "*: together with other runs on one machine"
INTERVALS = "second lines: the interval that contains the median, see the page"


@dataclass(frozen=True)
class ForTerminal:
    """A table of text: `optional` are the titles that give way on a narrow terminal, the first one first."""

    header: list[str]
    rows: list[list[str]]
    notes: list[str]
    optional: list[str]


def runs_for_terminal(runs: pd.DataFrame) -> ForTerminal:
    """Make a row for every run of a study's `runs`. A column that differs between them gives way to none."""
    varying, noun, hint = differing(runs), noun_of(runs), _of_hints(runs)
    names = [*(_("hint") for _name in hint), *labels(varying).values()]
    lr, decay, loss, test, status = map(_, ("lr", "decay", "loss", "test", "status"))
    header = [_("run"), _("batch"), lr, decay, _("s/epoch"), _below(runs), noun, loss, test, *names, status]
    cells = runs.to_dict("records")
    alike = [title for title, name in {decay: "weight_decay", lr: "lr"}.items() if runs[name].nunique() < 2]
    # What was swept is in a run's name too.
    return ForTerminal(
        header, [_terminal_row(run, [*hint, *varying]) for run in cells], list(_notes(cells)),
        [*alike, test, status, loss, noun, *reversed(names)],
    )  # fmt: skip


def _terminal_row(run: dict[Any, Any], others: Sequence[str]) -> list[str]:
    together = not pd.isna(run["concurrent_runs"]) and run["concurrent_runs"] > 1
    return [
        str(run["run_dir"]),
        *(setting(name, run[name]) for name in FIXED),
        cell(run["seconds_per_epoch"], ".3g") + ("*" if together else ""),
        _epoch(run),
        "-" if pd.isna(run["examples_to_goal"]) else rounded(run["examples_to_goal"]),
        cell(run["final_loss"], ".4f"),
        cell(run["test_accuracy"], ".2%"),
        *(setting(name, run[name]) for name in others),
        _(cell(run["status"])),
    ]


def _epoch(run: dict[Any, Any]) -> str:
    """Write the first epoch below the threshold, `>30` if it was not reached in 30; a dash: the run has not ended."""
    if not pd.isna(run["first_epoch_below_threshold"]):
        return str(run["first_epoch_below_threshold"])
    return f">{run['epochs']}" if is_miss(run) else "-"


def is_miss(run: dict[Any, Any]) -> bool:
    """Return whether a run was trained to its end and did not get below the threshold."""
    has_ended = run["status"] in {status.value for status in Status if status.has_ended}
    return (
        has_ended and pd.isna(run["first_epoch_below_threshold"]) and not pd.isna(run["epochs"]) and run["epochs"] > 0
    )


def _below(runs: pd.DataFrame) -> str:
    thresholds = runs["loss_threshold"].dropna().unique()
    return _("epoch<{threshold:g}", threshold=thresholds[0]) if len(thresholds) == 1 else _("epoch")


def _notes(runs: Sequence[dict[Any, Any]]) -> Iterator[str]:
    if any(map(is_miss, runs)):
        yield _(MISSED)
    if any(not pd.isna(run["concurrent_runs"]) and run["concurrent_runs"] > 1 for run in runs):
        yield _(TOGETHER)
    ends: dict[str, list[str]] = {}
    for run in runs:
        if not (pd.isna(run["ended"]) and pd.isna(run["error"])):
            ends.setdefault(outcome(run), []).append(str(run["run_dir"]))
    for words, names in ends.items():
        yield f"{listed(names)}: {words}"


def configurations_for_terminal(study: Study) -> ForTerminal:
    """Make two rows for every configuration of several seeds: the medians, and their intervals."""
    runs, groups = study.runs, in_order(study)
    noun, (size, *others) = noun_of(runs), setting_columns(runs).items()
    first = runs.drop_duplicates("configuration").set_index("configuration")
    in_names = set(telling_apart(runs))
    beside = {name: title for name, title in others if name not in in_names}
    iterations, took, reached = map(_, ("iterations", "seconds", "reached"))
    per_epoch, loss, test = map(_, ("s/epoch", "loss", "test"))
    header = [size[1], *beside.values(), noun, iterations, took, reached, _below(runs), per_epoch, loss, test]
    rows = []
    for group in groups:
        own = [setting(name, first.at[group.configuration, name]) for name in beside]
        for index, (name, *cells) in enumerate(_terminal_rows(group)):
            rows.append([name, *(own if index == 0 else [""] * len(own)), *cells])
    missed = [_(MISSED)] if any(math.isinf(group.epochs_to_threshold.high) for group in groups) else []
    several = [_(INTERVALS)] if any(group.runs > 1 for group in groups) else []
    optional = [iterations, test, loss, per_epoch, reached, took]
    return ForTerminal(header, rows, [*missed, *several], optional)


def _terminal_rows(group: Replicates) -> Iterator[list[str]]:
    def epochs(value: float) -> str:
        return f">{group.epochs}" if math.isinf(value) else f"{value:g}"

    columns: list[tuple[Estimate, Callable[[float], str]]] = [
        (group.examples_to_goal, rounded),
        (group.iterations_to_goal, rounded),
        (group.seconds_to_goal, seconds),
        (group.epochs_to_threshold, epochs),
        (group.seconds_per_epoch, lambda value: localized(f"{value:.3g}")),
        (group.final_loss, lambda value: localized(f"{value:.4f}")),
        (group.test_accuracy, lambda value: localized(f"{value:.2%}")),
    ]
    medians = [_dashed(write(figure.median)) for figure, write in columns]
    yield [shortened(group.configuration), *medians[:3], share(group.reached, group.known), *medians[3:]]
    if group.runs > 1:
        ends = [_range(figure, write) for figure, write in columns]
        low, high = group.reached_share
        yield ["", *ends[:3], f"{low:.0%}-{high:.0%}", *ends[3:]]


def _range(figure: Estimate, write: Callable[[float], str]) -> str:
    low, high = (_dashed(write(value)).removesuffix(" s") for value in (figure.low, figure.high))
    return "" if figure.runs < 2 or low == high else f"{low}-{high}" if high != "-" else f">{low}"


def _dashed(text: str) -> str:
    return "-" if text in (_("not reached"), "nan", "nan%") else text
