"""Composition by Hydra: its config store, what `${...}` in `conf/` stands for, and configurations of overrides.

Hydra takes about 0.15 s to compose a configuration. Runs nearly always differ in plain values only, so a `Composer`
lets Hydra compose once for every set of group choices, and puts plain values in with OmegaConf, as Hydra does.
"""

import argparse
import copy
import math
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_origin
from urllib.parse import quote

from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from packaging.version import Version
from yaml import YAMLError

from digits_sweep.config.keys import declared, mistakes
from digits_sweep.config.scaling import FORMULAS
from digits_sweep.config.schema import FOLDER, Config, SGDConfig, groups, nodes, softmax_floor
from digits_sweep.config.text import expand_home, to_text
from digits_sweep.errors import InvalidConfig


@dataclass(frozen=True)
class CommandLine:
    """`overrides` as typed; whether they are a sweep (`-m`); folders with configuration of the user's."""

    overrides: list[str]
    multirun: bool = False
    config_dirs: tuple[str, ...] = ()


def key_of(override: str) -> str:
    """Return the key or group that an override is about, without `+`, `~` and the value."""
    return override.lstrip("+~").partition("=")[0]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidConfig(f"{message}; python -m digits_sweep --help shows what there is")


def read_command_line(arguments: Sequence[str]) -> CommandLine:
    """Separate flags, in any place, from overrides. Raises `InvalidConfig` for a flag that this program lacks."""
    parser = _Parser(prog="python -m digits_sweep", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-cd", "--config-dir", action="append", default=[])
    found = parser.parse_intermixed_args(list(arguments))
    return CommandLine(found.overrides, found.multirun, tuple(found.config_dir))


def sqlite_address(path: str) -> str:
    """Return the address of the SQLite file `path`, whatever characters the path has.

    In an address a question mark, for one, would end the path. Also the resolver `${sqlite:path}`.
    """
    plain = f"sqlite:///{path}"
    if find_spec("sqlalchemy") is None:
        # Nothing here can open it.
        return plain
    from sqlalchemy.engine import URL, make_url

    # With the driver's name, because MLflow would make the folders that it finds in an escaped address without it.
    escaped = URL.create("sqlite+pysqlite", database=path).render_as_string()
    # SQLAlchemy 2.0 has no escapes in a path, but SQLite's own addresses have.
    of_sqlite = f"sqlite+pysqlite:///file:{quote(path)}?uri=true"
    return next((each for each in (plain, escaped) if make_url(each).database == path), of_sqlite)


OTHERWISE = "else"


def resolved_by_batch_size(default: float, exceptions: DictConfig, *, _root_: DictConfig) -> float:
    """Resolve `${by_batch_size:1e-4,{5:1e-6}}`: the value for this run's batch size, else the default."""
    return exceptions.get(_root_.data.batch_size, default)


def is_by_batch_size(override: Override) -> bool:
    """Return whether a dictionary is typed for a key that holds no dictionary: it has a value for every batch size."""
    kind = declared()[override.key_or_group].kind if override.key_or_group in declared() else dict
    return isinstance(override.value(), dict) and dict not in (kind, get_origin(kind))


def value_at(override: Override, batch_size: int) -> Any:
    """Return the value that `key={5:1e-4,else:1e-3}` gives to a run of `batch_size`.

    Raises `InvalidConfig` if it gives none, or if something else than batch sizes is named.
    """
    values: Any = override.value()
    key = override.key_or_group
    if key == "data.batch_size" or not all(type(size) is int or size == OTHERWISE for size in values):
        right = "give each batch size its value, such as 'optimizer.lr={5:1e-4,20:3e-4,else:1e-3}'"
        raise InvalidConfig(f"{override.input_line}: {right}")
    if batch_size in values or OTHERWISE in values:
        return values.get(batch_size, values.get(OTHERWISE))
    raise InvalidConfig(f"{override.input_line}: has no value for batch size {batch_size}; add else:VALUE")


# The address of a local store, such as sqlite:///~/mlflow.db, has a path behind it.
OF_AN_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*:///)?(.*)", re.DOTALL)


@cache
def _folders() -> list[str]:
    return [name for name, key in declared().items() if key.rule.is_folder]


def expand_folders(config: DictConfig) -> None:
    """Expand `~` in every folder of a composed configuration, before other keys are made of them.

    Raises OmegaConf's own errors if one cannot be resolved.
    """
    for name in _folders():
        typed = OmegaConf.select(config, name)
        if isinstance(typed, str) and (full := expand_home(typed)) != typed:
            # A dollar sign in the name of a home folder is no interpolation.
            OmegaConf.update(config, name, full.replace("${", "\\${"))


def expanded_settings(settings: Any) -> Any:
    """Return the settings of a tracker with `~` expanded at the start of paths and of addresses of local stores."""
    if not isinstance(settings, dict):
        return settings
    return {name: _expanded_address(value) if isinstance(value, str) else value for name, value in settings.items()}


def _expanded_address(value: str) -> str:
    found = OF_AN_ADDRESS.fullmatch(value)
    return (found[1] or "") + expand_home(found[2]) if found else value


def check_working_folder() -> None:
    """Raise `InvalidConfig` if nothing can be composed in the working folder: it is gone, or Hydra cannot name it."""
    try:
        working = str(Path.cwd())
    except FileNotFoundError:
        raise InvalidConfig("the working folder has been removed; change to another one") from None
    if "${" in working:
        raise InvalidConfig(f"the working folder {working} has ${{ in its name, which Hydra replaces; use another one")


def configuration_folder(typed: str) -> str:
    """Return the full path of a folder for Hydra's search path. Raises `InvalidConfig` if there is none."""
    folder = Path(expand_home(typed)).absolute()
    if not folder.is_dir():
        raise InvalidConfig(f"--config-dir={typed}: there is no such folder")
    if not FOLDER.holds(str(folder)):
        raise InvalidConfig(f"--config-dir={typed}: {FOLDER.right}")
    return f"file://{folder}"


def folder_of_the_environment(variable: str, default: str) -> str:
    """Resolve `${folder_of:NAME,"default"}`: the environment variable, unless it is missing or empty."""
    folder = os.environ.get(variable, "")
    return folder if folder.strip() else default


# Hydra's state is that of the whole process: one thread composes at a time.
ONE_AT_A_TIME = threading.RLock()


@contextmanager
def own_hydra(config_dir: str) -> Iterator[ConfigLoader]:
    """Initialize Hydra with the configuration in `config_dir` for the block; then it is as another program had it.

    If no other program has chosen the version that Hydra behaves like, it stays the one that Hydra's launchers need.
    """
    with ONE_AT_A_TIME:
        of_another, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
        version_base = VersionBase.instance().version_base
        try:
            with initialize_config_dir(config_dir=config_dir, version_base="1.3"):
                yield GlobalHydra.instance().config_loader()
        finally:
            GlobalHydra.instance().hydra = of_another
            if isinstance(version_base, Version):
                VersionBase.instance().version_base = version_base


# Inside the package if it is installed from a wheel, beside it in a source tree.
CONF = next(folder / "conf" for folder in Path(__file__).parents[1:3] if (folder / "conf").is_dir())


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
        found.append(f"schedule.final={to_text(config.schedule.final)}: needs schedule=linear or schedule=cosine")
    if config.model.head == "softmax" and threshold <= softmax_floor(classes):
        floor = f"behind a softmax of {classes} classes the loss cannot fall below {softmax_floor(classes):.4f}"
        found.append(f"trainer.loss_threshold={to_text(threshold)}: {floor}; choose a larger one, or model.head=logits")
    return found + _of_evaluation(config)


def _of_evaluation(config: Config) -> list[str]:
    """Return a line for everything that evaluations are asked for and cannot do."""
    evaluation, targets = config.evaluation, asdict(config.evaluation.targets)
    floor = softmax_floor(config.model.num_classes)
    found = [
        f"evaluation.targets.{name}={to_text(values)}: behind a softmax of {config.model.num_classes} classes the loss "
        f"cannot fall below {floor:.4f}; choose larger ones, or model.head=logits"
        for name, values in targets.items()
        if config.model.head == "softmax" and name.endswith("_loss") and any(value <= floor for value in values)
    ]
    asked = [f"targets.{name}={to_text(values)}" for name, values in targets.items() if values]
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


Settings = TypeVar("Settings")

# More runs of one configuration than anybody waits for.
MOST_SEEDS = 999


def own_keys(schema: type[Settings], file: str, prefix: str, typed: Sequence[str]) -> Settings:
    """Return the values of the YAML `file` in `conf/`, changed by `typed`, as the dataclass `schema`.

    `typed` are `key=value` without `prefix`. Raises `InvalidConfig` for an unknown key or a value of another type.
    """
    structured = OmegaConf.structured(schema)
    for each in typed:
        try:
            OmegaConf.merge(structured, OmegaConf.from_dotlist([each]))
        except (OmegaConfBaseException, YAMLError) as error:
            raise InvalidConfig(f"{prefix}{each}: {str(error).splitlines()[0]}") from error
    merged = OmegaConf.merge(structured, OmegaConf.load(CONF / file), OmegaConf.from_dotlist(list(typed)))
    settings: Settings = OmegaConf.to_object(merged)  # type: ignore[assignment]
    return settings
