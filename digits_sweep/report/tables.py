"""The report's tables: configurations, runs and sweeps side by side, for a page, a terminal and a pipe.

A table is declared by its columns. On a terminal a column has a short title, and a cell may have shorter words.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from digits_sweep.errors import one_line
from digits_sweep.report.critical import Critical, goal_text, seconds_per_step
from digits_sweep.report.ranking import (
    SIGNIFICANT,
    Compared,
    Replicates,
    compare,
    finished,
    groups_of,
    has_seeds,
    ranked,
)
from digits_sweep.report.statistics import Estimate, estimate, or_infinity
from digits_sweep.report.study import (
    GROWTH,
    MOST_NAMED,
    Goal,
    Study,
    as_dicts,
    first_runs,
    grouped,
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
    listed,
    localized,
    noun_of,
    number,
    rounded,
    seconds,
    setting,
    share,
    two_digits,
    up_to,
)
from digits_sweep.results.columns import OWN_LOOP
from digits_sweep.results.critical import Answer
from digits_sweep.results.record import Status

# What a run of this program's own always has.
OF_SOME = ("first_epoch_below_threshold", "seconds_per_epoch", "test_accuracy")
# What is measured at the end of a run, which may end before its last epoch.
AT_THE_STOP = ("final_loss", "test_accuracy")
# The settings that every table of runs has a column for.
FIXED = ("batch_size", "lr", "weight_decay")


@dataclass(frozen=True)
class Cell:
    """One cell: its text, in small print how certain it is, and the plain numbers for a program.

    On a terminal it is `short`, if that is another text, and its interval stands below as `ends`.
    """

    text: str
    note: str = ""
    value: Any = None
    low: float | None = None
    high: float | None = None
    short: str = ""
    ends: str = ""

    def __str__(self) -> str:
        return f"{self.text} ({self.note})" if self.note else self.text


@dataclass(frozen=True)
class Column:
    """A column: its title, its name for a program, the cell for whatever a row is about, and its title on a terminal.

    On a terminal there is none without a `short` title.
    """

    title: str
    name: str
    make: Callable[[Any], Cell]
    short: str = ""


@dataclass(frozen=True)
class Table:
    """Columns and rows of cells; `keys` says what each row is about."""

    columns: list[Column]
    rows: list[list[Cell]]
    keys: list[str]

    @property
    def header(self) -> list[str]:
        """Return the titles of the columns."""
        return [column.title for column in self.columns]

    @property
    def names(self) -> list[str]:
        """Return the names of the columns for a program."""
        return [column.name for column in self.columns]

    @property
    def ranges(self) -> set[str]:
        """Return the names of the columns in which a cell has an interval."""
        return {name for row in self.rows for name, cell in zip(self.names, row, strict=True) if cell.low is not None}

    def as_text(self) -> list[list[str]]:
        """Return rows of text, the header first, the small print in brackets."""
        return [self.header, *(list(map(str, row)) for row in self.rows)]


def table_of(columns: Iterable[Column], rows: Iterable[Any], key: Callable[[Any], str]) -> Table:
    """Make a row of cells for each of the `rows`; `key` says what it is about."""
    columns, rows = list(columns), list(rows)
    return Table(columns, [[column.make(row) for column in columns] for row in rows], list(map(key, rows)))


def number_cell(
    value: float, write: Callable[[float], str], note: str = "", low: float | None = None, high: float | None = None
) -> Cell:
    """Write a number; of it and of its interval a program has what is neither missing nor infinite."""
    plain, least, most = (None if pd.isna(each) or math.isinf(each) else float(each) for each in (value, low, high))
    return Cell(write(value), note, plain, least, most)


def table_of_study(study: Study) -> Table:
    """Make a row a configuration if some have several seeds, else a row a run."""
    return configuration_table(study) if has_seeds(study) else run_table(study.runs)


# --- Configurations.


def configuration_table(study: Study) -> Table:
    """Make a row for every configuration: what differs between them, and what was measured."""
    runs, groups, noun = study.runs, groups_of(study), noun_of(study.runs)
    if len(groups) > MOST_NAMED or not any(group.reached for group in groups):
        # Of many, or if all missed, the soonest or nearest first.
        groups = ranked(study)
    first, (below, below_short) = first_runs(runs), _below(runs)

    def setting_of(name: str) -> Callable[[Replicates], Cell]:
        def make(group: Replicates) -> Cell:
            short = shortened(group.configuration) if name == "batch_size" else ""
            return replace(_setting(name, first.at[group.configuration, name]), short=short)

        return make

    def measured(title: str, name: str, write: Callable[[float], str], short: str) -> Column:
        def make(group: Replicates) -> Cell:
            missed = f">{group.epochs}" if name == "first_epoch_below_threshold" else "-"
            cell = _estimate(group.of(name), write, missed)
            if not group.stopped or name not in AT_THE_STOP:
                return cell
            stopped = _("at the stop of {share}", share=share(group.stopped, group.runs))
            return replace(cell, note="; ".join(filter(None, [cell.note, stopped])))

        return Column(title, name, make, short)

    def to(goal: Goal) -> Column:
        estimates, name = to_another_goal(study, goal), f"examples_to_{goal.measure}_{goal.threshold:g}"
        return Column(
            up_to(noun, goal), name, lambda group: _estimate(estimates.get(group.configuration, estimate([])), rounded)
        )

    iterations, took, reached, per_epoch = map(_, ("iterations", "seconds", "reached", "s/epoch"))
    columns = [
        *(Column(title, name, setting_of(name), title) for name, title in _setting_columns(runs).items()),
        measured(up_to(noun, study.goal), "examples_to_goal", rounded, noun),
        measured(iterations, "iterations_to_goal", rounded, iterations),
        measured(took, "seconds_to_goal", seconds, took),
        Column(reached, "reached", _reached, reached),
        *(to(goal) for goal in other_goals(study)),
        measured(below, "first_epoch_below_threshold", number, below_short),
        measured(per_epoch, "seconds_per_epoch", significant, per_epoch),
        measured(_("final loss"), "final_loss", lambda loss: number(loss, ".4f"), _("loss")),
        measured(_("test accuracy"), "test_accuracy", lambda accuracy: number(accuracy, ".2%"), _("test")),
    ]
    if (runs["engine"] == OWN_LOOP).all():
        # It may have no epochs, no threshold and no classes.
        columns = [
            each for each in columns if each.name not in OF_SOME or {each.make(group).text for group in groups} != {"-"}
        ]
    return table_of(columns, groups, lambda group: group.configuration)


def _setting_columns(runs: pd.DataFrame) -> dict[str, str]:
    """Return the columns that tell configurations apart, with their titles: batch size, and what else differs."""
    known = runs[runs["batch_size"].notna()]
    several = [name for name in settings(known) if known[name].nunique() > 1]
    others = list(dict.fromkeys([*telling_apart(known), *several]))
    others += ["rule"] if known["rule"].nunique(dropna=False) > 1 else []
    sweep = {"sweep": _("sweep")} if "sweep" in runs else {}
    return {**sweep, "batch_size": _("batch size"), **labels(others)}


def other_goals(study: Study) -> list[Goal]:
    """Return the targets of a sweep besides its goal, at most six."""
    known = study.runs[has_trained(study.runs)]
    return [goal for goal in shared_goals(known, study.targets) if goal != study.goal][:6]


def to_another_goal(study: Study, goal: Goal) -> dict[str, Estimate]:
    """Return the examples to a goal of every configuration whose runs ended."""
    rows = rows_of(goal, study.targets).merge(finished(study)[["run_dir", "configuration"]], on="run_dir")
    known = rows[rows["reached"].notna()]
    return {
        str(name): estimate(or_infinity(own["examples"].where(own["reached"].fillna(False).astype(bool))))
        for name, own in known.groupby("configuration", sort=False)
    }


def _setting(name: str, value: Any) -> Cell:
    plain = None if pd.isna(value) else value.item() if hasattr(value, "item") else value
    return Cell(setting(name, value), value=plain)


def _estimate(figure: Estimate, write: Callable[[float], str], missed: str = "-") -> Cell:
    """Write a median with its interval; what was not reached is `missed` on a terminal."""
    if not figure.runs:
        return Cell("-")
    numbers = (figure.median, figure.low, figure.high)
    short, least, most = (missed if math.isinf(each) else write(each) for each in numbers)
    if figure.runs < 2:
        return replace(number_cell(figure.median, write), short=short)
    least, most = (text.removesuffix(" s").removesuffix(" %") for text in (least, most))
    ends = "" if least == most else f">{least}" if most == "-" else f"{least}-{most}"
    note = _("{low} to {high}", low=write(figure.low), high=write(figure.high))
    note = _("every run") if figure.low == figure.high else note
    return replace(number_cell(figure.median, write, note, figure.low, figure.high), short=short, ends=ends)


def _reached(group: Replicates) -> Cell:
    if not group.known:
        return Cell(_("unknown"), _("{count} unknown", count=group.runs))
    low, high = group.reached_share
    ends = {"low": localized(f"{low:.0%}"), "high": localized(f"{high:.0%}")}
    several = group.known > 1
    notes = [_("{low} to {high}", **ends)] if several else []
    notes += [_("{count} with a class never predicted", count=group.dead)] if group.dead else []
    notes += [_("{count} unknown", count=group.runs - group.known)] if group.known < group.runs else []
    figure = Cell(share(group.reached, group.known), "; ".join(notes), group.reached / group.known)
    return replace(figure, low=low, high=high, ends=f"{100 * low:.0f}-{ends['high']}") if several else figure


def significant(value: float) -> str:
    """Write seconds with two decimals, and with as many as two digits need below 0.1."""
    if not math.isfinite(value):
        return "-"
    digits = 2 if value >= 0.1 or value <= 0 else 1 - math.floor(math.log10(value))
    return localized(f"{value:.{digits}f}")


# --- Sweeps side by side.


def comparison_table(combined: Study) -> Table:
    """Make a row for every configuration and sweep, each figure compared with the first sweep's."""
    goal, against = combined.goal, _("against A")

    def median(name: str, write: Callable[[float], str]) -> Callable[[Compared], Cell]:
        return lambda row: number_cell(row.median(name), write)

    def of_goal(row: Compared, figure: Cell) -> Cell:
        return Cell(_("another goal")) if goal.problem and row.per_epoch else figure

    columns = [
        Column(_("configuration"), "configuration", lambda row: Cell(row.configuration, value=row.configuration)),
        Column(_("sweep"), "sweep", lambda row: Cell(row.sweep, value=row.sweep)),
        Column(_("s/epoch"), "seconds_per_epoch", median("seconds_per_epoch", seconds)),
        Column(against, "per_epoch_against_a", lambda row: _contrast(row, "per_epoch")),
        Column(up_to(_("seconds"), goal), "seconds_to_goal", median("own_seconds_to_goal", seconds)),
        Column(against, "seconds_against_a", lambda row: of_goal(row, _contrast(row, "to_goal"))),
        Column(up_to(noun_of(combined.runs), goal), "examples_to_goal", median("examples_to_goal", rounded)),
        Column(against, "examples_against_a", lambda row: of_goal(row, _paired(row))),
    ]
    return table_of(columns, compare(combined), lambda row: row.configuration)


def _contrast(row: Compared, name: str) -> Cell:
    """Write `1.23 times as fast`, and whether that is more than the noise between runs and was timed steadily."""
    contrast = getattr(row, name)
    if contrast is None:
        return Cell("")
    ratio = contrast.ratio
    if math.isnan(ratio):
        return Cell(_("neither reaches it"))
    if math.isinf(ratio) or not ratio:
        return Cell(_("reached; not in A") if ratio else _("not reached"))
    notes = [_("timed unsteadily")] if row.is_unsteady else []
    notes.append(
        _("too few runs to tell from noise")
        if contrast.p_value is None
        else _(
            "more than the noise, p = {p:.2g}" if contrast.p_value < SIGNIFICANT else "within the noise, p = {p:.2g}",
            p=contrast.p_value,
        )
    )
    return Cell(_("{ratio} times as fast", ratio=localized(f"{ratio:.3g}")), "; ".join(notes), ratio)


def _paired(row: Compared) -> Cell:
    """Write `1.14 times as many`, and in how many pairs of runs with the same seed."""
    pairs = row.examples
    if pairs is None:
        return Cell("")
    if pairs.smaller == pairs.larger == 0:
        return Cell(_("the same"), _("in {seeds}", seeds=counted(pairs.pairs, "seed")), 1.0)
    ratio = pairs.ratio.median
    often = _(
        "fewer in {share} seeds, more than the noise" if row.examples_decided else "fewer in {share} seeds, undecided",
        share=share(pairs.larger, pairs.pairs),
    )
    if math.isinf(ratio) or not ratio:
        return Cell(_("not reached") if ratio else _("reached; not in A"), often)
    return Cell(_("{ratio} times as many", ratio=localized(f"{ratio:.3g}")), often, ratio)


# --- Runs.


def run_table(runs: pd.DataFrame, fixed: Sequence[str] = FIXED) -> Table:
    """Make a row for every run of a study's `runs`, in its order, its name first.

    Settings that differ between the runs have a column besides the `fixed` ones.
    """
    noun, (below, below_short), varying = noun_of(runs), _below(runs), labels(differing(runs, fixed))
    # A run has a hint if its gradients were measured.
    hint = {"batch_size_hint": _("hint")} if runs["batch_size_hint"].notna().any() else {}
    titles = {
        "batch_size": (_("batch size"), _("batch")),
        "lr": (_("lr"), _("lr")),
        "weight_decay": (_("weight decay"), _("decay")),
    }

    def of(name: str) -> Callable[[dict[str, Any]], Cell]:
        return lambda run: _setting(name, run[name])

    def figure(name: str, write: Callable[[Any], str]) -> Callable[[dict[str, Any]], Cell]:
        return lambda run: Cell("-") if run[name] is None else Cell(write(run[name]), value=run[name])

    first_epoch = Column(below, "first_epoch_below_threshold", _first_epoch, below_short)
    columns = [
        Column(_("run"), "run_dir", lambda run: Cell(str(run["run_dir"]), value=run["run_dir"]), _("run")),
        *(Column(titles[name][0], name, of(name), titles[name][1]) for name in fixed),
        Column(_("s/epoch"), "seconds_per_epoch", _seconds_per_epoch, _("s/epoch")),
        *([] if runs["loss_threshold"].isna().all() else [first_epoch]),
        Column(_("{noun} to it", noun=noun), "examples_to_goal", figure("examples_to_goal", rounded), noun),
        Column(_("final loss"), "final_loss", figure("final_loss", lambda loss: cell(loss, ".4f")), _("loss")),
        Column(_("test accuracy"), "test_accuracy", figure("test_accuracy", lambda of: cell(of, ".2%")), _("test")),
        *(Column(label, name, of(name), label) for name, label in {**hint, **varying}.items()),
        Column(_("status"), "status", _outcome, _("status")),
    ]
    return table_of(columns, as_dicts(runs), lambda run: str(run["run_dir"]))


def differing(runs: pd.DataFrame, fixed: Sequence[str] = FIXED) -> list[str]:
    """Return the settings besides the `fixed` ones that are not the same for all runs, and how their batches grow."""
    others = ["seed", "rule", *(name for name in settings(runs) if name not in fixed)]
    return [
        name
        for name in others
        if runs[name].nunique(dropna=name != "rule") > 1 or (name == GROWTH and runs[name].notna().any())
    ]


def _seconds_per_epoch(run: dict[str, Any]) -> Cell:
    """Runs at the same time share cores and caches: their seconds are not those of a run alone."""
    if (took := run["seconds_per_epoch"]) is None:
        return Cell("-")
    together = _(" ({count} at once)", count=run["concurrent_runs"]) if _is_together(run) else ""
    text = significant(float(took))
    return Cell(f"{text}{together}", value=took, short=f"{text}*" if together else "")


def _is_together(run: dict[str, Any]) -> bool:
    return (run["concurrent_runs"] or 1) > 1


def _first_epoch(run: dict[str, Any]) -> Cell:
    """Write the epoch, or that it was not reached, which is not the same as no figure at all."""
    if (epoch := run["first_epoch_below_threshold"]) is not None:
        return Cell(str(epoch), value=epoch)
    if run["loss_threshold"] is None or not run["epochs"]:
        return Cell("-")
    missed = _("not reached in {epochs}", epochs=counted(run["epochs"], "epoch"))
    return Cell(missed, short=f">{run['epochs']}" if is_miss(run) else "-")


def is_miss(run: dict[str, Any]) -> bool:
    """Return whether a run was trained to its end and did not get below the threshold."""
    has_ended = run["status"] in {status.value for status in Status if status.has_ended}
    could_miss = run["loss_threshold"] is not None and bool(run["epochs"])
    return has_ended and could_miss and run["first_epoch_below_threshold"] is None


def _outcome(run: dict[str, Any]) -> Cell:
    """Write how a run ended, and why if there is a reason: `failed: OSError: no space left`."""
    parts = [_(cell(run[name])) for name in ("status", "ended", "error") if run[name] is not None]
    return Cell(": ".join(parts), value=run["status"], short=parts[0])


def _below(runs: pd.DataFrame) -> tuple[str, str]:
    """Return the titles of the column with the first epoch below the threshold."""
    thresholds = runs["loss_threshold"].dropna().unique()
    if len(thresholds) != 1:
        return _("first epoch below threshold"), _("epoch")
    return _("first epoch < {threshold:g}", threshold=thresholds[0]), _("epoch<{threshold:g}", threshold=thresholds[0])


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """Write rows of text, the header first, in Markdown, with aligned columns that read well on a terminal too."""
    escaped = [[one_line(text).replace("|", "\\|") for text in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*escaped, strict=True)]
    escaped.insert(1, ["-" * width for width in widths])
    return "".join(
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |\n"
        for row in escaped
    )


# --- A study of the critical batch size.


def critical_table(study: Critical) -> Table:
    """Make a row for every goal and batch size."""

    def size(at: dict[str, Any]) -> Cell:
        return Cell(localized(f"{at['batch_size']:,}"), value=at["batch_size"])

    def took(at: dict[str, Any]) -> Cell:
        return number_cell(at["median"] * seconds_per_step(at["answer"], at["real_batch_size"]), seconds)

    def steps(at: dict[str, Any]) -> Cell:
        low, high = at["low"], at["high"]
        ends = _("{low} to {high}, {seeds} seeds", low=rounded(low), high=rounded(high), seeds=at["seeds"])
        ends = _("one seed") if at["seeds"] == 1 else ends
        return number_cell(at["median"], rounded, "" if math.isinf(at["median"]) else ends, low, high)

    def over(at: dict[str, Any]) -> Cell:
        residual = (at["answer"].residuals or {}).get(str(at["batch_size"]))
        return Cell("-") if residual is None else number_cell(math.exp(residual), lambda ratio: cell(ratio, ".2f"))

    columns = [
        Column(_("goal"), "goal", lambda at: _goal_cell(at["answer"])),
        Column(_("batch size"), "batch_size", size),
        Column(_("learning rate"), "lr", lambda at: number_cell(at["lr"], lambda lr: setting("lr", lr))),
        Column(_("steps"), "steps", steps),
        Column(_("over the curve"), "over_the_curve", over),
        Column(_("while tuning"), "steps_while_tuning", lambda at: number_cell(at["tuned_median"], rounded)),
        Column(_("examples"), "examples", lambda at: number_cell(at["median"] * at["real_batch_size"], rounded)),
        Column(_("seconds"), "seconds", took),
    ]  # fmt: skip
    rows = [{**row, "answer": answer} for answer in study.answers for row in study.steps_to(answer).to_dict("records")]
    return table_of(columns, rows, lambda at: goal_text(at["answer"]))


def answer_table(answers: Sequence[Answer]) -> Table:
    """Make a row for every goal: both critical batch sizes, the law, the soonest batch sizes and the noise scale."""

    def of(value: str, ends: str) -> Callable[[Answer], Cell]:
        names = (value, f"{ends}_low", f"{ends}_high")
        return lambda answer: _number_cell(*(getattr(answer, name, None) for name in names))

    columns = [
        Column(_("goal"), "goal", _goal_cell),
        Column(_("critical batch size"), "b_crit", of("b_crit", "b_crit")),
        Column(_("at 20 % more examples"), "b_20", of("b_20", "b_20")),
        Column(_("exponent"), "exponent", of("exponent", "exponent")),
        Column(_("soonest"), "soonest", of("soonest_batch_size", "soonest")),
        Column(_("within 10 % of it"), "within", of("", "within")),
        Column(_("noise scale"), "noise", of("noise_scale_at_target", "noise_scale")),
    ]
    return table_of(columns, answers, goal_text)


def _goal_cell(answer: Answer) -> Cell:
    return Cell(goal_text(answer), value=f"{answer.target} < {answer.threshold}")


def _number_cell(value: float | None, low: float | None, high: float | None) -> Cell:
    ends = "" if low is None or high is None else _("{low} to {high}", low=two_digits(low), high=two_digits(high))
    if value is None:
        return Cell(ends or "-")
    return number_cell(value, two_digits, ends, low, high)


# --- On a terminal: short titles, and below what has to be said in words.


@dataclass(frozen=True)
class ForTerminal:
    """A table of text: `optional` are the titles that give way on a narrow terminal, the first one first."""

    header: list[str]
    rows: list[list[str]]
    notes: list[str]
    optional: list[str]


def _for_terminal(table: Table, notes: Iterable[str], optional: Sequence[str], left_out: Sequence[str]) -> ForTerminal:
    """Leave out columns by their names, and write the others with what is short; intervals stand in a row below."""
    shown = [place for place, each in enumerate(table.columns) if each.short and each.name not in left_out]
    titles = {table.columns[place].name: table.columns[place].short for place in shown}
    rows = []
    for cells in ([row[place] for place in shown] for row in table.rows):
        rows.append([each.short or each.text for each in cells])
        if any(each.ends for each in cells):
            rows.append([each.ends for each in cells])
    return ForTerminal(list(titles.values()), rows, list(notes), [titles[name] for name in optional if name in titles])


def runs_for_terminal(runs: pd.DataFrame) -> ForTerminal:
    """Make a row for every run of a study's `runs`. A column that differs between them gives way to none."""
    alike = [name for name in ("weight_decay", "lr") if runs[name].nunique() < 2]
    # What was swept is in a run's name too.
    optional = [
        *alike,
        "test_accuracy",
        "status",
        "final_loss",
        "examples_to_goal",
        *reversed(differing(runs)),
        "batch_size_hint",
    ]
    return _for_terminal(run_table(runs), _notes(as_dicts(runs)), optional, ())


def _notes(runs: Sequence[dict[str, Any]]) -> Iterator[str]:
    if any(map(is_miss, runs)):
        yield _(">30: not reached in 30 epochs, and so on")
    if any(map(_is_together, runs)):
        yield _("*: together with other runs on one machine")
    ends = grouped((_outcome(run).text, run["run_dir"]) for run in runs if run["ended"] or run["error"])
    for words, names in ends.items():
        yield f"{listed(names)}: {words}"


def for_terminal(study: Study) -> ForTerminal:
    """Make two rows for every configuration of several seeds, the medians and their intervals, else a row a run."""
    if not has_seeds(study):
        return runs_for_terminal(study.runs)
    groups, notes = groups_of(study), [_("second lines: the interval that contains the median, see the page")]
    if any(math.isinf(group.of("first_epoch_below_threshold").high) for group in groups):
        notes.insert(0, _(">30: not reached in 30 epochs, and so on"))
    optional = ["iterations_to_goal", "test_accuracy", "final_loss", "seconds_per_epoch", "reached", "seconds_to_goal"]
    # The name of a configuration has what tells it apart.
    return _for_terminal(configuration_table(study), notes, optional, telling_apart(study.runs))
