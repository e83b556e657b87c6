"""The roles of keys, how two configurations differ, and how a value is written. Knows neither Hydra nor OmegaConf."""

import re
from collections.abc import Iterator
from dataclasses import Field, asdict, dataclass, fields, is_dataclass
from functools import cache, reduce
from operator import getitem
from typing import Any, get_type_hints

from digits_sweep.config.schema import ANYTHING, Config, Role, Rule, config_from, groups, nodes
from digits_sweep.config.text import to_text

# The full name of a key, as a file may have it.
KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_./@-]+)*")


@dataclass(frozen=True)
class Key:
    """A declared key: its full name (`data.batch_size`), the type of its value, its rule and its role."""

    name: str
    kind: Any
    rule: Rule
    role: Role


@cache
def declared() -> dict[str, Key]:
    """Return every key that a run can have, by its full name."""
    return dict(_declared_in(Config, ""))


def _declared_in(node: type, prefix: str) -> Iterator[tuple[str, Key]]:
    hints = get_type_hints(node)
    for each in fields(node):
        if is_dataclass(hints[each.name]):
            for choice in nodes(hints[each.name]):
                yield from _declared_in(choice, f"{prefix}{each.name}.")
        else:
            yield f"{prefix}{each.name}", _key(each, hints[each.name], prefix)


def _key(declaration: Field, kind: Any, prefix: str) -> Key:
    told = declaration.metadata
    return Key(f"{prefix}{declaration.name}", kind, told.get("rule", ANYTHING), told.get("role", Role.RESULT))


def role_of(key: str) -> Role:
    """Return the role of `key`; of a key below a declared one (`tracker.mlflow.uri`), that one's.

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
    """Return the value of `key` in a nested configuration, as `flat` yields it; None if there is none."""
    value: Any = config
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return None if isinstance(value, dict) else value


def results_of(config: dict[str, Any]) -> dict[str, Any]:
    """Return every key of a nested configuration that may change a result, with its value."""
    return {key: value for key, value in flat(config) if changes_results(key)}


def differing(recorded: dict[str, Any], config: Config) -> list[str]:
    """Return `key was ..., is now ...` for every key that differs from `recorded` and that a resume must not change.

    A key that `recorded` lacks did not exist when the run was recorded, and did nothing: it differs unless it is null,
    0, false or an empty list now. A key that may grow must not if the learning rate decays, because it says how fast.
    """
    before, now = results_of(recorded), results_of(asdict(config))
    decays = config.schedule.decay is not None
    return [
        f"{key} was {to_text(before.get(key))}, is now {to_text(now.get(key))}"
        + (f", but schedule.decay={config.schedule.decay} ends with it" if may_grow(key) else "")
        for key in dict.fromkeys([*before, *now])
        if (decays or not may_grow(key)) and (before[key] != now.get(key) if key in before else now[key])
    ]


def as_recorded(config: Config, recorded: dict[str, Any]) -> Config:
    """Return `config` with every key in which the runs of a sweep may differ as `recorded` has it.

    Keys that `recorded` does not know keep their value in `config`. Raises KeyError, AttributeError or TypeError if
    `recorded` is not the configuration of a run.
    """
    content = asdict(config)
    for group in groups().keys() & recorded.keys():
        if recorded[group].keys() != content[group].keys():
            shared = {name: each for name, each in content[group].items() if holds_for_the_sweep(f"{group}.{name}")}
            content[group] = recorded[group] | shared
    for key, value in flat(recorded):
        if not holds_for_the_sweep(key):
            *path, name = key.split(".")
            reduce(getitem, path, content)[name] = value
    return config_from(content)


def mistakes(config: Config) -> Iterator[str]:
    """Yield one line for every value that breaks its rule, as `key=value: what would be right`."""
    known = declared()
    for key, value in flat(asdict(config)):
        if key in known and not known[key].rule.holds(value):
            yield f"{key}={to_text(value)}: {known[key].rule.right}"
