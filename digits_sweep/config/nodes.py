"""The dataclasses of the schema by group, and a configuration built of them. Knows neither Hydra nor OmegaConf."""

import dataclasses
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from digits_sweep.config.rules import MISSING
from digits_sweep.config.schema import Config


def nodes(group: type) -> Iterator[type]:
    """Yield a group's dataclass and every dataclass that extends it."""
    yield group
    extensions: list[type] = group.__subclasses__()
    for extension in extensions:
        yield from nodes(extension)


def groups() -> dict[str, type]:
    """Return the dataclass of every group of keys, by the group's name."""
    hints = get_type_hints(Config)
    return {each.name: hints[each.name] for each in fields(Config) if is_dataclass(hints[each.name])}


def config_from(content: dict[str, Any]) -> Config:
    """Build a `Config` from the nested dictionary that `dataclasses.asdict` makes of one.

    A group becomes the dataclass that has its keys; those with a default may be missing. Raises KeyError if another
    key is missing, or if one is unknown.
    """
    return _node(Config, content)


def _node(kind: type, content: dict[str, Any]) -> Any:
    for node in nodes(kind):
        known = {each.name for each in fields(node)}
        needed = {each.name for each in fields(node) if each.default in (MISSING, dataclasses.MISSING)}
        if needed <= content.keys() <= known:
            hints = get_type_hints(node)
            within = {name: _node(hints[name], content[name]) for name in content if is_dataclass(hints[name])}
            return node(**{**content, **within})
    raise KeyError(", ".join(content))
