"""Trackers report what a sweep records to TensorBoard, MLflow or Weights & Biases while it runs.

They read what a run has written, in a process of their own: nothing that they do can slow, stop or change a run. A new
one is a file here, a line in `TRACKERS` and a YAML in `conf/tracker`.
"""

from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from inspect import Parameter, signature
from typing import Any

from digits_sweep.config.text import to_text
from digits_sweep.errors import InvalidConfig, not_installed
from digits_sweep.trackers.mlflow import MLflowTracker
from digits_sweep.trackers.protocol import Tracker
from digits_sweep.trackers.tensorboard import TensorBoardTracker
from digits_sweep.trackers.wandb import WandbTracker

# By the name of the library, which is that of the extra too. The settings are the constructor's parameters, all text.
TRACKERS: dict[str, Callable[..., Tracker]] = {
    "tensorboard": TensorBoardTracker,
    "mlflow": MLflowTracker,
    "wandb": WandbTracker,
}


def check(tracker: Mapping[str, Any]) -> None:
    """Check what a configuration says of trackers: the settings of each by its name.

    Raises `InvalidConfig` with a line for every mistake: a tracker that does not exist or is not installed, a setting
    that it does not have, that is missing or is not text, or a value that it refuses.
    """
    if found := [line for name, settings in tracker.items() for line in _mistakes(name, settings)]:
        raise InvalidConfig("\n".join(found))


def _mistakes(name: str, settings: Any) -> Iterator[str]:
    if name not in TRACKERS:
        yield f"tracker={name}: choose {' or '.join(TRACKERS)}"
    elif find_spec(name) is None:
        yield f"tracker={name}: {not_installed(name, name)}"
    elif not isinstance(settings, dict):
        yield f"tracker.{name}={to_text(settings)}: tracker={name} chooses it, tracker=none leaves it out"
    elif wrong := list(_wrong_settings(name, settings, signature(TRACKERS[name]).parameters)):
        yield from wrong
    elif refusal := getattr(TRACKERS[name], "refusal", lambda settings: None)(settings):
        yield f"tracker.{name}.{refusal}"


def _wrong_settings(name: str, settings: dict[str, Any], known: Mapping[str, Parameter]) -> Iterator[str]:
    for key, value in settings.items():
        typed = f"tracker.{name}.{key}={to_text(value)}"
        if key not in known:
            yield f"{typed}: {name} has no such setting; choose {' or '.join(known)}"
        elif not isinstance(value, str):
            yield f"{typed}: must be text; type \"tracker.{name}.{key}='{to_text(value)}'\""
    if missing := [key for key, each in known.items() if key not in settings and each.default is Parameter.empty]:
        yield f"tracker.{name}: {', '.join(missing)} not set; add tracker={name}, which sets what is not typed"
