"""One sweep as the report sees it: its tables, the name of every configuration, its goal, and what an iteration costs.

Everything that the report reads from a `RecordedSweep` it reads here, in `study_of`.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from digits_sweep.config.growth import sizes_in
from digits_sweep.config.keys import results_of
from digits_sweep.config.schema import softmax_floor
from digits_sweep.config.text import to_text
from digits_sweep.report.plausible import ADDED, implausible
from digits_sweep.report.words import RATES, _, setting
from digits_sweep.results.columns import COLUMNS, COVERED, OWN_LOOP, ColumnRole
from digits_sweep.results.losses import window_width
from digits_sweep.results.record import EvaluationRow, Record, Status
from digits_sweep.results.sweep import Manifest, RecordedSweep, history_of, read_sweep, table_of, targets_in
from digits_sweep.results.targets import BELOW, targets_table

if TYPE_CHECKING:
    from digits_sweep.report.critical import Critical

# What a run has in place of a key that its model, optimizer or data set does not have.
NOT_SET = "not set"
# More measurements of one run than a person takes, and few enough for a table.
MOST_MEASURED = 100_000


# Two are the same if they are the same object: tables have no equality that is true or false.
@dataclass(frozen=True, eq=False)
class Study:
    """A sweep: `runs` is `load_sweep`'s table and `history` `load_history`'s, both with a column `configuration`.

    `runs` also has a column for every key that may change a result and that no column of the summary covers, such as
    `data.scale`; its cells are text. `predictions` has a row for every run that was evaluated and a column for every
    class: how many test digits the run predicts to be of that class. `targets` has the columns of `targets.csv`, and
    `evaluations` those of `evaluations.csv` with `run_dir` and `configuration`. `goal` is what the runs are ranked by;
    the columns of `runs` that `with_goal` adds say how far each had to train. `records` has the whole record of every
    run whose record can be read, by the name of its folder. `critical` is what a study of the critical batch size has
    besides. Several sweeps in one (`statistics.combine`) have a column `sweep` in each table.
    """

    folder: Path
    runs: pd.DataFrame
    history: pd.DataFrame
    predictions: pd.DataFrame
    targets: pd.DataFrame
    evaluations: pd.DataFrame
    goal: "Goal"
    records: dict[str, Record]
    manifest: Manifest | None
    critical: "Critical | None" = None


def load_study(folder: os.PathLike[str] | str) -> Study:
    """Read the sweep in `folder`. A record that cannot be read has a row in `runs` with the reason.

    Raises `UnreadableRecord` if the folder holds no sweep: neither a `sweep.json` that can be read nor a run.
    """
    return study_of(read_sweep(Path(folder)))


def study_of(sweep: RecordedSweep) -> Study:
    """Return the study of a sweep whose records have been read.

    A run that `implausible` names is in `runs` as one whose record cannot be read, and nowhere else.
    """
    # Only a study of the critical batch size needs what reads one.
    from digits_sweep.report.critical import load_critical

    table, history = table_of(sweep), history_of(sweep)
    recorded = {name: run.record for name, run in sweep.runs.items()}
    refused = implausible(table, history, recorded)
    records = {name: record for name, record in recorded.items() if name not in refused}
    runs = with_configurations(_with_other_keys(_emptied(table, refused), records))
    evaluations, targets = _evaluations(sweep), targets_table(list(targets_in(sweep)))
    # The parts of a loop without epochs are no epochs.
    parts = [name for name, run in sweep.runs.items() if not run.has_epochs]
    history = history[~history["run_dir"].isin(parts)]
    history, evaluations, targets = (
        each[~each["run_dir"].isin(list(refused))] for each in (history, evaluations, targets)
    )
    goal = goal_of(runs, targets)
    names = runs.set_index("run_dir")["configuration"]
    predictions = {name: record.test_answers for name, record in records.items() if record.test_answers}
    return Study(
        folder=sweep.folder,
        runs=with_goal(runs, targets, goal),
        history=history.assign(configuration=history["run_dir"].map(names)),
        predictions=pd.DataFrame({name: pd.Series(counts) for name, counts in predictions.items()}).T,
        targets=targets,
        evaluations=evaluations.assign(configuration=evaluations["run_dir"].map(names)),
        goal=goal,
        records=records,
        manifest=sweep.manifest,
        critical=load_critical(sweep.folder, loss_floor(runs)),
    )


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
    rows = [configs.get(name) for name in table["run_dir"]]
    cells: dict[str, Any] = {key: [_text(row, key) for row in rows] for key in keys}
    return table.assign(**cells)


def _text(config: dict[str, Any] | None, key: str) -> str | None:
    """Return the value of a key as text; None if the run's record cannot be read."""
    if config is None:
        return None
    return to_text(config[key]) if key in config else NOT_SET


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
    rows = with_short_rates(runs)[["batch_size", *words]].to_dict("records")
    return runs.assign(configuration=[_name(row, words) for row in rows])


def first_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the first run of every configuration, by its name."""
    return runs.drop_duplicates("configuration").set_index("configuration")


def with_short_rates(runs: pd.DataFrame) -> pd.DataFrame:
    """Return `runs` with rates that a rule has computed as 2.2361e-5, if that still tells them apart."""
    short = {
        name: runs[name].map(lambda rate: float(f"{rate:.5g}"), na_action="ignore") for name in RATES if name in runs
    }
    return runs.assign(**{name: rates for name, rates in short.items() if rates.nunique() == runs[name].nunique()})


def telling_apart(runs: pd.DataFrame, leave_out: Sequence[str] = (), within: Sequence[str] = ()) -> list[str]:
    """Return the settings that differ between runs with one batch size, `within` some columns: one at a time.

    A setting that follows from the batch size and from the ones before it is left out.
    """
    names: list[str] = []
    for name in settings(runs):
        if name in leave_out or (name != GROWTH and runs[name].nunique() < 2):
            continue
        if name == GROWTH and runs[name].notna().any():
            # Always named: the batch size in a name is only what it begins with.
            names.append(name)
            continue
        if runs.groupby(["batch_size", *within, *names], dropna=False)[name].nunique().gt(1).any():
            names.append(name)
    return names


def changing_with_batch_size(runs: pd.DataFrame) -> list[str]:
    """Return the settings that change with the batch size and are in no name: the rates at batch size 5, for example.

    A setting that follows from the others that tell configurations apart is not among them, nor one of the machine.
    """
    others = {column.name for column in COLUMNS if column.mixture} | {"num_threads", "train_samples"}
    differing = {name for name in settings(runs) if name not in others and runs[name].nunique() > 1}
    named = telling_apart(runs)
    if not differing - set(named):
        return []
    groups = runs.groupby(_alike(runs, named))
    names = [name for name in settings(runs) if name in differing - set(named) and groups[name].nunique().gt(1).any()]
    return sorted(names, key=lambda name: name != "lr")


def odd_settings(runs: pd.DataFrame) -> dict[str, str]:
    """Return the setting that changes with the batch size, by the configurations in which it is not the usual one.

    `{"batch size 5": "lr 1e-6"}`: usual is what more than half of the configurations have that are alike but for it and
    their batch sizes.
    """
    first = first_runs(runs)
    odd: dict[str, str] = {}
    for name in changing_with_batch_size(runs)[:1]:
        word = labels([name])[name]
        for values in (group[name] for alike, group in first.groupby(_alike(first, telling_apart(runs)))):
            counts = values.value_counts(dropna=False)
            for configuration, value in values.items():
                if len(counts) > 1 and not pd.isna(value) and 2 * counts[value] <= len(values):
                    odd[str(configuration)] = level(name, word, value)
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


def _name(run: dict[Any, Any], words: dict[str, str]) -> str:
    if pd.isna(run["batch_size"]):
        return _("unreadable")
    parts = [level(name, label, run[name]) for name, label in words.items() if not pd.isna(run[name])]
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
    names = ("target", "threshold", "direction")
    wanted = (goal.measure, goal.threshold, goal.direction)
    same = [targets[name] == value for name, value in zip(names, wanted, strict=True)]
    return targets[same[0] & same[1] & same[2]]


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
    columns = {"examples_to_goal": examples, "iterations_to_goal": iterations}
    own = runs["seconds_per_epoch"] / runs["iterations_per_epoch"]
    if goal.measure not in OF_TRAINING:
        own = own.fillna((at["seconds"] / at["iterations"]).where(at["iterations"] > 0))
    own = own.fillna(runs["seconds_to_threshold"] / runs["iterations_to_threshold"])
    columns["seconds_to_goal"] = iterations.astype("Float64") * seconds_per_iteration(runs).fillna(own)
    columns["own_seconds_to_goal"] = iterations.astype("Float64") * own
    columns["lateness"] = (window / examples.astype("Float64")).clip(upper=1)
    floats = {name: column.astype("Float64") for name, column in columns.items()}
    return runs.assign(**floats, reached=reached.astype("boolean"), never_predicted=never)


def loss_floor(runs: pd.DataFrame) -> float:
    """Return what the loss of these runs cannot fall below: 1.4612 behind a softmax of ten classes, 0 without one.

    Runs with several numbers of classes have that of the fewest.
    """
    if runs["model"].dropna().str.endswith("logits").any() or (runs["engine"] == OWN_LOOP).any():
        return 0.0
    column = runs.get("model.num_classes", pd.Series(dtype=str))
    classes = [int(each) for each in column.dropna().unique() if str(each).isdigit() and int(each) > 1]
    return softmax_floor(min(classes, default=10))


# --- Costs: what an iteration and an example take on this machine, from the seconds of the epochs.


@dataclass(frozen=True)
class Costs:
    """A fit of seconds per epoch = a x iterations + b x examples.

    `parts` has a row for every batch size (its index) and the columns `examples` and `iterations`, the two parts of the
    fit in seconds, and `measured`, the median over the runs.
    """

    seconds_per_iteration: float
    seconds_per_example: float
    parts: pd.DataFrame


def seconds_per_iteration(runs: pd.DataFrame) -> pd.Series:
    """Return what an iteration of every run costs, in seconds; missing if no epoch of such a run was timed.

    It is the median over all runs that do the same work in an iteration: neither the seed nor a rate costs time, so a
    difference of their seconds at equal iterations is noise. Runs of two sweeps have costs of their own.
    """
    own = runs["seconds_per_epoch"].astype("Float64") / runs["iterations_per_epoch"]
    sweep = [name for name in ("sweep",) if name in runs]
    differing = [name for name in _work(runs) if runs[name].nunique(dropna=False) > 1]
    work = [runs[name].astype("string").fillna("") for name in (*sweep, "batch_size", *differing)]
    return own.groupby(work).transform("median")


def _work(runs: pd.DataFrame) -> list[str]:
    """Return the settings that may make an iteration longer: all but rates, which are numbers with a fraction."""
    return [name for name in settings(runs) if runs[name].dtype != "Float64"]


def costs(runs: pd.DataFrame) -> Costs | None:
    """Fit the cost of an iteration and of an example, by non-negative least squares on relative errors over the runs.

    Return None if fewer than two batch sizes were timed, or if the runs differ in more than their batch size, their
    rates and their number of threads: two networks or two engines do not share their costs.
    """
    timed = runs.dropna(subset=["seconds_per_epoch", "iterations_per_epoch", "train_samples"])
    alike = all(timed[name].nunique() <= 1 for name in _work(timed) if name != "num_threads")
    if timed["iterations_per_epoch"].nunique() < 2 or not alike:
        return None
    names = ("iterations_per_epoch", "train_samples", "seconds_per_epoch")
    iteration, example = fitted_costs(*(timed[name].to_numpy(float) for name in names))
    sizes = timed.groupby("batch_size", sort=True)
    first = sizes.first()
    columns = {
        "examples": first["train_samples"].astype(float) * example,
        "iterations": first["iterations_per_epoch"].astype(float) * iteration,
        "measured": sizes["seconds_per_epoch"].median().astype(float),
    }
    return Costs(iteration, example, pd.DataFrame(columns))


def fitted_costs(iterations: np.ndarray, examples: np.ndarray, seconds: np.ndarray) -> tuple[float, float]:
    """Return a and b of seconds = a x iterations + b x examples; each argument is (n,), of two batch sizes or more.

    By non-negative least squares on relative errors.
    """
    terms = np.stack([iterations, examples], axis=1) / seconds[:, None]
    both = np.linalg.lstsq(terms, np.ones(len(seconds)))[0]
    # What rounding leaves of a part that is 0 is no cost.
    both[np.abs(both * terms.mean(axis=0)) < 1e-9] = 0.0
    if (both >= 0).all():
        return float(both[0]), float(both[1])
    # One of them is 0 then, and the other is fitted alone: whichever leaves the smaller error.
    alone = terms.sum(axis=0) / (terms**2).sum(axis=0)
    errors = ((terms * alone - 1) ** 2).sum(axis=0)
    return (float(alone[0]), 0.0) if errors[0] <= errors[1] else (0.0, float(alone[1]))
