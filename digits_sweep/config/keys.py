"""Questions about keys: their roles, how two configurations differ, and which values break a rule.

Knows neither Hydra nor OmegaConf.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from difflib import SequenceMatcher
from functools import cache
from typing import Any, get_type_hints

from digits_sweep.config.scaling import GROW, sizes_in
from digits_sweep.config.schema import (
    ANYTHING,
    NO_DEFAULT,
    OWN_GROUPS,
    TARGET,
    Config,
    CrossEntropyConfig,
    Role,
    Rule,
    SGDConfig,
    config_from,
    groups,
    kinds_of,
    smoothed_floor,
    softmax_floor,
)
from digits_sweep.config.text import to_text
from digits_sweep.errors import InvalidConfig

# The name of a setting or a measure of the user's, in letters of any language; and of a key, as a file may have it.
SETTING = re.compile(r"\w[\w ./@+%()-]{0,99}")
KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.\w[\w ./@+%()-]*)?")


@dataclass(frozen=True)
class Key:
    """A declared key: its full name (`data.batch_size`), the type of its value, its rule, role and default, or None."""

    name: str
    kind: Any
    rule: Rule
    role: Role
    default: Any


@cache
def declared() -> dict[str, Key]:
    """Return every key that a run can have, by its full name."""
    return {key.name: key for key in _declared_in(Config, "")}


def _declared_in(kind: type, prefix: str) -> Iterator[Key]:
    hints = get_type_hints(kind)
    for field in fields(kind):
        name, hint, metadata = f"{prefix}{field.name}", hints[field.name], field.metadata
        if is_dataclass(hint):
            for choice in kinds_of(hint):  # type: ignore[arg-type]
                yield from _declared_in(choice, f"{name}.")
        else:
            default = None if field.default in NO_DEFAULT else field.default
            yield Key(name, hint, metadata.get("rule", ANYTHING), metadata.get("role", Role.RESULT), default)


def role_of(key: str) -> Role:
    """Return the role of `key`; a key below a declared one (`tracker.mlflow.uri`) has the role of that one.

    A key that nobody declared may change a result.
    """
    known = declared()
    while key not in known and "." in key:
        key = key.rpartition(".")[0]
    return known[key].role if key in known else Role.RESULT


def changes_results(key: str) -> bool:
    """Return whether the value of `key` may change what a run results in."""
    return role_of(key) in (Role.RESULT, Role.GROWS)


def holds_for_the_sweep(key: str) -> bool:
    """Return whether all runs of a sweep share one value of `key`."""
    return role_of(key) in (Role.PLACE, Role.COMMAND)


def may_grow(key: str) -> bool:
    """Return whether a resume may raise the value of `key`."""
    return role_of(key) is Role.GROWS


def flat(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key of a nested configuration (`data.batch_size`) with its value."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def value_of(config: dict[str, Any], key: str) -> Any:
    """Return the value of `key` in a nested configuration, as `flat` yields it; None if it is not there."""
    value: Any = config
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return None if isinstance(value, dict) else value


def results_of(config: dict[str, Any]) -> dict[str, Any]:
    """Return every key of a nested configuration that may change a result, with its value."""
    return {key: value for key, value in flat(config) if changes_results(key)}


def differing(recorded: dict[str, Any], config: Config) -> list[str]:
    """Return `key was ..., is now ...` for every key that differs from `recorded` and that a resume must not change.

    A key that `recorded` lacks did not exist when the run was recorded, and did nothing: it differs unless it has its
    default or is null, 0, false or an empty list now. A key that may grow must not if the learning rate decays until
    the run's end, because it says how fast, nor with a command, which does not go on from where it was.
    """
    before, now = results_of(with_moved_keys(recorded)), results_of(asdict(config))
    schedule = config.schedule
    why = f"schedule.decay={schedule.decay} ends with it" if schedule.decay and not schedule.decay_examples else ""
    why = "a command cannot go on" if config.command else why
    return [
        f"{key} was {to_text(before.get(key))}, is now {to_text(now.get(key))}"
        + (f", but {why}" if may_grow(key) else "")
        for key in dict.fromkeys([*before, *now])
        if (why or not may_grow(key))
        and (before[key] != now.get(key) if key in before else now[key] and now[key] != default_of(key))
    ]


def default_of(key: str) -> Any:
    """Return the default of a key, which a record without the key stands for; None if it has none."""
    return declared()[key].default if key in declared() else None


def as_recorded(config: Config, recorded: dict[str, Any]) -> Config:
    """Return `config` with every key in which the runs of a sweep may differ as `recorded` has it.

    Keys and groups that `recorded` does not know keep their value in `config`, or get their default. Raises KeyError,
    AttributeError or TypeError if `recorded` is not the configuration of a run.
    """
    content = asdict(config)
    for name, value in with_moved_keys(recorded).items():
        if name in groups():
            shared = {key: own for key, own in content[name].items() if holds_for_the_sweep(f"{name}.{key}")}
            content[name] = {**value, **shared}
        elif not holds_for_the_sweep(name):
            content[name] = value
    return config_from(content)


# Below this likeness a suggestion would be a guess.
LEAST_LIKENESS = 0.6


def closest(key: str, known: Iterable[str]) -> str | None:
    """Return the key of `known` that `key` most likely stands for, or None if none is near."""
    best = max(known, key=lambda other: _likeness(key, other))
    return best if _likeness(key, best) >= LEAST_LIKENESS else None


def no_such_key(key: str, known: Iterable[str]) -> str:
    """Say that there is no such key, and which of `known` may be meant."""
    close = closest(key, known)
    return "there is no such key" + (f"; did you mean {close}?" if close else " here")


def _likeness(key: str, other: str) -> float:
    """Return how near two keys are, 0 to 1: by their last parts, by initials (`learning_rate`, `lr`), as a whole."""
    group, _, last = key.rpartition(".")
    other_group, _, other_last = other.rpartition(".")
    same_group = 0.05 if group and group == other_group else 0.0
    initials = "".join(word[:1] for word in last.split("_"))
    if last == other_last or (len(initials) > 1 and initials == other_last):
        return 0.95 + same_group
    of_last = SequenceMatcher(None, last, other_last).ratio()
    return max(0.9 * of_last, 0.95 * SequenceMatcher(None, key, other).ratio()) + same_group


# Keys of `optimizer` in sweeps that were recorded before there was a group `scaling`.
MOVED_TO_SCALING = ("rule", "reference_batch_size", "reference_lr")


def with_moved_keys(recorded: dict[str, Any]) -> dict[str, Any]:
    """Return a recorded configuration with every key in the group that has it now."""
    optimizer = recorded.get("optimizer")
    if not isinstance(optimizer, dict) or not any(name in optimizer for name in MOVED_TO_SCALING):
        return recorded
    optimizer = dict(optimizer)
    scaling = {name: optimizer.pop(name) for name in MOVED_TO_SCALING if name in optimizer}
    return recorded | {"optimizer": optimizer, "scaling": {**scaling, "rates": {}}}


def mistakes(settings: Any, prefix: str = "") -> Iterator[str]:
    """Yield one line for every key of a dataclass that breaks its rule, as `key=value: what would be right`."""
    for field in fields(settings):
        value, rule = getattr(settings, field.name), field.metadata.get("rule", ANYTHING)
        if is_dataclass(value):
            yield from mistakes(value, f"{prefix}{field.name}.")
        elif not rule.holds(value):
            yield f"{prefix}{field.name}={to_text(value)}: {rule.right}"
        elif not is_finite(value):
            yield f"{prefix}{field.name}={to_text(value)}: {FINITE}"


FINITE = "every number must be finite: a record has neither infinity nor NaN; write one as text, in quotes"


def is_finite(value: Any) -> bool:
    """Return whether every number in a value is finite, however deep it lies there."""
    if isinstance(value, Mapping):
        return all(map(is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def checked(config: Config) -> Config:
    """Return `config`. Raises `InvalidConfig` with a line for every value that breaks a rule."""
    # What a command trains, and how, is not known here.
    fitting = [] if config.command is not None else [*_targets(config), *_conflicts(config)]
    if lines := [*mistakes(config), *fitting]:
        raise InvalidConfig("\n".join(lines))
    return config


def changed(config: Config, values: Mapping[str, Any]) -> Config:
    """Return `config` with other values of some keys. Raises `InvalidConfig` as `checked` does."""
    for key, value in values.items():
        config = _with(config, key, value)
    return checked(config)


def _with(part: Any, key: str, value: Any) -> Any:
    name, _, rest = key.partition(".")
    return replace(part, **{name: _with(getattr(part, name), rest, value) if rest else value})


def _targets(config: Config) -> Iterator[str]:
    """Yield a line for every part of the user's own that has no name."""
    for group in OWN_GROUPS:
        if getattr(getattr(config, group), "target", "") is None:
            yield f"{group}.target=null: {TARGET.right}"


def _conflicts(config: Config) -> Iterator[str]:
    """Yield a line for every two keys that do not go together."""
    optimizer, schedule, trainer = config.optimizer, config.schedule, config.trainer
    if isinstance(optimizer, SGDConfig) and optimizer.nesterov and optimizer.momentum == 0:
        yield "optimizer.nesterov=true: needs optimizer.momentum above 0"
    for name in ("final", "decay_examples") if schedule.decay is None else ():
        if value := getattr(schedule, name):
            yield f"schedule.{name}={to_text(value)}: needs schedule=linear or schedule=cosine"
    if config.model.head == "softmax" and config.loss.name in ("mse", "bce"):
        yield f"loss={config.loss.name}: takes a network's outputs as they are; add model.head=logits"
    if trainer.loss_threshold is None and trainer.stop_at_threshold:
        yield "trainer.stop_at_threshold=true: needs a threshold, trainer.loss_threshold"
    yield from _of_growing_batch(config)
    yield from _thresholds(config)
    evaluation, targets = config.evaluation, asdict(config.evaluation.targets)
    wanted = [f"targets.{name}={to_text(values)}" for name, values in targets.items() if values]
    if evaluation.stop and not wanted:
        yield "evaluation.stop=true: needs a target to stop at, such as evaluation.targets.train_loss=[1.6]"
    if evaluation.every_examples is None and evaluation.per_doubling is None:
        wanted += ["noise_scale=true"] if evaluation.noise_scale else []
        yield from (f"evaluation.{each}: a run is never evaluated; add evaluation=fine" for each in wanted)


def _of_growing_batch(config: Config) -> Iterator[str]:
    """Yield a line for everything that does not go together with a batch that grows."""
    schedule, evaluation, data = config.schedule, config.evaluation, config.data
    batch = f"schedule.batch={to_text(schedule.batch)}"
    if schedule.batch == GROW:
        never = evaluation.every_examples is None and evaluation.per_doubling is None
        if never or not evaluation.noise_scale:
            add = "evaluation=fine evaluation.noise_scale=true" if never else "evaluation.noise_scale=true"
            yield f"{batch}: follows the noise scale that evaluations measure; add {add}"
        if schedule.largest_batch is not None and schedule.largest_batch < data.batch_size:
            yield f"schedule.largest_batch={schedule.largest_batch}: must be at least data.batch_size={data.batch_size}"
    if (sizes := sizes_in(schedule.batch)) and sizes[0][1] != data.batch_size:
        yield f"data.batch_size={data.batch_size}: must be {sizes[0][1]}, with which schedule.batch begins"
    if schedule.batch is not None and data.last == "drop":
        yield f"{batch}: needs data.last=keep; sizes that change leave an epoch no whole batches"


def _thresholds(config: Config) -> Iterator[str]:
    """Yield a line for every threshold that no run can pass."""
    threshold = config.trainer.loss_threshold
    if threshold is not None and (why := _out_of_reach(config, threshold)) is not None:
        yield f"trainer.loss_threshold={to_text(threshold)}: {why}"
    for name, values in asdict(config.evaluation.targets).items():
        if name.endswith("_loss") and values and (why := _out_of_reach(config, min(values), "ones")) is not None:
            yield f"evaluation.targets.{name}={to_text(values)}: {why}"
        if name.endswith("_error") and values and config.loss.name == "mse":
            yield f"evaluation.targets.{name}={to_text(values)}: a regression has no errors; give a loss"


def _out_of_reach(config: Config, loss: float, one: str = "one") -> str | None:
    """Say why a run can never have a loss below `loss`, and what would be right; None if it can."""
    if loss <= 0 and config.loss.name != "own":
        return f"must be {'a number' if one == 'one' else 'a list of numbers'} above 0"
    classes, larger = config.model.num_classes, f"choose {'a ' * (one == 'one')}larger {one}"
    if config.loss.name != "cross_entropy" or classes is None or classes < 2:
        return None
    smoothing = 0.0
    if isinstance(config.loss, CrossEntropyConfig):
        if config.loss.class_weights:
            return None
        smoothing = config.loss.label_smoothing
    if config.model.head == "softmax" and not smoothing and loss <= (floor := softmax_floor(classes)):
        behind = f"behind a softmax of {classes} classes the loss cannot fall below {floor:.4f}"
        return f"{behind}; {larger}, or model.head=logits"
    if smoothing and loss <= (floor := smoothed_floor(classes, smoothing)):
        return f"with label_smoothing={to_text(smoothing)} the loss cannot fall below {floor:.4f}; {larger}"
    return None
