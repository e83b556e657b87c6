"""What a search is asked to do: `conf/tune.yaml`, the `tune.` keys of the command line, and the runs' configuration."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from omegaconf import MISSING

from digits_sweep.config.command_line import key_of
from digits_sweep.config.hydra.own_keys import MOST_SEEDS, own_keys
from digits_sweep.config.keys import role_of, written
from digits_sweep.config.plan import Plan, plan
from digits_sweep.config.rules import Role
from digits_sweep.errors import InvalidConfig
from digits_sweep.results.disk.files import safe_name

# The keys of an optimizer that a search tries values of.
SEARCHED = ("lr", "weight_decay")

# Far above what any search needs: a list of so many names is made for every trial.
MOST_TRIALS = 100_000

# What can be minimized, and the column of the summary that holds it.
OBJECTIVES = {
    "examples_to_threshold": "examples_to_threshold",
    "iterations_to_threshold": "iterations_to_threshold",
    "seconds_to_threshold": "seconds_to_threshold",
    "epochs_to_threshold": "first_epoch_below_threshold",
    "final_loss": "final_loss",
}


@dataclass
class TuneConfig:
    """`conf/tune.yaml`, typed."""

    objective: str = MISSING
    trials: int = MISSING
    seeds: int = MISSING
    confirm: int = MISSING
    lr: list[float] = MISSING
    weight_decay: list[float] = MISSING
    start_from_lesson: bool = MISSING
    prune: bool = MISSING
    seed: int = MISSING
    study: str | None = MISSING
    storage: str | None = MISSING


def read_settings(arguments: Sequence[str]) -> tuple[TuneConfig, list[str]]:
    """Return the search's own settings, and the overrides that are left for its runs.

    Raises `InvalidConfig` with key, value and what would be right.
    """
    if flag := next((argument for argument in arguments if argument.startswith("-")), None):
        raise InvalidConfig(f"{flag}: not for a search; its keys are tune.... of conf/tune.yaml and those of a run")
    own = [argument.removeprefix("tune.") for argument in arguments if argument.startswith("tune.")]
    overrides = [argument for argument in arguments if not argument.startswith("tune.")]
    settings = own_keys(TuneConfig, "tune.yaml", "tune.", own)
    _check(settings)
    for typed in overrides:
        _check_override(typed)
    settings.study = safe_name(settings.study or "_".join([settings.objective, *sorted(overrides)]))
    return settings, overrides


def _check(settings: TuneConfig) -> None:
    if settings.objective not in OBJECTIVES:
        raise InvalidConfig(f"tune.objective={settings.objective}: choose {' or '.join(OBJECTIVES)}")
    if not 1 <= settings.trials <= MOST_TRIALS:
        raise InvalidConfig(f"tune.trials={settings.trials}: must be a whole number from 1 to {MOST_TRIALS:,}")
    # Of an even number, the median lies between two runs, one of which may have been given up.
    if not 1 <= settings.seeds <= MOST_SEEDS or settings.seeds % 2 == 0:
        raise InvalidConfig(f"tune.seeds={settings.seeds}: must be an odd whole number from 1 to {MOST_SEEDS}")
    if not 0 <= settings.confirm <= MOST_SEEDS:
        raise InvalidConfig(f"tune.confirm={settings.confirm}: must be a whole number from 0 to {MOST_SEEDS}")
    for name in SEARCHED:
        bounds = getattr(settings, name)
        if len(bounds) != 2 or not 0 < bounds[0] < bounds[1] < float("inf"):
            right = "must be two numbers above 0, the smaller one first"
            raise InvalidConfig(f"tune.{name}={written(bounds)}: {right}")


def _check_override(typed: str) -> None:
    key = key_of(typed)
    # Trials run in this process, one after the other, and a search has its own way to continue.
    if key.startswith("hydra") or role_of(key) is Role.COMMAND:
        raise InvalidConfig(f"{typed}: not for a search; leave it out")
    group, _, name = key.partition(".")
    if group == "optimizer" and name in SEARCHED:
        raise InvalidConfig(f"{typed}: this is what is searched; tune.{name}=[low,high] sets between what")


def plan_trials(overrides: Sequence[str]) -> Plan:
    """Return the plan of the one run that every trial is, but for the rates that are searched.

    Raises `InvalidConfig` if a key is wrong or if the overrides are a sweep.
    """
    planned = plan(["-m", *overrides])
    if (runs := len(planned.runs)) > 1:
        values = zip(*(run.overrides for run in planned.runs), strict=True)
        swept = {key_of(texts[0]) for texts in values if len(set(texts)) > 1}
        typed = " ".join([each for each in overrides if key_of(each) in swept] or overrides)
        raise InvalidConfig(f"{typed}: is a sweep of {runs} runs; a search needs one value of every key")
    return planned


@cache
def lesson_rates() -> tuple[dict[str, float], ...]:
    """Return what the runs of `experiment=lesson` have for the searched keys, every combination once."""
    optimizers = [run.config.optimizer for run in plan(["experiment=lesson"]).runs]
    rates = [{name: getattr(optimizer, name) for name in SEARCHED} for optimizer in optimizers]
    return tuple(each for place, each in enumerate(rates) if each not in rates[:place])
