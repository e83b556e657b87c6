"""What a loop of somebody else's says of its run, as plain values that keep the rules by which they are read later."""

import math
import os
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch

from digits_sweep.config.keys import FINITE, SETTING, flat, is_finite
from digits_sweep.config.schema import SHARE, Rule, or_null
from digits_sweep.config.text import safe_name, to_text
from digits_sweep.errors import CannotRecord
from digits_sweep.results.columns import COLUMNS, LIMITS, OWN_LOOP
from digits_sweep.results.record import LONGEST_VALUE, MOST_CLASSES, MOST_KEYS
from digits_sweep.results.targets import BELOW, DIRECTIONS

ERRORS, LOSSES = ("test_error", "train_error"), ("test_loss", "train_loss")
# Columns of evaluations.csv that no measure of the user's may have the name of.
TAKEN = ("iterations", "examples", "seconds", "measure", "value", "running_loss", "test_accuracy")
# What has a form of Python's own, and which.
OWN_KINDS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (Integral, int), (Real, float), (str, str), (torch.dtype, str), (torch.device, str),
)  # fmt: skip
PLAIN = "must be a number, a text, true, false, null, or a list or a dictionary of these"


def plain(value: Any) -> Any:
    """Return a value as Python's own: a NumPy or PyTorch number as a number, an array as a list, a path as text.

    An enum is its value if that is a text, else its name. Raises TypeError if it has no such form.
    """
    if isinstance(value, torch.Tensor):
        value = (value.float() if value.dtype is torch.bfloat16 else value).detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        value = list(value) if value.ndim else value[()]
    if isinstance(value, Mapping):
        return {str(plain(name)): plain(each) for name, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(each) for each in value]
    return _scalar(value)


def _scalar(value: Any) -> bool | int | float | str | None:
    if isinstance(value, Enum):
        return value.value if isinstance(value.value, str) else value.name
    if isinstance(value, np.float32 | np.float16):
        # The shortest number that is this one: 0.001 in place of 0.0010000000474974513.
        return float(str(value))
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if value is None or isinstance(value, bool):
        return value
    for kind, own in OWN_KINDS:
        if isinstance(value, kind):
            return own(value)
    raise TypeError(PLAIN)


def number(name: str, value: Any, rule: Rule, whole: bool = False) -> Any:
    """Return a number as Python's own. Raises `CannotRecord` with name and value if it is none or breaks the rule."""
    try:
        value = plain(value)
        if value is not None:
            if isinstance(value, bool | str):
                raise TypeError
            value = int(value) if whole and value == int(value) else float(value)
        if rule.holds(value) and not (whole and isinstance(value, float)):
            return value
    except (TypeError, ValueError, OverflowError):
        pass
    raise CannotRecord(f"{name}={shown(value)}: {rule.right}")


def shown(value: Any) -> str:
    """Return a value for a message, on one line."""
    text = " ".join((to_text(value) if type(value) in (bool, int, float, str, list, dict) else str(value)).split())
    return text if len(text) <= 60 else f"{text[:60]}..."


def config_of(
    *, dataset: Any, model: Any, optimizer: Any, settings: Mapping[str, Any], targets: Mapping[str, Any], **numbers: Any
) -> dict[str, Any]:
    """Return what `Recorder` is called with as a run's configuration; `numbers` are those of `LIMITS`.

    A weight decay and a seed that are None are 0, and a model and an optimizer `own`.

    Raises `CannotRecord` with a line for the first value that could not be read or shown later.
    """
    numbers |= {name: 0 for name in ("weight_decay", "seed") if numbers[name] is None}
    for name, value in numbers.items():
        rule, whole = LIMITS[name], name in ("batch_size", "seed")
        numbers[name] = number(name, value, rule if whole else or_null(rule), whole)
    thresholds, directions = _targets(targets)
    rates = {"lr": numbers["lr"], "weight_decay": numbers["weight_decay"]}
    config = {
        "data": {"name": _text("dataset", dataset), "batch_size": numbers["batch_size"]},
        "model": {"name": _text("model", model or "own")},
        "optimizer": {"name": _text("optimizer", optimizer or "own"), **rates},
        "trainer": {"loss_threshold": numbers["loss_threshold"]},
        "engine": {"name": OWN_LOOP},
        "evaluation": {"targets": thresholds} | ({"directions": directions} if directions else {}),
        "seed": numbers["seed"],
        "settings": _settings(settings),
    }
    if (count := len(list(flat(config)))) > MOST_KEYS:
        raise CannotRecord(f"settings: {count:,} values; a record has at most {MOST_KEYS}")
    return config


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value or len(value) > LONGEST_VALUE:
        raise CannotRecord(f"{name}={shown(value)}: must be a text, such as {name}='mine'")
    return str(value)


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    taken = {column.name for column in COLUMNS} | {name for column in COLUMNS for name in column.keys}
    named: dict[str, Any] = {}
    for given, value in settings.items():
        name = _name("settings", given)
        if name in taken:
            right = f"is an argument of its own, {name}=" if name in ARGUMENTS else "is a column of every table"
            raise CannotRecord(f"settings.{name}: {right}; choose another name")
        try:
            named[name] = plain(value)
        except TypeError as error:
            hint = f"; give its name, '{value.__name__}'" if hasattr(value, "__name__") else ""
            raise CannotRecord(f"settings.{name}={shown(value)}: {error}{hint}") from error
        if not is_finite(named[name]):
            raise CannotRecord(f"settings.{name}={shown(named[name])}: {FINITE}")
        for key, part in flat({name: named[name]}):
            if SETTING.fullmatch(key) is None or len(to_text(part)) > LONGEST_VALUE:
                raise CannotRecord(
                    f"settings.{shown(key)}: a name has at most 100 and a value {LONGEST_VALUE:,} characters"
                )
    return named


ARGUMENTS = (*LIMITS, "dataset", "model", "optimizer")


def _name(where: str, name: Any) -> str:
    composed = unicodedata.normalize("NFC", name) if isinstance(name, str) else ""
    if SETTING.fullmatch(composed) is None:
        raise CannotRecord(f"{where}: the name {name!r} may have 100 letters, digits, spaces and _ . / @ + % ( ) -")
    return composed


def _targets(targets: Mapping[str, Any]) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Return the thresholds by measure, and the directions of those that are not simply to be below."""
    thresholds: dict[str, list[float]] = {}
    directions: dict[str, str] = {}
    for given, value in targets.items():
        name = measure_name(given)
        direction = None
        if isinstance(value, Sequence) and len(value) == 2 and isinstance(value[0], str):
            direction, value = value
        if (direction is None and name not in ERRORS + LOSSES) or direction not in (None, *DIRECTIONS):
            known, ways = ", ".join(ERRORS + LOSSES), " ".join(DIRECTIONS)
            raise CannotRecord(
                f"targets.{name}={shown(value)}: only {known} fall without saying so; say how, such as "
                f"targets={{'{name}': ('>=', 0.9)}} (one of {ways})"
            )
        several = plain(value)
        several = several if isinstance(several, list) else [value]
        thresholds[name] = [measured(f"targets.{name}", name, each) for each in several]
        if not all(map(math.isfinite, thresholds[name])):
            raise CannotRecord(f"targets.{name}={shown(thresholds[name])}: {FINITE}")
        if direction not in (None, BELOW):
            directions[name] = str(direction)
    return thresholds, directions


def measure_name(name: str) -> str:
    """Return the name of a measure. Raises `CannotRecord` if it is another column's, or no name."""
    name = _name("a measure", name)
    if name in TAKEN:
        hint = "; give test_error, which is 1 - test_accuracy" if name == "test_accuracy" else "; choose another one"
        raise CannotRecord(f"{name}: is the name of another column{hint}")
    return name


def measured(what: str, name: str, value: Any) -> float:
    """Return a measured value, or a threshold of one, called `what`. Raises `CannotRecord` if it is none."""
    if name == "classes_never_predicted":
        return number(what, value, CLASSES, whole=True)
    return number(what, value, ERROR if name in ERRORS else ANY_NUMBER)


CLASSES = Rule(lambda count: 0 <= count <= MOST_CLASSES, f"must be a whole number from 0 to {MOST_CLASSES:,}")
ERROR = Rule(SHARE.holds, "must be a share of the examples, from 0 to 1; percent?")
ANY_NUMBER = Rule(lambda value: value is not None, "must be a number")


def folder_of(config: dict[str, Any]) -> str:
    """Return the name of the folder of a run: all that it differs in from one in which nothing is named."""
    unnamed: dict[str, Any] = {"model": "own", "optimizer": "own", "dataset": "own", "weight_decay": 0, "lr": None}
    optimizer = config["optimizer"]
    values = {"model": config["model"]["name"], "optimizer": optimizer["name"], "dataset": config["data"]["name"]}
    values |= {"batch_size": config["data"]["batch_size"], "lr": optimizer["lr"]}
    values |= {"weight_decay": optimizer["weight_decay"], "seed": config["seed"], **config["settings"]}
    named = {name: value for name, value in values.items() if name not in unnamed or value != unnamed[name]}
    return safe_name("_".join(f"{name}={to_text(value)}" for name, value in named.items()))
