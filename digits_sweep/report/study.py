"""One sweep as the report sees it: its tables, the name of every configuration, its goal, and what an iteration costs.

Everything that the report reads from a `RecordedSweep` it reads here, in `study_of`.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from digits_sweep.config.keys import KEY, results_of, value_of
from digits_sweep.config.scaling import sizes_in
from digits_sweep.config.schema import softmax_floor
from digits_sweep.config.text import to_text
from digits_sweep.report.critical import Critical, load_critical
from digits_sweep.report.words import RATES, _, setting
from digits_sweep.results.columns import COLUMNS, COVERED, LIMITS, OWN_LOOP, ColumnRole
from digits_sweep.results.losses import window_width
from digits_sweep.results.record import LONGEST_VALUE, MOST_CLASSES, MOST_KEYS, EvaluationRow, Record, Status
from digits_sweep.results.sweep import Manifest, RecordedSweep, history_of, read_sweep, table_of, targets_in
from digits_sweep.results.targets import BELOW, targets_table

# What a run has in place of a key that its model, optimizer or data set does not have.
NOT_SET = "not set"
# More measurements of one run than a person takes, and few enough for a table.
MOST_MEASURED = 100_000
# Columns that a study adds to the table of the runs: no key may be called so.
ADDED = (
    *("configuration", "sweep", "never_predicted", "reached"),
    *("examples_to_goal", "iterations_to_goal", "seconds_to_goal", "own_seconds_to_goal", "lateness"),
)


# Two are the same if they are the same object: tables have no equality that is true or false.
@dataclass(frozen=True, eq=False)
class Study:
    """A sweep: `runs` is `load_sweep`'s table and `history` `load_history`'s, both with a column `configuration`.

    `runs` also has a column for every key that may change a result and that no column of the summary covers, such as
    `data.scale`; its cells are text. `targets` has the columns of `targets.csv`, and `evaluations` those of
    `evaluations.csv` with `run_dir` and `configuration`. `goal` is what the runs are ranked by; the columns of `runs`
    that `with_goal` adds say how far each had to train. `records` has the whole record of every run whose record can be
    read, by the name of its folder. `critical` is what a study of the critical batch size has besides. Several sweeps
    in one (`ranking.combine`) have a column `sweep` in each table.
    """

    folder: Path
    runs: pd.DataFrame
    history: pd.DataFrame
    targets: pd.DataFrame
    evaluations: pd.DataFrame
    goal: "Goal"
    records: dict[str, Record]
    manifest: Manifest | None
    critical: Critical | None = None


def load_study(folder: os.PathLike[str] | str) -> Study:
    """Read the sweep in `folder`. A record that cannot be read has a row in `runs` with the reason.

    Raises `UnreadableRecord` if the folder holds no sweep: neither a `sweep.json` that can be read nor a run.
    """
    return study_of(read_sweep(Path(folder)))


def study_of(sweep: RecordedSweep) -> Study:
    """Return the study of a sweep whose records have been read.

    A run that cannot be counted is in `runs` as one whose record cannot be read, and nowhere else.
    """
    table, history, evaluations = table_of(sweep), history_of(sweep), _evaluations(sweep)
    targets = targets_table(list(targets_in(sweep)))
    refused = _implausible(table, history, sweep)
    records = {name: run.record for name, run in sweep.runs.items() if name not in refused}
    runs = _with_other_keys(_emptied(table, refused), records)
    # The parts of a loop without epochs are no epochs.
    history = history[history["run_dir"].isin([name for name in records if sweep.runs[name].has_epochs])]
    evaluations, targets = (each[~each["run_dir"].isin(list(refused))] for each in (evaluations, targets))
    critical = load_critical(sweep.folder, loss_floor(runs))
    return study_from(
        runs, history, evaluations, targets, folder=sweep.folder, records=records, manifest=sweep.manifest,
        critical=critical,
    )  # fmt: skip


def study_from(
    runs: pd.DataFrame, history: pd.DataFrame, evaluations: pd.DataFrame, targets: pd.DataFrame,
    leave_out: Sequence[str] = (), **others: Any,
) -> Study:  # fmt: skip
    """Return the study of these tables: every configuration has its name, which has no setting of `leave_out`."""
    goal = goal_of(runs, targets)
    runs = with_goal(with_configurations(runs, leave_out), targets, goal)
    names = runs.set_index("run_dir")["configuration"]
    history, evaluations = (table.assign(configuration=table["run_dir"].map(names)) for table in (history, evaluations))
    return Study(runs=runs, history=history, targets=targets, evaluations=evaluations, goal=goal, **others)


def as_dicts(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table by the names of its columns; a missing cell, or a NaN, is None."""
    plain = table.astype(object)
    return plain.where(plain.notna(), None).to_dict("records")


def grouped(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    """Return what has the same key together: of pairs of a key and, say, the name of a run."""
    groups: dict[Any, list[Any]] = {}
    for key, each in pairs:
        groups.setdefault(key, []).append(each)
    return groups


def _evaluations(sweep: RecordedSweep) -> pd.DataFrame:
    """Return the rows of `evaluations.csv`, with a column for every measure of the user's in `measures.csv`."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    names = dict.fromkeys(each.name for each in fields(EvaluationRow))
    for run in sweep.runs.values():
        rows |= {(run.name, row.iterations): {"run_dir": run.name, **asdict(row)} for row in run.evaluations}
        for measured in run.measures[:MOST_MEASURED]:
            if (row := rows.get((run.name, measured.iterations))) and measured.measure != "configuration":
                row.setdefault(measured.measure, measured.value)
                names[measured.measure] = None
    table = pd.DataFrame(list(rows.values()), columns=["run_dir", *names])
    return table.astype(dict.fromkeys(names, float))


def _emptied(table: pd.DataFrame, refused: dict[str, str]) -> pd.DataFrame:
    """Return the table with the rows of some runs emptied, but for the folder and the reason."""
    rows = table["run_dir"].isin(list(refused))
    if not rows.any():
        return table
    copy = table.copy()
    copy.loc[rows, list(table.columns.drop("run_dir"))] = pd.NA
    copy.loc[rows, "status"] = str(Status.UNKNOWN)
    copy.loc[rows, "error"] = table["run_dir"].map(refused)
    return copy


def _with_other_keys(table: pd.DataFrame, records: dict[str, Record]) -> pd.DataFrame:
    """Add a column for every key that may change a result and that no column covers, a cell a run."""
    configs = {name: results_of(record.config) for name, record in records.items()}
    keys = dict.fromkeys(key for config in configs.values() for key in config if key not in COVERED)

    def cell(run: str, key: str) -> str | None:
        if run not in configs:
            return None
        return to_text(configs[run][key]) if key in configs[run] else NOT_SET

    cells: dict[str, Any] = {key: [cell(run, key) for run in table["run_dir"]] for key in keys}
    return table.assign(**cells)


# --- Which runs can be counted: a record with a right checksum may still hold what no run results in.


def _implausible(table: pd.DataFrame, history: pd.DataFrame, sweep: RecordedSweep) -> dict[str, str]:
    """Return why, for every run that cannot be counted, by the name of its folder."""
    epochs = dict(iter(history.groupby("run_dir")))
    cells = {run["run_dir"]: run for run in as_dicts(table)}
    doubts = (
        (name, chain(_in_record(run.record), _in_history(run.record, epochs.get(name)), _in_row(cells[name])))
        for name, run in sweep.runs.items()
    )
    return {name: doubt for name, of_run in doubts if (doubt := next(of_run, None))}


def _in_record(record: Record) -> Iterator[str]:
    keys = results_of(record.config)
    if len(keys) > MOST_KEYS:
        yield f"record.json: a configuration of {len(keys):,} keys"
    names = {column.name for column in COLUMNS} - {"seed", "device", "num_threads"}
    for key, value in list(keys.items())[:MOST_KEYS]:
        if not KEY.fullmatch(str(key)) or key in names or key in ADDED:
            yield f"record.json: {key[:40]!r} is no key of a configuration"
        elif len(to_text(value)) > LONGEST_VALUE:
            yield f"record.json: {key} has {len(to_text(value)):,} characters"
    if len(record.test_answers or []) > MOST_CLASSES:
        yield f"record.json: test_answers are not counts of at most {MOST_CLASSES:,} classes"


def _in_history(record: Record, epochs: pd.DataFrame | None) -> Iterator[str]:
    if epochs is None:
        return
    if not epochs["seconds"].between(1e-12, 1e12).all():
        yield "history.csv: an epoch took no time, or no number of seconds"
    # A loss of the user's may be below 0.
    is_own = OWN_LOOP in (record.engine, value_of(record.config, "engine.name"))
    if not is_own and value_of(record.config, "loss.name") != "own" and (epochs["loss_mean"] < 0).any():
        yield "history.csv: a loss below 0"


def _in_row(run: dict[str, Any]) -> Iterator[str]:
    for name, rule in LIMITS.items():
        if run[name] is not None and not rule.holds(run[name]):
            yield f"record.json: {name} is {to_text(run[name])}"
    # Of a loop of the user's the batch size alone is known to be there.
    needed = ["batch_size"] if run["engine"] == OWN_LOOP else ["batch_size", "lr", "weight_decay"]
    if run["engine"] != OWN_LOOP and run["batch_schedule"] is None:
        needed.append("iterations_per_epoch")
    if run["epochs"]:
        yield from (f"record.json: {name} is missing" for name in needed if run[name] is None)


# --- Configurations: the same name for the seeds of one configuration, and for nothing else.

# Two runs of one configuration differ in the seed; the batch size is in every configuration's name; a rule is where the
# numbers come from, and two that give the same numbers are one configuration.
GROWTH = "batch_schedule"
# So many configurations are named one by one: in the verdict, the legend, beside their lines; a table has their order.
MOST_NAMED = 6
NO_PART_OF_THE_NAME = ("seed", "batch_size", "rule")
NAMES_OF_CHOICES = {column.name for column in COLUMNS for key in column.keys if key.endswith(".name")} | {"device"}


def settings(runs: pd.DataFrame) -> list[str]:
    """Return the columns of a study's `runs` that are settings and may tell configurations apart."""
    roles = {column.name: column.role for column in COLUMNS}
    names = [name for name in runs.columns if roles.get(name, ColumnRole.SETTING) is ColumnRole.SETTING]
    # Choices such as the optimizer come first: rates often follow from them.
    names.sort(key=lambda name: not (name in roles and pd.api.types.is_string_dtype(runs[name])))
    return [name for name in names if name not in (*NO_PART_OF_THE_NAME, *ADDED)]


def with_configurations(runs: pd.DataFrame, leave_out: Sequence[str] = ()) -> pd.DataFrame:
    """Add the column `configuration`: a name that is the same for runs whose settings are, whatever their seeds.

    The batch size is always in the name, and what `telling_apart` returns.
    """
    words = labels(telling_apart(runs, leave_out))
    # Rates that a rule has computed are written as 2.2361e-5, if that still tells them apart.
    rates = runs[[name for name in RATES if name in runs]].map(lambda rate: float(f"{rate:.5g}"), na_action="ignore")
    short = {name: rates[name] for name in rates if rates[name].nunique() == runs[name].nunique()}
    rows = as_dicts(runs.assign(**short)[["batch_size", *words]])
    return runs.assign(configuration=[_name(row, words) for row in rows])


def first_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the first run of every configuration, by its name."""
    return runs.drop_duplicates("configuration").set_index("configuration")


def telling_apart(runs: pd.DataFrame, leave_out: Sequence[str] = (), within: Sequence[str] = ()) -> list[str]:
    """Return the settings that differ between runs with one batch size, `within` some columns: one at a time.

    A setting that follows from the batch size and from the ones before it is left out.
    """
    names: list[str] = []
    for name in settings(runs):
        # The batch size in a name is only what one that grows begins with.
        grows = name == GROWTH and runs[name].notna().any()
        others = ["batch_size", *within, *names]
        differs = runs[name].nunique() > 1 and runs.groupby(others, dropna=False)[name].nunique().gt(1).any()
        if name not in leave_out and (grows or differs):
            names.append(name)
    return names


def odd_settings(runs: pd.DataFrame) -> dict[str, str]:
    """Return the setting that changes with the batch size, by the configurations in which it is not the usual one.

    `{"batch size 5": "lr 1e-6"}`: usual is what more than half of the configurations have that are alike but for it and
    their batch sizes. It is in no name, follows from no other that tells configurations apart, and is none of the
    machine.
    """
    named = telling_apart(runs)
    others = {column.name for column in COLUMNS if column.mixture} | {"num_threads", "train_samples", *named}
    differing = [name for name in settings(runs) if name not in others and runs[name].nunique() > 1]
    groups = runs.groupby(_alike(runs, named))
    changing = [name for name in differing if groups[name].nunique().gt(1).any()]
    if not changing:
        return {}
    name = "lr" if "lr" in changing else changing[0]
    first, odd = first_runs(runs), {}
    for _alikes, values in first.groupby(_alike(first, named))[name]:
        counts = values.value_counts(dropna=False)
        for configuration, value in values.items():
            if len(counts) > 1 and not pd.isna(value) and 2 * counts[value] <= len(values):
                odd[str(configuration)] = level(name, labels([name])[name], value)
    return odd


def _alike(table: pd.DataFrame, named: Sequence[str]) -> pd.Series:
    """Return for every row its settings that tell configurations of one batch size apart, as one text."""
    if not named:
        return pd.Series("", index=table.index)
    return table[list(named)].astype("string").fillna("").agg(", ".join, axis=1)


def labels(names: Sequence[str]) -> dict[str, str]:
    """Return what the columns are called in text: `scale` for `data.scale`; the whole key if two have one ending."""
    short = {name: name.rpartition(".")[2].replace("_", " ") for name in names}
    endings = list(short.values())
    return {name: label if endings.count(label) == 1 else name for name, label in short.items()}


def level(name: str, label: str, value: Any) -> str:
    """Write one setting; the name of a choice, such as `sgd` or `eager`, needs no label."""
    if name == GROWTH:
        later = (sizes_in(value) or ())[1:]
        parts = [_("{size} from {examples:,}", size=size, examples=examples) for examples, size in later]
        return ", ".join(parts) or _("growing")
    return str(value) if name in NAMES_OF_CHOICES else f"{label} {setting(name, value)}"


def shortened(configuration: str) -> str:
    """Return the name of a configuration without the words in front of its batch size."""
    return configuration.removeprefix(_("batch size {size}", size=""))


def _name(run: dict[str, Any], words: dict[str, str]) -> str:
    if run["batch_size"] is None:
        return _("unreadable")
    parts = [level(name, label, run[name]) for name, label in words.items() if run[name] is not None]
    return ", ".join([_("batch size {size}", size=run["batch_size"]), *parts])


# --- The goal: what runs are ranked by, and how much training each needed to reach it.

RUNNING_LOSS, EPOCH_LOSS = OF_TRAINING = ("running_loss", "epoch_loss")
# In the order in which runs are ranked by them if several are targets.
MEASURES = {
    "test_error": "a test error of {threshold:g}",
    "train_error": "a training error of {threshold:g}",
    "test_loss": "a test loss of {threshold:g}",
    "train_loss": "{threshold:g}",
    RUNNING_LOSS: "{threshold:g}",
    EPOCH_LOSS: "{threshold:g}",
}


@dataclass(frozen=True)
class Goal:
    """A measure that meets a threshold for the first time: the running loss, or what `evaluated` was called with.

    A loss or an error is to be below it; `direction` says how any other measure is to stand to it.
    If the losses of some run's iterations are not known, it is the mean loss of an epoch, for all runs. `problem` says
    why the runs have no common goal; each is then held against its own threshold of the running loss.
    """

    measure: str = RUNNING_LOSS
    threshold: float | None = None
    problem: str | None = None
    direction: str = BELOW

    @property
    def rises(self) -> bool:
        """Whether the measure is to rise to the threshold."""
        return not self.direction.startswith(BELOW)

    def __str__(self) -> str:
        if self.threshold is None:
            return _("the threshold")
        if self.measure not in MEASURES:
            return _("{measure} of {threshold:g}", measure=self.measure, threshold=self.threshold)
        return _(MEASURES[self.measure], threshold=self.threshold)


def goal_of(runs: pd.DataFrame, targets: pd.DataFrame) -> Goal:
    """Return what the `runs` of a sweep have as a common goal; `targets` has the columns of `targets.csv`.

    A target that the user has set comes first. The loss at frozen weights, if all runs measured it, comes before the
    running loss, which lags behind where the loss is steep. Behind a softmax that cross-entropy squashes again a loss
    is another thing than behind logits: runs with several heads are ranked by an error, if it is a target.
    """
    trained = runs[runs["batch_size"].notna() & has_trained(runs)]
    shared = shared_goals(trained, targets)
    heads, thresholds = (trained[name].dropna().unique() for name in ("head", "loss_threshold"))
    usual = [Goal("train_loss", float(each)) for each in thresholds]
    of_training = _loss_of_training(trained)
    errors = [goal for goal in shared if goal.measure.endswith("_error")]
    if len(heads) > 1:
        unlike = _(
            "a loss behind {heads} is not the same measure, so these runs are not ranked by one; an error is "
            "(evaluation=fine evaluation.targets.test_error=[0.1])",
            heads=_(" and behind ").join(heads),
        )
        return _hardest(errors, targets) if errors else Goal(of_training, problem=unlike)
    if own := [goal for goal in shared if goal not in usual]:
        return _hardest(own, targets)
    if len(thresholds) > 1:
        return Goal(of_training, problem=_("these runs have different thresholds, so they are not ranked"))
    if not len(thresholds):
        problem = _("these runs have no goal: neither a threshold of the loss nor a target in common")
        return Goal(of_training, problem=problem if len(trained) else None)
    return usual[0] if usual[0] in shared else Goal(of_training, float(thresholds[0]))


def _loss_of_training(runs: pd.DataFrame) -> str:
    """Return which loss can be counted in all runs: an epoch's, if a run passed the threshold with that alone."""
    known = runs[runs["status"] != Status.UNKNOWN.value]
    alone = known["first_epoch_below_threshold"].notna() & known["examples_to_threshold"].isna()
    return EPOCH_LOSS if alone.any() else RUNNING_LOSS


def shared_goals(runs: pd.DataFrame, targets: pd.DataFrame) -> list[Goal]:
    """Return the targets that all `runs` have, reached or not: errors first, of one measure the easiest first."""
    own = targets[targets["run_dir"].isin(runs["run_dir"])]
    counts = own.groupby(["target", "threshold", "direction"])["run_dir"].nunique()
    goals = [
        Goal(str(name), float(value), direction=str(direction))
        for (name, value, direction), count in counts.items()
        if count == len(runs)
    ]
    measures = [*MEASURES, *sorted({goal.measure for goal in goals} - MEASURES.keys())]
    return sorted(
        goals, key=lambda goal: (measures.index(goal.measure), (goal.threshold or 0) * (1 if goal.rises else -1))
    )


def _hardest(goals: Sequence[Goal], targets: pd.DataFrame) -> Goal:
    """Return the last goal of the first measure that a run has reached, or its easiest if none has."""
    of_measure = [goal for goal in goals if goal.measure == goals[0].measure]
    reached = [goal for goal in of_measure if rows_of(goal, targets)["reached"].fillna(False).any()]
    return reached[-1] if reached else of_measure[0]


def rows_of(goal: Goal, targets: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `targets.csv` that are about a goal."""
    is_same = (targets["target"] == goal.measure) & (targets["threshold"] == goal.threshold)
    return targets[is_same & (targets["direction"] == goal.direction)]


def has_trained(runs: pd.DataFrame) -> pd.Series:
    """Return whether each of the `runs` trained for an iteration or more: a loop of the user's may have no epochs."""
    return (runs["iterations"].fillna(0) > 0) | (runs["epochs"].fillna(0) > 0)


def with_goal(runs: pd.DataFrame, targets: pd.DataFrame, goal: Goal) -> pd.DataFrame:
    """Add to every run how much training it needed to reach the goal; empty: not reached, or unknown.

    `reached` is True or False, and empty if that is unknown. `examples_to_goal` and `iterations_to_goal` are the same
    on every machine. `seconds_to_goal` are these iterations at what one costs at this batch size, over all runs;
    `own_seconds_to_goal` at what it costs in this run alone. `lateness` is the share of them by which the run may have
    reached the goal earlier: a mean looks back as far as its window. `never_predicted` counts the classes that are
    never predicted: at the goal if that was evaluated, else at the end.
    """
    runs = runs.reset_index(drop=True)
    window: Any = 0
    if goal.measure in OF_TRAINING:
        whole: Any = runs[["first_epoch_below_threshold", "train_samples", "batch_size"]].astype("Int64")
        epoch, samples, batch_size = (whole[name] for name in whole)
        examples, iterations = runs["examples_to_threshold"], runs["iterations_to_threshold"]
        window = window_width(batch_size, samples)
        if goal.measure == EPOCH_LOSS:
            examples, iterations, window = epoch * samples, epoch * runs["iterations_per_epoch"], samples
        reached = examples.notna().mask(runs["status"] == Status.UNKNOWN.value)
        never = runs["classes_never_predicted"]
    else:
        rows = rows_of(goal, targets).drop_duplicates("run_dir").set_index("run_dir")
        at = rows.reindex(runs["run_dir"]).reset_index(drop=True)
        examples, iterations, reached = at["examples"], at["iterations"], at["reached"]
        never = at["classes_never_predicted"].fillna(runs["classes_never_predicted"])
    own = runs["seconds_per_epoch"].astype("Float64") / runs["iterations_per_epoch"]
    usual = own.groupby(_work(runs)).transform("median")
    if goal.measure not in OF_TRAINING:
        own = own.fillna((at["seconds"] / at["iterations"]).where(at["iterations"] > 0))
    own = own.fillna(runs["seconds_to_threshold"] / runs["iterations_to_threshold"])
    columns = {
        "examples_to_goal": examples,
        "iterations_to_goal": iterations,
        "seconds_to_goal": iterations.astype("Float64") * usual.fillna(own),
        "own_seconds_to_goal": iterations.astype("Float64") * own,
        "lateness": (window / examples.astype("Float64")).clip(upper=1),
    }
    floats = {name: column.astype("Float64") for name, column in columns.items()}
    return runs.assign(**floats, reached=reached.astype("boolean"), never_predicted=never)


def slowing(runs: pd.DataFrame) -> list[str]:
    """Return the settings that may make an iteration longer: all but rates, which are numbers with a fraction."""
    return [name for name in settings(runs) if runs[name].dtype != "Float64"]


def _work(runs: pd.DataFrame) -> list[pd.Series]:
    """Return what tells apart the work of an iteration: runs of two sweeps have costs of their own.

    Neither the seed nor a rate costs time, so a difference of seconds at equal iterations is noise.
    """
    differing = [name for name in slowing(runs) if runs[name].nunique(dropna=False) > 1]
    names = ["batch_size", *differing, *(["sweep"] if "sweep" in runs else [])]
    return [runs[name].astype("string").fillna("") for name in names]


def loss_floor(runs: pd.DataFrame) -> float:
    """Return what the loss of these runs cannot fall below: 1.4612 behind a softmax of ten classes, 0 without one.

    Runs with several numbers of classes have that of the fewest.
    """
    if runs["model"].dropna().str.endswith("logits").any() or (runs["engine"] == OWN_LOOP).any():
        return 0.0
    column = runs.get("model.num_classes", pd.Series(dtype=str))
    classes = [int(each) for each in column.dropna().unique() if str(each).isdigit() and int(each) > 1]
    return softmax_floor(min(classes, default=10))
