"""Composition by Hydra: from the overrides of one run to its `Config`, every number resolved and checked.

Hydra takes about 0.15 s to compose a configuration. Runs nearly always differ in plain values only, so Hydra composes
once for every set of group choices, and a `Composer` puts plain values in with OmegaConf, as Hydra does. A process that
plans again, such as a notebook, composes anew only what it has not composed since the last change of a file in `conf/`.
"""

import copy
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args, get_origin
from urllib.parse import quote

from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    OmegaConfBaseException,
    ValidationError,
)
from packaging.version import Version

from digits_sweep.config.keys import changed, checked, declared, no_such_key
from digits_sweep.config.launchers import SITE_OPTIONS, as_added, launcher_called
from digits_sweep.config.scaling import GROW, as_text, scaled, sizes_in
from digits_sweep.config.schema import FOLDER, RATES, Config, Rule, ScheduleConfig, groups, kinds_of
from digits_sweep.config.text import expand_home, quoted
from digits_sweep.errors import InvalidConfig, not_installed

# Inside the package if it is installed from a wheel, beside it in a source tree.
CONF = next(folder / "conf" for folder in Path(__file__).parents[1:3] if (folder / "conf").is_dir())


def folder_of_the_environment(variable: str, default: str) -> str:
    """Resolve `${folder_of:NAME,"default"}`: the environment variable, unless it is missing or empty."""
    folder = os.environ.get(variable, "")
    return folder if folder.strip() else default


def sqlite_address(path: str) -> str:
    """Resolve `${sqlite:path}`: the address of the SQLite file `path`, whatever characters the path has.

    In an address a question mark, for one, would end the path.
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
    return next((address for address in (plain, escaped) if make_url(address).database == path), of_sqlite)


ConfigStore.instance().store(name="schema", node=Config)
for _group in groups().values():
    for _kind in kinds_of(_group):
        ConfigStore.instance().store(group="schema", name=_kind.__name__.removesuffix("Config").lower(), node=_kind)
OmegaConf.register_new_resolver("folder_of", folder_of_the_environment, replace=True)
OmegaConf.register_new_resolver("sqlite", sqlite_address, replace=True)
# What an optimizer's file has for a number that `scaling` may change, `${scaled:NAME,VALUE}`, is VALUE to begin with.
OmegaConf.register_new_resolver("scaled", lambda name, value: value, replace=True)

# Hydra's state is that of the whole process: one thread composes at a time.
ONE_AT_A_TIME = threading.RLock()


@contextmanager
def own_hydra() -> Iterator[ConfigLoader]:
    """Initialize Hydra with `conf/` for the block, then restore it as another program had it.

    If no other program has chosen the version that Hydra behaves like, it stays the one that Hydra's launchers need.
    """
    with ONE_AT_A_TIME:
        of_another, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
        version_base = VersionBase.instance().version_base
        try:
            with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
                yield GlobalHydra.instance().config_loader()
        finally:
            GlobalHydra.instance().hydra = of_another
            if isinstance(version_base, Version):
                VersionBase.instance().version_base = version_base


@contextmanager
def composing(config_dirs: Sequence[str] = ()) -> Iterator["Composer"]:
    """Compose in the block, from `conf/` and from `config_dirs`, folders of the user's.

    Raises `InvalidConfig` if one of these is no folder.
    """
    searchpath = [_searched(folder) for folder in config_dirs]
    with own_hydra() as loader:
        yield Composer(loader, searchpath)


def _searched(argument: str) -> str:
    """Return a folder as Hydra's search path has it."""
    folder = Path(expand_home(argument)).absolute()
    if not folder.is_dir():
        raise InvalidConfig(f"--config-dir={argument}: there is no such folder")
    if not FOLDER.holds(str(folder)):
        raise InvalidConfig(f"--config-dir={argument}: {FOLDER.right}")
    return f"file://{folder}"


@dataclass(frozen=True)
class Composed:
    """A run's configuration as Hydra composes it, and Hydra's own node, which stood beside it.

    `numbers` are those of the optimizer's file that `scaling` may change: NAME and VALUE of `${scaled:NAME,VALUE}`.
    """

    config: DictConfig
    hydra: DictConfig
    numbers: Mapping[str, tuple[str, Any]]


# What Hydra composes from: the files of `conf/` with their times of change and sizes, and what a program has stored.
ConfState = tuple[frozenset[tuple[Path, int, int]], str]


def _conf_state() -> ConfState:
    files = ((path, path.stat()) for path in CONF.rglob("*"))
    state = frozenset((path, status.st_mtime_ns, status.st_size) for path, status in files)
    return state, repr(ConfigStore.instance().repo)


def _by_hydra(overrides: Sequence[str]) -> Composed:
    """Let Hydra compose, in the block of `own_hydra`."""
    config = compose("config", list(overrides), return_hydra_config=True)
    hydra = config.hydra
    with open_dict(config):
        del config["hydra"]
    return Composed(config, hydra, _own_numbers(config.optimizer))


@lru_cache
def _of_conf(overrides: tuple[str, ...], conf: ConfState) -> Composed:
    return _by_hydra(overrides)


@lru_cache
def _groups_of_conf(conf: ConfState) -> list[str]:
    # Hydra copies everything it knows for each such question.
    return GlobalHydra.instance().config_loader().list_groups("")


class Composer:
    """Composes configurations with Hydra's `loader`, which also looks into the folders of `searchpath`."""

    def __init__(self, loader: ConfigLoader, searchpath: Sequence[str]) -> None:
        self._loader, self._searchpath = loader, searchpath
        self._parser = OverridesParser.create(config_loader=loader)
        self._parsed: dict[str, Override] = {}
        self._composed: dict[tuple[str, ...], Composed] = {}
        self._first: DictConfig | None = None
        self._resolved: dict[tuple[str, ...], tuple[Composed, Config, str]] = {}

    def parse(self, text: str) -> Override:
        """Read one `key=value` in Hydra's grammar. Raises Hydra's own errors."""
        if text not in self._parsed:
            (self._parsed[text],) = self._parser.parse_overrides([as_added(text)])
        return self._parsed[text]

    def composed(self, overrides: Sequence[Override]) -> Composed:
        """Compose the configuration of one run. Interpolations stay unresolved."""
        choices: list[Override] = []
        values: list[Override] = []
        for override in overrides:
            (choices if override.is_hydra_override() or self._is_choice(override) else values).append(override)
        base = self._with_choices(tuple(str(override.input_line) for override in choices))
        config = copy.deepcopy(base.config)
        for override in values:
            if not is_by_batch_size(override):
                _update(config, override.key_or_group, override.value())
        typed = [override.key_or_group for override in values]
        _start_with_first_size(config, typed)
        # A value for every batch size needs the batch size first.
        for override in filter(is_by_batch_size, values):
            _update(config, override.key_or_group, value_at(override, config.data.batch_size))
        # What depends on the moment, such as ${now:...}, is the same for all runs of a command.
        self._first = self._first or config
        OmegaConf.copy_cache(self._first, config)
        _expand_folders(config)
        _scale(config, base.numbers, typed)
        return Composed(config, base.hydra, base.numbers)

    def resolved(self, overrides: Sequence[Override]) -> tuple[Composed, Config, dict[str, float]]:
        """Compose the configuration of one run and resolve it; return both, and numbers that the first lacks.

        Runs that differ only in numbers on which no other key depends, such as seeds and rates, are composed once.
        """
        free: dict[str, Any] = {
            override.key_or_group: override.value() for override in overrides if _is_number(override)
        }
        others = (str(override.input_line) for override in overrides if override.key_or_group not in free)
        alike = (*others, *free)
        if alike not in self._resolved:
            composed = self.composed(overrides)
            texts = (str(text) for text in _texts(OmegaConf.to_container(composed.config, resolve=False)))
            named = " ".join(text for text in texts if "${" in text)
            self._resolved[alike] = composed, to_config(composed.config), named
        composed, config, named = self._resolved[alike]
        if any(name.rpartition(".")[2] in named for name in free):
            composed = self.composed(overrides)
            return composed, to_config(composed.config), {}
        return composed, changed(config, free), free

    def _is_choice(self, override: Override) -> bool:
        """Return whether `override` chooses from a config group, instead of setting a value."""
        key = override.key_or_group
        # Only the name of a group has a slash.
        return "." not in key and ("/" in key or key in self._all_groups)

    def _with_choices(self, choices: tuple[str, ...]) -> Composed:
        if choices not in self._composed:
            if self._searchpath or any(choice.startswith("hydra.searchpath=") for choice in choices):
                self._composed[choices] = _by_hydra(self._with_searchpath(choices))
            else:
                kept = _of_conf(choices, self._conf)
                # A plan may change what its launcher is given, and stand in another folder.
                hydra = copy.deepcopy(kept.hydra)
                with read_write(hydra):
                    hydra.runtime.cwd = str(Path.cwd())
                self._composed[choices] = replace(kept, hydra=hydra)
        return self._composed[choices]

    def _with_searchpath(self, choices: tuple[str, ...]) -> list[str]:
        if not self._searchpath:
            return list(choices)
        paths = [choice for choice in choices if choice.startswith("hydra.searchpath=")]
        folders = [folder for path in paths for folder in self.parse(path).value()]  # type: ignore[union-attr]
        others = [choice for choice in choices if choice not in paths]
        return [*others, f"hydra.searchpath=[{','.join(map(quoted, [*folders, *self._searchpath]))}]"]

    def groups(self) -> list[str]:
        """Return the config groups that a command line may choose from."""
        return [group for group in self._all_groups if group not in ("hydra", "schema")]

    @property
    def _all_groups(self) -> list[str]:
        return _groups_of_conf(self._conf)

    @cached_property
    def _conf(self) -> ConfState:
        return _conf_state()

    def options(self, group: str) -> list[str]:
        """Return the choices of a config group; none if there is no such group."""
        return self._loader.get_group_options(group)


def _update(config: DictConfig, key: str, value: Any) -> None:
    # Only a dictionary of arguments has keys that nobody declares.
    OmegaConf.update(config, key, value, merge=True, force_add=".arguments." in f"{key}.")


def _start_with_first_size(config: DictConfig, typed: Sequence[str]) -> None:
    """Let the batch size be the first of `schedule.batch`. Raises `InvalidConfig` if another one is `typed`."""
    batch = config.schedule.batch
    if (sizes := sizes_in(batch)) is None:
        return
    first = sizes[0][1]
    if "data.batch_size" in typed and config.data.batch_size != first:
        raise InvalidConfig(
            f"data.batch_size={config.data.batch_size}: schedule.batch begins with {first}; leave out data.batch_size"
        )
    config.data.batch_size = first


def _is_number(override: Override) -> bool:
    """Return whether a key gets a number on which nothing depends but what names it: rules depend on the batch size."""
    key = override.key_or_group
    if override.is_sweep_override() or key not in declared() or key.startswith(("data.batch_size", "scaling.")):
        return False
    return key.count(".") < 2 and type(override.value()) is declared()[key].kind in (int, float)


def _texts(content: Any) -> Iterator[Any]:
    """Yield every value in a configuration that holds no others."""
    if isinstance(content, dict | list):
        for each in content.values() if isinstance(content, dict) else content:
            yield from _texts(each)
    else:
        yield content


OTHERWISE = "else"


def is_by_batch_size(override: Override) -> bool:
    """Return whether a dictionary is typed for a key that holds no dictionary: it has a value for every batch size."""
    kind = declared()[override.key_or_group].kind if override.key_or_group in declared() else dict
    return isinstance(override.value(), dict) and kind is not Any and dict not in (kind, get_origin(kind))


def value_at(override: Override, batch_size: int) -> Any:
    """Return the value that `key={5:1e-4,else:1e-3}` gives to a run of `batch_size`.

    Raises `InvalidConfig` if it has none, or if it names something else than batch sizes.
    """
    values: Any = override.value()
    key = override.key_or_group
    if key == "data.batch_size" or not all(type(size) is int or size == OTHERWISE for size in values):
        right = "give each batch size its value, such as 'optimizer.lr={5:1e-4,20:3e-4,else:1e-3}'"
        raise InvalidConfig(f"{override.input_line}: {right}")
    if batch_size in values or OTHERWISE in values:
        return values.get(batch_size, values.get(OTHERWISE))
    raise InvalidConfig(f"{override.input_line}: has no value for batch size {batch_size}; add else:VALUE")


def _own_numbers(optimizer: DictConfig) -> dict[str, tuple[str, Any]]:
    """Return NAME and VALUE of every `${scaled:NAME,VALUE}` of an optimizer by its key, and put VALUE in its place.

    OmegaConf would parse these anew for every run, which takes as long as the rest of its composition.
    """
    numbers = {}
    for key, text in OmegaConf.to_container(optimizer, resolve=False).items():  # type: ignore[union-attr]
        if isinstance(text, str) and (marked := re.match(r"\$\{scaled:(\w+),", text)):
            value = optimizer[key]
            optimizer[key] = value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            numbers[str(key)] = (marked[1], value)
    return numbers


def _scale(config: DictConfig, numbers: Mapping[str, tuple[str, Any]], typed: Sequence[str]) -> None:
    """Change an optimizer's own `numbers` as `scaling` says for the run's batch size; `typed` keys stay."""
    scaling, optimizer, batch_size = config.scaling, config.optimizer, config.data.batch_size
    rule, reference = scaling.rule, scaling.reference_batch_size
    if rule is not None and scaling.reference_lr is None and "lr" in numbers:
        # The record says what the rule starts from.
        scaling.reference_lr = numbers["lr"][1]
    rates = scaling.rates.get(optimizer.name, {}).get(str(batch_size), {})
    for key, (name, own) in numbers.items():
        if any(f"{override}.".startswith(f"optimizer.{key}.") for override in typed):
            continue
        start = scaling.reference_lr if key == "lr" and scaling.reference_lr is not None else own
        value = rates.get(key, scaled(rule, name, start, batch_size, reference))
        if value != own:
            optimizer[key] = value


def _expand_folders(config: DictConfig) -> None:
    """Expand `~` in every folder of a composed configuration, before other keys are made of them."""
    for name in (key.name for key in declared().values() if key.rule.is_folder):
        folder = OmegaConf.select(config, name)
        if isinstance(folder, str) and (full := expand_home(folder)) != folder:
            # A dollar sign in the name of a home folder is no interpolation.
            OmegaConf.update(config, name, full.replace("${", "\\${"))


def to_config(composed: DictConfig) -> Config:
    """Turn a composed configuration into plain dataclasses, every interpolation resolved.

    Raises `InvalidConfig` if a value breaks a rule, and OmegaConf's own errors if one is missing.
    """
    config: Config = OmegaConf.to_object(composed)  # type: ignore[assignment]
    for tracker, settings in config.tracker.items():
        if isinstance(settings, dict):
            texts = {name: _expanded_address(value) for name, value in settings.items() if isinstance(value, str)}
            config.tracker[tracker] = settings | texts
    _settle_growth(config.schedule)
    return checked(config)


def _settle_growth(schedule: ScheduleConfig) -> None:
    """Write sizes as text, and forget what does nothing: a sweep may have growing and fixed batches."""
    schedule.batch = as_text(schedule.batch)
    if schedule.batch is None:
        schedule.batch_lr = None
    if schedule.batch != GROW:
        schedule.largest_batch = None


def _expanded_address(value: str) -> str:
    """Expand `~` at the start of a path, and of the path in the address of a local store: `sqlite:///~/mlflow.db`."""
    scheme, slashes, path = value.partition(":///")
    is_store = slashes and re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme)
    return f"{scheme}:///{expand_home(path)}" if is_store else expand_home(value)


KINDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
KINDS |= {list[str]: "a list [a,b]", list[float]: "a list of numbers [a,b]", type(None): "null"}
KINDS[list[int]] = "a list of whole numbers [a,b]"
KINDS[RATES] = "numbers by optimizer, by batch size in quotes, and by key, as in conf/scaling/lesson.yaml"


@contextmanager
def explained(overrides: Sequence[str], composer: Composer) -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise in the block into `InvalidConfig`; `overrides` are what the user typed."""
    try:
        yield
    except OverrideParseException as error:
        raise InvalidConfig(_unreadable(error.override)) from error
    except AssertionError as error:
        # OmegaConf's way to refuse a value inside something that is null.
        raise InvalidConfig(_first_line(error)) from error
    except MissingConfigException as error:
        raise InvalidConfig(_missing_choice(error, composer)) from error
    except (HydraException, OmegaConfBaseException, ValueError, TypeError) as error:
        cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__ or error.__context__
        explanation = _wrong_value(cause, overrides, composer) or _wrong_group(overrides, composer)
        raise InvalidConfig(explanation or _first_line(error)) from error


def _unreadable(override: str) -> str:
    """Say how to type a text that Hydra's grammar cannot read."""
    key, equals, value = override.partition("=")
    if "\r" in override:
        return f"{override!r}: ends with a carriage return, as lines of a Windows file do; remove it"
    if not equals:
        return f"{override}: is not key=value; a list of values has no space after its commas (key=1,2,3)"
    if value.rstrip().endswith(","):
        return f"{override}: ends with a comma; a list of values has no space after its commas (key=1,2,3)"
    inner = value.strip("'\"").replace('"', '\\"')
    return f"{override}: cannot be read as key=value; quote it, also for the shell: '{key}=\"{inner}\"'"


def _missing_choice(error: MissingConfigException, composer: Composer) -> str:
    file = str(error.missing_cfg_file)
    group, _, choice = file.rpartition("/")
    if group == "hydra/launcher" and (extra := launcher_called(choice).extra):
        return f"{group}={choice}: {not_installed('its launcher', extra)}"
    if not error.options:
        return f"{group or file}={choice}: there is no such group; choose among {', '.join(composer.groups())}"
    if group == "optimizer" and (now := _with_scaling(choice, composer)):
        return f"{group}={choice}: is now {now}"
    return f"{group}={choice}: there is no such choice; choose {' or '.join(error.options)}"


def _with_scaling(choice: str, composer: Composer) -> str | None:
    """Return how a choice of before there was a group `scaling` is typed now: an optimizer and a rule, `adam_sqrt`."""
    optimizer, _, rule = choice.partition("_")
    scaling = {"same_rates": "none", "fixed": "none"}.get(rule, rule)
    is_one = optimizer in composer.options("optimizer") and scaling in composer.options("scaling")
    return f"optimizer={optimizer} scaling={scaling}" if is_one else None


def _wrong_value(cause: BaseException | None, overrides: Sequence[str], composer: Composer) -> str | None:
    # The key of a list, not of a value in it.
    key = re.sub(r"\[\d+\]$", "", getattr(cause, "full_key", None) or "")
    if not key:
        return None
    known = declared()
    if not key.startswith("tracker."):
        # What is wrong below a key is wrong with its value.
        key = next((above for above in known if key.startswith(f"{above}.")), key)
    typed = next((each for each in overrides if re.match(rf"[+~]*{re.escape(key)}[.=]", each)), key)
    if key.startswith("tracker."):
        name = key.split(".")[1]
        return f"{typed}: " + (f"add tracker={name}" if name in composer.options("tracker") else "there is no such key")
    if key not in known:
        launcher = next((each.partition("=")[2] for each in overrides if each.startswith("hydra/launcher=")), "")
        if key.startswith("hydra.launcher.") and launcher_called(launcher).is_slurm:
            option = f"{SITE_OPTIONS}.{key.rpartition('.')[2]}=VALUE"
            return f"{typed}: this launcher has no such key; an option of sbatch is {option}"
        return f"{typed}: {no_such_key(key, [*known, *(composer.groups() if '.' not in key else ())])}"
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        return f"{typed}: there is no such key with this {key.partition('.')[0]}"
    if isinstance(cause, InterpolationResolutionError) and not isinstance(cause, ValidationError):
        return f"{typed}: {_first_line(cause).rpartition('raised while resolving interpolation: ')[2]}"
    return f"{typed}: {right_kind(known[key].kind, known[key].rule)}"


def right_kind(kind: Any, rule: Rule) -> str:
    """Say of which type a value must be."""
    kinds = [kind] if kind in KINDS else get_args(kind)
    if len(kinds) > 1 and str in kinds:
        # Of texts a rule takes one or two, such as auto.
        return rule.right
    return f"must be {' or '.join(KINDS.get(each, 'of another type') for each in kinds)}"


def _wrong_group(overrides: Sequence[str], composer: Composer) -> str | None:
    """Return a line for the first override that gives a group something other than the name of a choice."""
    for override in overrides:
        group, _, choice = override.lstrip("+").partition("=")
        options = composer.options(group) if group in composer.groups() else []
        if options and choice not in options:
            return f"{override}: there is no such choice; choose {' or '.join(options)}"
    return None


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
