"""What a search has found, beside the lesson's own rates."""

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from digits_sweep.config.keys import written
from digits_sweep.tune.confirm import Confirmed
from digits_sweep.tune.search import number_of
from digits_sweep.tune.settings import SEARCHED


def best_trials(study: Study, objective: str, most: int) -> tuple[list[str], list[list[str]]]:
    """Return a header, and a row for each of the `most` best trials and for those with the lesson's rates."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    ranked = sorted((trial for trial in trials if trial.state == TrialState.COMPLETE), key=_value)
    given = [trial for trial in trials if "fixed_params" in trial.system_attrs]
    shown = list(dict.fromkeys([trial.number for trial in [*ranked[:most], *given]]))
    by_number = {trial.number: trial for trial in trials}
    names = [name.replace("_", " ") for name in (*SEARCHED, objective)]
    return ["trial", *names, "runs"], [_row(by_number[number]) for number in shown]


def _value(trial: FrozenTrial) -> float:
    return float("inf") if trial.value is None else trial.value


def _row(trial: FrozenTrial) -> list[str]:
    value = "given up" if trial.state == TrialState.PRUNED else _written(_value(trial))
    rates = [written(float(f"{trial.params[name]:.3g}")) for name in SEARCHED]
    runs = ", ".join(_written(float(each)) for each in trial.user_attrs.get("values", []))
    return [str(number_of(trial.user_attrs["folder"])), *rates, value, runs]


def _written(value: float) -> str:
    return "not reached" if value == float("inf") else f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def confirmation(confirmed: Confirmed, objective: str) -> str:
    """Say what the best trial's rates give on fresh seeds, beside what they gave in the search."""
    found, name = confirmed.median, objective.replace("_", " ")
    rates = ", ".join(f"{rate.replace('_', ' ')} {confirmed.trial.params[rate]:.3g}" for rate in SEARCHED)
    low, high = min(confirmed.values), max(confirmed.values)
    more = f", {abs(found / confirmed.tuned - 1):.0%} {'more' if found >= confirmed.tuned else 'less'}"
    return (
        f"{rates} on {len(confirmed.values)} fresh seeds: {name} {_written(found)} ({_written(low)} to "
        f"{_written(high)}); in the search {_written(confirmed.tuned)}{more if found < float('inf') else ''}"
    )
