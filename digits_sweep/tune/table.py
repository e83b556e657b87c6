"""What a search has found, beside the lesson's own rates."""

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from digits_sweep.config.keys import written
from digits_sweep.tune.settings import SEARCHED


def best_trials(study: Study, objective: str, most: int) -> tuple[list[str], list[list[str]]]:
    """Return a header, and a row for each of the `most` best trials and for those with the lesson's rates."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    ranked = sorted((trial for trial in trials if trial.state == TrialState.COMPLETE), key=_value)
    given = [trial for trial in trials if "fixed_params" in trial.system_attrs]
    shown = list(dict.fromkeys([trial.number for trial in [*ranked[:most], *given]]))
    by_number = {trial.number: trial for trial in trials}
    names = [name.replace("_", " ") for name in (*SEARCHED, objective)]
    return ["trial", *names, "epochs", "loss"], [_row(by_number[number]) for number in shown]


def _value(trial: FrozenTrial) -> float:
    return float("inf") if trial.value is None else trial.value


def _row(trial: FrozenTrial) -> list[str]:
    if trial.state == TrialState.PRUNED:
        value = "pruned"
    else:
        value = "not reached" if _value(trial) == float("inf") else f"{_value(trial):.4g}"
    epochs = sorted(trial.intermediate_values.items())
    last = [str(epochs[-1][0]), f"{epochs[-1][1]:.4f}"] if epochs else ["-", "-"]
    rates = [written(float(f"{trial.params[name]:.3g}")) for name in SEARCHED]
    return [str(int(trial.user_attrs["folder"].removeprefix("trial_"))), *rates, value, *last]
