"""Composition by Hydra: the schema in its config store, the resolvers of `conf/`, and configurations made of overrides.

Hydra takes about 0.15 s to compose a configuration. Runs nearly always differ in plain values only, so a `Composer`
lets Hydra compose once for every set of group choices, and puts plain values in with OmegaConf, as Hydra does.
"""

import copy
import math
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from digits_sweep.config.hydra.own_hydra import own_hydra
from digits_sweep.config.keys import mistakes, written
from digits_sweep.config.nodes import groups, nodes
from digits_sweep.config.resolvers.addresses import sqlite_address
from digits_sweep.config.resolvers.by_batch_size import is_by_batch_size, resolved_by_batch_size, value_at
from digits_sweep.config.resolvers.folders import (
    configuration_folder,
    expand_folders,
    expanded_settings,
    folder_of_the_environment,
)
from digits_sweep.config.resolvers.scaling import FORMULAS
from digits_sweep.config.schema import Config, SGDConfig
from digits_sweep.errors import InvalidConfig
from digits_sweep.results.run.history import softmax_floor

# Inside the package if it is installed from a wheel, beside it in a source tree.
CONF = next(folder / "conf" for folder in Path(__file__).parents[2:4] if (folder / "conf").is_dir())


@dataclass(frozen=True)
class Composed:
    """A run's configuration as Hydra composes it, and Hydra's own node, which stood beside it."""

    config: DictConfig
    hydra: DictConfig


class Composer:
    """Configurations composed from `conf/` and from `config_dirs`, folders of the user's. A context manager."""

    def __init__(self, config_dirs: Sequence[str] = ()) -> None:
        self._searchpath = [configuration_folder(folder) for folder in config_dirs]
        self._composed: dict[tuple[str, ...], Composed] = {}
        self._parsed: dict[str, Override] = {}
        self._first: Composed | None = None

    def __enter__(self) -> "Composer":
        with ExitStack() as stack:
            self._loader = stack.enter_context(own_hydra(str(CONF)))
            self._parser = OverridesParser.create(config_loader=self._loader)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def parse(self, text: str) -> Override:
        """Read one `key=value` in Hydra's grammar. Raises Hydra's own errors."""
        if text not in self._parsed:
            (self._parsed[text],) = self._parser.parse_overrides([text])
        return self._parsed[text]

    def is_choice(self, override: Override) -> bool:
        """Return whether `override` chooses from a config group, instead of setting a value."""
        key = override.key_or_group
        # Only the name of a group has a slash.
        return "." not in key and ("/" in key or key in self._all_groups)

    def composed(self, overrides: Sequence[Override]) -> Composed:
        """Compose the configuration of one run. Interpolations stay unresolved."""
        choices: list[Override] = []
        values: list[Override] = []
        for each in overrides:
            (choices if each.is_hydra_override() or self.is_choice(each) else values).append(each)
        base = self._with_choices(tuple(str(each.input_line) for each in choices))
        result = Composed(copy.deepcopy(base.config), base.hydra)
        # A value for every batch size needs the batch size first.
        for each in sorted(values, key=is_by_batch_size):
            value = value_at(each, result.config.data.batch_size) if is_by_batch_size(each) else each.value()
            # Only a dictionary of arguments has keys that nobody declares.
            has_any = each.key_or_group.endswith(".arguments")
            OmegaConf.update(result.config, each.key_or_group, value, merge=True, force_add=has_any)
        # What depends on the moment, such as ${now:...}, is the same for all runs of a command.
        self._first = self._first or result
        OmegaConf.copy_cache(self._first.config, result.config)
        expand_folders(result.config)
        return result

    def _with_choices(self, choices: tuple[str, ...]) -> Composed:
        if choices not in self._composed:
            config = compose("config", self._with_searchpath(choices), return_hydra_config=True)
            hydra = config.hydra
            with open_dict(config):
                del config["hydra"]
            self._composed[choices] = Composed(config, hydra)
        return self._composed[choices]

    def _with_searchpath(self, choices: tuple[str, ...]) -> list[str]:
        if not self._searchpath:
            return list(choices)
        typed = [each for each in choices if each.startswith("hydra.searchpath=")]
        folders = [folder for each in typed for folder in self.parse(each).value()] + self._searchpath  # type: ignore
        return [each for each in choices if each not in typed] + [
            f"hydra.searchpath=[{','.join(map(quoted, folders))}]"
        ]

    def groups(self) -> list[str]:
        """Return the config groups that a command line may choose from."""
        return [group for group in self._all_groups if group not in ("hydra", "schema")]

    @cached_property
    def _all_groups(self) -> list[str]:
        # Hydra copies everything it knows for each such question.
        return self._loader.list_groups("")

    def options(self, group: str) -> list[str]:
        """Return the choices of a config group; none if there is no such group."""
        return self._loader.get_group_options(group)


def to_config(composed: DictConfig) -> Config:
    """Turn a composed configuration into plain dataclasses, every interpolation resolved.

    Raises `InvalidConfig` if a value breaks a rule, and OmegaConf's own errors if one is missing.
    """
    config: Config = OmegaConf.to_object(composed)  # type: ignore[assignment]
    config.tracker = {name: expanded_settings(settings) for name, settings in config.tracker.items()}
    return checked(config)


def checked(config: Config) -> Config:
    """Return `config`. Raises `InvalidConfig` with a line for every value that breaks a rule."""
    if found := [*mistakes(config), *_conflicts(config)]:
        raise InvalidConfig("\n".join(found))
    return config


def _conflicts(config: Config) -> list[str]:
    """Return a line for every two keys that do not go together."""
    found, threshold, classes = [], config.trainer.loss_threshold, config.model.num_classes
    if isinstance(config.optimizer, SGDConfig) and config.optimizer.nesterov and config.optimizer.momentum == 0:
        found.append("optimizer.nesterov=true: needs optimizer.momentum above 0")
    if config.schedule.final and config.schedule.decay is None:
        found.append(f"schedule.final={written(config.schedule.final)}: needs schedule=linear or schedule=cosine")
    if config.model.head == "softmax" and threshold <= softmax_floor(classes):
        floor = f"behind a softmax of {classes} classes the loss cannot fall below {softmax_floor(classes):.4f}"
        found.append(f"trainer.loss_threshold={written(threshold)}: {floor}; choose a larger one, or model.head=logits")
    return found + _of_evaluation(config)


def _of_evaluation(config: Config) -> list[str]:
    """Return a line for everything that evaluations are asked for and cannot do."""
    evaluation, targets = config.evaluation, asdict(config.evaluation.targets)
    floor = softmax_floor(config.model.num_classes)
    found = [
        f"evaluation.targets.{name}={written(values)}: behind a softmax of {config.model.num_classes} classes the loss "
        f"cannot fall below {floor:.4f}; choose larger ones, or model.head=logits"
        for name, values in targets.items()
        if config.model.head == "softmax" and name.endswith("_loss") and any(value <= floor for value in values)
    ]
    asked = [f"targets.{name}={written(values)}" for name, values in targets.items() if values]
    if evaluation.stop and not asked:
        found.append("evaluation.stop=true: needs a target to stop at, such as evaluation.targets.train_loss=[1.6]")
    if evaluation.every_examples is None and evaluation.per_doubling is None:
        asked += ["noise_scale=true"] if evaluation.noise_scale else []
        found += [f"evaluation.{each}: a run is never evaluated; add evaluation=fine" for each in asked]
    return found


def as_override(key: str, value: str) -> str:
    """Return `key=value` as Hydra reads it, in quotes if the value is more than a plain path."""
    # Without a slash it may be a number, true or null.
    is_plain = "/" in value and all(each.isascii() and (each.isalnum() or each in "_./:-") for each in value)
    return f"{key}={value if is_plain else quoted(value)}"


def quoted(text: str) -> str:
    """Return `text` as a quoted value in Hydra's grammar. An interpolation in it stays one."""
    # Backslashes count only in front of a quote.
    escaped = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), text)
    return f"'{escaped}'"


def _scaled(formula: str, value: float | None, *, _root_: DictConfig) -> float:
    """Resolve `${scaled:sqrt_beta,0.9}`: the value scaled to this run's batch size by a formula of `scaling.py`."""
    size, reference = _root_.data.batch_size, _root_.optimizer.reference_batch_size
    if value is None or size <= 0 or not reference:
        # If there is nothing to scale or to scale by, the rule of the key finds no number here, and its line says so.
        return math.nan
    return value if size == reference else FORMULAS[formula](value, size / reference)


def _register() -> None:
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for group in groups().values():
        for node in nodes(group):
            store.store(group="schema", name=node.__name__.removesuffix("Config").lower(), node=node)
    OmegaConf.register_new_resolver("by_batch_size", resolved_by_batch_size, replace=True)
    OmegaConf.register_new_resolver("scaled", _scaled, replace=True)
    OmegaConf.register_new_resolver("folder_of", folder_of_the_environment, replace=True)
    OmegaConf.register_new_resolver("sqlite", sqlite_address, replace=True)


_register()
