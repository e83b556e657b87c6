"""The runs of a command line, worked out and checked before the first one starts.

The plan is what counts: runs are launched from it, `sweep.json` holds it, and a resume is compared with it. Whatever
depends on the moment (`shuffle()`, `${now:...}`) is resolved here, once.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice, product
from math import prod
from pathlib import Path

from hydra.core.override_parser.types import Override, RangeSweep
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from digits_sweep.config.command_line import check_working_folder, read_command_line
from digits_sweep.config.compose import Composed, Composer, composing, explained, is_by_batch_size, to_config
from digits_sweep.config.keys import flat, holds_for_the_sweep
from digits_sweep.config.launchers import Launcher, launcher_called, runs_per_job
from digits_sweep.config.own_code import expect_changes
from digits_sweep.config.own_command import command_mistakes, unused_keys, with_own_parts
from digits_sweep.config.scaling import as_text
from digits_sweep.config.schema import UNTIL_DECIDED, Config
from digits_sweep.config.text import key_of, safe_name, to_text
from digits_sweep.errors import InvalidConfig

# From here on planning takes longer than a second.
MANY_RUNS = 100

# Keys and groups of Hydra's that this program sets itself, with what to use instead.
NOT_HERE = {
    "hydra.run.dir": "outputs=FOLDER says where sweeps land",
    "hydra.sweep.dir": "outputs=FOLDER says where sweeps land",
    "hydra.sweep.subdir": "a run's folder is named after what is swept",
    "hydra/sweeper": "python -m digits_sweep.tune searches",
    "hydra.callbacks": "callbacks are not called; a tracker (tracker=mlflow) reads what a sweep records",
}


@dataclass(frozen=True)
class PlannedRun:
    """A run: the name of its folder, its whole configuration, and the overrides that make it."""

    folder: str
    config: Config
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """A command line, its runs in order, and Hydra's own configuration, which holds its launcher's.

    `typed` are the keys and groups that a user has named: a value that does not fit the data is refused if it was
    typed, and fitted if it was not.
    """

    command: tuple[str, ...]
    runs: tuple[PlannedRun, ...]
    hydra: DictConfig
    typed: frozenset[str]

    @property
    def settings(self) -> Config:
        """The configuration that has what holds for the whole sweep, such as `outputs`."""
        return self.runs[0].config

    @property
    def outputs(self) -> Path:
        return Path(self.settings.outputs)

    @property
    def launcher(self) -> Launcher:
        return launcher_called(self.hydra.runtime.choices["hydra/launcher"])

    @property
    def runs_per_job(self) -> int | None:
        """How many runs share a job of a cluster; None: as many as are worth it, by what runs take."""
        return runs_per_job(self.launcher, self.hydra.launcher)


def plan(arguments: Sequence[str], announce: Callable[[str], None] | None = None) -> Plan:
    """Plan what `python -m digits_sweep` would run with these `arguments`.

    `announce` is called with a line if there are so many runs that planning takes seconds. Raises `InvalidConfig` with
    a line for every mistake, each with key, value and what would be right.
    """
    line = read_command_line(arguments)
    check_working_folder()
    expect_changes()
    with composing(line.config_dirs) as composer, explained(line.overrides, composer):
        overrides = [composer.parse(text) for text in with_own_parts(line.overrides)]
        for override in overrides:
            _refuse(override)
        # Without what depends on the batch size; of several values the first, because a group may need one.
        base = composer.composed(
            [composer.parse(text) for each in overrides if not is_by_batch_size(each) for text in _first(each)]
        )
        if base.hydra.callbacks:
            raise InvalidConfig(f"hydra.callbacks: {NOT_HERE['hydra.callbacks']}")
        # Resolved once, so that the moment is the same for all runs.
        settings = to_config(base.config)
        if line.multirun or base.hydra.mode == RunMode.MULTIRUN:
            overrides = [*_of_experiment(composer, overrides, base), *overrides]
        elif sweep := next((each for each in overrides if each.is_sweep_override()), None):
            raise InvalidConfig(f"{sweep.input_line}: several values are a sweep; add -m")
        overrides = _with_seeds(composer, overrides, settings, line.multirun)
        most = settings.max_runs
        count = prod(map(_count, overrides))
        if not count:
            raise InvalidConfig("this command has 0 runs: must be at least 1")
        if count > most:
            raise InvalidConfig(_too_many(f"{count:,}", most))
        if announce and count >= MANY_RUNS:
            announce(f"planning {count:,} runs")
        runs = tuple(islice(_planned(composer, overrides), most + 1))
        if len(runs) > most:
            raise InvalidConfig(_too_many(f"more than {most:,}", most))
    _refuse_same_runs(runs)
    _refuse_one_configuration(runs, settings)
    _refuse_command(runs, {override.key_or_group for override in overrides})
    _refuse_differing_settings(runs)
    planned = Plan(tuple(arguments), runs, base.hydra, frozenset(map(key_of, arguments)))
    _ = planned.runs_per_job
    if settings.fail_fast and not planned.launcher.stops_early:
        name = planned.launcher.name
        raise InvalidConfig(f"fail_fast=true: hydra/launcher={name} starts all runs at once; leave it out")
    return planned


def _refuse(override: Override) -> None:
    """Raise `InvalidConfig` for an override that Hydra knows and this program does not."""
    key, text = override.key_or_group, override.input_line
    if key == "command" and "${" in str(text):
        raise InvalidConfig(f"{text}: write {{data.batch_size}} for a value of the run, without the $")
    if instead := next((why for name, why in NOT_HERE.items() if f"{key}.".startswith(f"{name}.")), None):
        raise InvalidConfig(f"{text}: {instead}")
    if override.is_delete():
        raise InvalidConfig(f"{text}: no key can be removed; give it another value")
    if override.is_add() and "/" not in key and not override.is_hydra_override():
        raise InvalidConfig(f"{text}: no key can be added; leave out the +")
    if override.is_sweep_override() and not override.is_discrete_sweep():
        raise InvalidConfig(f"{text}: has no list of values; use range(...), or tune")
    if override.is_sweep_override() and (holds_for_the_sweep(key) or override.is_hydra_override()):
        raise InvalidConfig(f"{text}: this holds for a whole sweep; give it one value")


def _refuse_command(runs: Sequence[PlannedRun], typed: Collection[str]) -> None:
    """Raise `InvalidConfig` for a command that is not typed, and for a key with several values that it does not use."""
    command = runs[0].config.command
    if command is None:
        return
    if "command" not in typed:
        raise InvalidConfig(f"command={command}: comes from a file; only a command that is typed is started")
    configs = [run.config for run in runs]
    mistakes = dict.fromkeys(line for config in configs for line in command_mistakes(config))
    if lines := [*mistakes] or [*unused_keys(configs)]:
        raise InvalidConfig("\n".join(lines))


def _with_seeds(composer: Composer, overrides: list[Override], settings: Config, multirun: bool) -> list[Override]:
    """Return the overrides, with `seeds=until_decided` with every seed that may be tried, counted up from `seed`."""
    if settings.seeds is None:
        return overrides
    if not multirun:
        raise InvalidConfig(f"seeds={UNTIL_DECIDED}: several seeds are a sweep; add -m")
    # What is typed comes after what an experiment sweeps.
    last = next((each for each in reversed(overrides) if each.key_or_group == "seed"), None)
    if last is not None and last.is_sweep_override():
        raise InvalidConfig(f"{last.input_line}: seeds={UNTIL_DECIDED} counts up from one seed; type the first")
    others = [override for override in overrides if override.key_or_group != "seed"]
    return [*others, composer.parse(f"seed=range({settings.seed},{settings.seed + settings.max_seeds})")]


def _refuse_one_configuration(runs: Sequence[PlannedRun], settings: Config) -> None:
    """Raise `InvalidConfig` if seeds would be added until one configuration is sooner than itself."""
    if settings.seeds is not None and len(runs) <= settings.max_seeds:
        alone = "one configuration is the soonest anyway; give a key several values"
        raise InvalidConfig(f"seeds={UNTIL_DECIDED}: {alone}")


def _too_many(runs: str, most: int) -> str:
    return f"this command has {runs} runs: must be at most {most:,} (max_runs=N raises this)"


def _count(override: Override) -> int:
    """Return the number of values of an override, without making them: a range may have a hundred million."""
    if not override.is_sweep_override():
        return 1
    value = override.value()
    if isinstance(value, RangeSweep) and value.start is not None and value.stop is not None and value.step:
        return max(0, -int(-(value.stop - value.start) // value.step))
    return sum(1 for _ in islice(override.sweep_string_iterator(), 10**6))


def _of_experiment(composer: Composer, overrides: Sequence[Override], base: Composed) -> list[Override]:
    """Return the overrides of an experiment's own sweep; of several experiments, each has its own."""
    params = base.hydra.sweeper.params or {}
    if params and any(override.is_sweep_override() for override in overrides):
        common = [each for each in overrides if not each.is_sweep_override() and not is_by_batch_size(each)]
        params = composer.composed(common).hydra.sweeper.params or {}
    return [composer.parse(f"{key}={value}") for key, value in params.items()]


def _first(override: Override) -> Iterator[str]:
    """Yield an override with the first of its values, if it has any."""
    if not override.is_sweep_override():
        yield str(override.input_line)
        return
    for value in islice(override.sweep_string_iterator(), 1):
        yield f"{override.get_key_element()}={value}"


def _planned(composer: Composer, overrides: Sequence[Override], swept: Iterable[str] = ()) -> Iterator[PlannedRun]:
    """Yield every combination of the values, the last key varying fastest, as Hydra's own sweeper orders them.

    A choice among the values may have a sweep of its own (`hydra.sweeper.params`): its combinations take its place.
    `swept` are the keys that have several values already.
    """
    values = {override.get_key_element(): _values(override) for override in overrides}
    swept = dict.fromkeys([*swept, *(each.key_or_group for each in overrides if each.is_sweep_override())])
    for combination in product(*values.values()):
        texts = tuple(f"{key}={value}" for key, value in zip(values, combination, strict=True))
        single = [composer.parse(text) for text in texts]
        composed, config, numbers = composer.resolved(single)
        params = composed.hydra.sweeper.params or {}
        if own := [composer.parse(f"{key}={value}") for key, value in params.items() if key not in values]:
            yield from _planned(composer, [*single, *own], swept)
        else:
            yield PlannedRun(_folder(composed, numbers, tuple(swept)), config, texts)


def _values(override: Override) -> list[str]:
    if override.is_sweep_override():
        return list(override.sweep_string_iterator())
    return [override.get_value_element_as_str()]


def _folder(composed: Composed, numbers: Mapping[str, float], swept: Sequence[str]) -> str:
    """Return the name of a run's folder: what is swept, or the batch size, and how it grows if it does."""
    choices, config = composed.hydra.runtime.choices, composed.config
    grows = as_text(config.schedule.batch) is not None
    keys = swept or ("data.batch_size", *(["schedule.batch"] if grows else []))
    values = {**choices, **numbers}
    parts = {key: values[key] if key in values else OmegaConf.select(config, key) for key in keys}
    return safe_name("_".join(f"{re.split('[./]', key)[-1]}={to_text(value)}" for key, value in parts.items()))


def _refuse_differing_settings(runs: Sequence[PlannedRun]) -> None:
    """Raise `InvalidConfig` if a sweep has two folders of outputs, of data and so on, however they are typed."""
    first = dict(flat(asdict(runs[0].config)))
    for run in runs[1:]:
        for key, value in flat(asdict(run.config)):
            if holds_for_the_sweep(key) and value != first.get(key):
                both = f"{to_text(first.get(key))} and {to_text(value)}"
                raise InvalidConfig(f"{key}: {both} in one sweep; it holds for all runs, give it one value")


def _refuse_same_runs(runs: Sequence[PlannedRun]) -> None:
    """Raise `InvalidConfig` if a value was named twice: a folder is named after what is swept, exactly."""
    for folder, times in Counter(run.folder for run in runs).items():
        if times > 1:
            raise InvalidConfig(f"{folder}: {times} runs of this sweep are the same; name every value once")
