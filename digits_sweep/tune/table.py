"""What a search found, beside the lesson's own rates."""

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from digits_sweep.report.analysis.formatting import rate


def best_trials(study: Study, objective: str, most: int) -> tuple[list[str], list[list[str]]]:
    """A header, and a row for each of the best trials and for the trials with the lesson's rates."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    ranked = sorted((trial for trial in trials if trial.state == TrialState.COMPLETE), key=_value)
    given = [trial for trial in trials if "fixed_params" in trial.system_attrs]
    shown = list(dict.fromkeys([trial.number for trial in [*ranked[:most], *given]]))
    by_number = {trial.number: trial for trial in trials}
    header = ["trial", "lr", "weight decay", objective.replace("_", " "), "epochs", "loss"]
    return header, [_row(by_number[number]) for number in shown]


def _value(trial: FrozenTrial) -> float:
    return float("inf") if trial.value is None else trial.value


def _row(trial: FrozenTrial) -> list[str]:
    if trial.state == TrialState.PRUNED:
        value = "pruned"
    else:
        value = "not reached" if _value(trial) == float("inf") else f"{_value(trial):.4g}"
    epochs = sorted(trial.intermediate_values.items())
    last = [str(epochs[-1][0]), f"{epochs[-1][1]:.4f}"] if epochs else ["-", "-"]
    rates = [rate(float(f"{trial.params[name]:.3g}")) for name in ("lr", "weight_decay")]
    return [str(int(trial.user_attrs["folder"].removeprefix("trial_"))), *rates, value, *last]
