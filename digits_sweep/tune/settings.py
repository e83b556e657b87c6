"""What a search is asked to do: `conf/tune.yaml` and the `tune.` keys of the command line."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from digits_sweep.config.rules import InvalidConfig
from digits_sweep.config.schema import CONF

# What a sweep has and a search has not: it is one configuration, gone on with by its own command.
NOT_FOR_A_SEARCH = {"resume", "dry_run", "fail_fast", "tracker", "hydra", "experiment"}

OBJECTIVES = ("seconds_to_threshold", "epochs_to_threshold", "final_loss")


@dataclass
class TuneConfig:
    """`conf/tune.yaml`, typed."""

    objective: str = MISSING
    trials: int = MISSING
    lr: list[float] = MISSING
    weight_decay: list[float] = MISSING
    start_from_lesson: bool = MISSING
    prune: bool = MISSING
    seed: int = MISSING
    study: str | None = MISSING
    storage: str | None = MISSING


def read_settings(arguments: Sequence[str]) -> tuple[TuneConfig, list[str]]:
    """The search's own settings, and the overrides that are left for its runs.

    Raises `InvalidConfig` with key, value and what would be right.
    """
    if flag := next((argument for argument in arguments if argument.startswith("-")), None):
        raise InvalidConfig(f"{flag}: not for a search; its keys are tune.... of conf/tune.yaml and those of a run")
    own = [argument.removeprefix("tune.") for argument in arguments if argument.startswith("tune.")]
    overrides = [argument for argument in arguments if not argument.startswith("tune.")]
    schema = OmegaConf.structured(TuneConfig)
    for typed in own:
        try:
            OmegaConf.merge(schema, OmegaConf.from_dotlist([typed]))
        except (OmegaConfBaseException, YAMLError) as error:
            raise InvalidConfig(f"tune.{typed}: {str(error).splitlines()[0]}") from error
    merged = OmegaConf.merge(schema, OmegaConf.load(CONF / "tune.yaml"), OmegaConf.from_dotlist(own))
    settings: TuneConfig = OmegaConf.to_object(merged)  # type: ignore[assignment]
    _refuse(settings, overrides)
    settings.study = _name([settings.study] if settings.study else [settings.objective, *sorted(overrides)])
    return settings, overrides


def _refuse(settings: TuneConfig, overrides: Sequence[str]) -> None:
    if settings.objective not in OBJECTIVES:
        raise InvalidConfig(f"tune.objective={settings.objective}: choose {' or '.join(OBJECTIVES)}")
    if settings.trials < 1:
        raise InvalidConfig(f"tune.trials={settings.trials}: must be a whole number from 1 up")
    for typed in overrides:
        if re.split("[./=]", typed.lstrip("+"))[0] in NOT_FOR_A_SEARCH:
            raise InvalidConfig(f"{typed}: not for a search; leave it out")
    for name in ("lr", "weight_decay"):
        bounds = getattr(settings, name)
        if len(bounds) != 2 or not 0 < bounds[0] < bounds[1] < float("inf"):
            raise InvalidConfig(f"tune.{name}={bounds}: must be two numbers above 0, the smaller one first")
        for typed in overrides:
            if typed.lstrip("+").partition("=")[0] == f"optimizer.{name}":
                raise InvalidConfig(f"{typed}: this is what is searched; tune.{name}=[low,high] sets between what")


def _name(parts: Sequence[str]) -> str:
    wanted = "_".join(parts)
    name = re.sub(r"[^A-Za-z0-9._=-]", "-", wanted)[:120]
    return name if name == wanted and name.strip(".") else f"{name}-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}"
