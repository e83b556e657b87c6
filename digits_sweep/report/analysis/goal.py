"""The goal of a sweep: what its runs are ranked by, and how many examples and iterations each needed to reach it."""

from dataclasses import dataclass

import pandas as pd

from digits_sweep.report.analysis.curves.cost import seconds_per_iteration
from digits_sweep.report.language import said

RUNNING_LOSS = "running_loss"
NAMES = {
    "running_loss": "{threshold:g}",
    "train_loss": "{threshold:g}",
    "train_error": "a training error of {threshold:g}",
    "test_loss": "a test loss of {threshold:g}",
    "test_error": "a test error of {threshold:g}",
}


@dataclass(frozen=True)
class Goal:
    """A measure below a threshold for the first time: the running loss, or a column of `evaluations.csv`.

    `problem` says why the runs have no common goal; each is then held against its own threshold of the running loss.
    """

    measure: str = RUNNING_LOSS
    threshold: float | None = None
    problem: str | None = None

    def __str__(self) -> str:
        if not self.threshold:
            return said("the threshold")
        return said(NAMES[self.measure], threshold=self.threshold)


def goal_of(runs: pd.DataFrame, targets: pd.DataFrame) -> Goal:
    """Return what the `runs` of a sweep have as a common goal; `targets` has the columns of `targets.csv`.

    The loss at frozen weights, if all runs measured it, comes before the running loss, which lags behind where the loss
    is steep. Behind a softmax that cross-entropy squashes again a loss is another thing than behind logits: runs with
    several heads are ranked by an error, if they have one as a target.
    """
    trained = runs[runs["batch_size"].notna() & (runs["epochs"].fillna(0) > 0)]
    shared = _shared(trained, targets)
    errors = [goal for goal in shared if goal.measure.endswith("_error")]
    heads, thresholds = (trained[name].dropna().unique() for name in ("head", "loss_threshold"))
    if len(heads) > 1:
        unlike = said(
            "a loss behind {heads} is not the same measure, so these runs are not ranked by one; an error is "
            "(evaluation=fine evaluation.targets.test_error=[0.1])",
            heads=said(" and behind ").join(heads),
        )
        return errors[0] if errors else Goal(problem=unlike)
    if len(thresholds) > 1:
        unlike = said("these runs have different thresholds, so they are not ranked")
        return shared[0] if shared else Goal(problem=unlike)
    if not len(thresholds):
        return Goal()
    frozen = Goal("train_loss", float(thresholds[0]))
    return frozen if frozen in shared else Goal(threshold=float(thresholds[0]))


def _shared(runs: pd.DataFrame, targets: pd.DataFrame) -> list[Goal]:
    """Return the targets that all runs have, reached or not."""
    own = targets[targets["run_dir"].isin(runs["run_dir"])]
    counts = own.groupby(["target", "threshold"], sort=False)["run_dir"].nunique()
    return [Goal(str(name), float(value)) for (name, value), count in counts.items() if count == len(runs)]


def with_goal(runs: pd.DataFrame, targets: pd.DataFrame, goal: Goal) -> pd.DataFrame:
    """Add to every run how much training it needed to reach the goal; empty: not reached.

    `examples_to_goal` and `iterations_to_goal` are the same on every machine. `seconds_to_goal` are these iterations at
    what one costs at this batch size, over all runs; `own_seconds_to_goal` at what it costs in this run alone.
    `never_predicted` counts the classes that are never predicted: at the goal if that was evaluated, else at the end.
    """
    runs = runs.reset_index(drop=True)
    if goal.measure == RUNNING_LOSS:
        reached = runs["first_epoch_below_threshold"]
        # Before the losses of iterations were kept, a threshold was counted as reached at the end of an epoch.
        examples = runs["examples_to_threshold"].fillna(reached * runs["train_samples"])
        iterations = runs["iterations_to_threshold"].fillna(reached * runs["iterations_per_epoch"])
        never = runs["classes_never_predicted"]
    else:
        rows = targets[(targets["target"] == goal.measure) & (targets["threshold"] == goal.threshold)]
        at = rows.drop_duplicates("run_dir").set_index("run_dir").reindex(runs["run_dir"]).reset_index(drop=True)
        examples, iterations = at["examples"], at["iterations"]
        never = at["classes_never_predicted"].fillna(runs["classes_never_predicted"])
    columns = {"examples_to_goal": examples, "iterations_to_goal": iterations}
    own = (runs["seconds_per_epoch"] / runs["iterations_per_epoch"]).fillna(
        runs["seconds_to_threshold"] / runs["iterations_to_threshold"]
    )
    columns["seconds_to_goal"] = iterations.astype("Float64") * seconds_per_iteration(runs).fillna(own)
    columns["own_seconds_to_goal"] = iterations.astype("Float64") * own
    return runs.assign(**{name: each.astype("Float64") for name, each in columns.items()}, never_predicted=never)
