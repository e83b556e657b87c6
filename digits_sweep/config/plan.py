"""What a command line would run, worked out, and refused where it is wrong, before anything runs.

Hydra composes the runs of a sweep again when it launches them; this looks at the same runs first, with the same
grammar, so that a mistake in the last of them stops the first.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from digits_sweep.config.compose import run_folder
from digits_sweep.config.hydra_errors import explained
from digits_sweep.config.rules import InvalidConfig, to_config
from digits_sweep.config.schema import CONF, Config

# Keys that no run of a sweep may have to itself.
OF_THE_SWEEP = ("outputs", "resume", "dry_run", "fail_fast", "tracker", "data.root", "data.mirrors", "data.fallback")
# The launchers that start a run when another one has ended. A cluster's launcher hands them all over at once.
ONE_AFTER_ANOTHER = ("basic", "joblib")


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep: the name of its folder and its whole configuration."""

    folder: str
    config: Config


@dataclass(frozen=True)
class Plan:
    """A command line, every run that it makes, in order, the keys that are swept, and which launcher starts the runs.

    A single run sweeps no key, and is started by Hydra's `basic` launcher.
    """

    arguments: tuple[str, ...]
    runs: tuple[PlannedRun, ...]
    swept: tuple[str, ...]
    launcher: str

    @property
    def settings(self) -> Config:
        """Where to read what holds for the whole sweep, such as `outputs`: no run may have its own."""
        return self.runs[0].config

    @property
    def outputs(self) -> Path:
        return Path(self.settings.outputs).expanduser()

    def folders_for_hydra(self, sweep_dir: Path) -> list[str]:
        """The overrides that make Hydra write where this plan says, in whatever folder its workers stand."""
        keys = ",".join(f"'{key}'" for key in self.swept)
        run_folder, sweep_dir = f"${{run_folder:{keys}}}", sweep_dir.absolute()
        return [
            f'hydra.run.dir="{sweep_dir}/{run_folder}"',
            f'hydra.sweep.dir="{sweep_dir}"',
            f'hydra.sweep.subdir="{run_folder}"',
        ]


def override(key: str, value: str) -> str:
    """`key=value` as Hydra reads it, in quotes where the value is more than a plain word or path."""
    return f"{key}={value}" if re.fullmatch(r"[\w./:-]+", value, flags=re.ASCII) else f"{key}='{value}'"


def plan(arguments: Sequence[str]) -> Plan:
    """What `python -m digits_sweep` would do with these `arguments`.

    Raises `InvalidConfig` with a line for every mistake, each with key, value and what would be right.
    """
    parsed = get_args_parser().parse_args(list(arguments))
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"), explained(parsed.overrides):
        overrides = OverridesParser.create().parse_overrides(parsed.overrides)
        _refuse_added_and_removed_keys(overrides)
        _refuse_sweeping_what_holds_for_all(overrides)
        fixed = [str(each.input_line) for each in overrides if not each.is_sweep_override()]
        base = compose("config", fixed, return_hydra_config=True)
        if not parsed.multirun and base.hydra.mode != RunMode.MULTIRUN:
            _refuse_sweeps_without_multirun(overrides)
            return Plan(tuple(arguments), (_planned(fixed, ()),), (), "basic")
        jobs, swept = _expand(base, overrides)
        runs = tuple(_planned(job, swept) for job in jobs)
    _refuse_same_runs(runs)
    launcher = base.hydra.runtime.choices["hydra/launcher"]
    if runs[0].config.fail_fast and launcher not in ONE_AFTER_ANOTHER:
        raise InvalidConfig(f"fail_fast=true: hydra/launcher={launcher} has all runs begun at once; leave it out")
    return Plan(tuple(arguments), runs, swept, launcher)


def _refuse_sweeps_without_multirun(overrides: Sequence[Override]) -> None:
    for each in overrides:
        if each.is_sweep_override():
            raise InvalidConfig(f"{each.input_line}: several values are a sweep; add -m")


def _refuse_added_and_removed_keys(overrides: Sequence[Override]) -> None:
    for each in overrides:
        if each.is_delete():
            raise InvalidConfig(f"{each.input_line}: no key can be taken out; give it another value")
        if each.is_add() and "/" not in each.key_or_group and not each.is_hydra_override():
            raise InvalidConfig(f"{each.input_line}: no key can be added; leave out the +")


def _refuse_sweeping_what_holds_for_all(overrides: Sequence[Override]) -> None:
    for each in overrides:
        key = each.key_or_group
        if each.is_sweep_override() and (key in OF_THE_SWEEP or key.startswith("tracker.")):
            raise InvalidConfig(f"{each.input_line}: this holds for a whole sweep; give it one value")


def _refuse_same_runs(runs: Sequence[PlannedRun]) -> None:
    for folder, times in Counter(run.folder for run in runs).items():
        if times > 1:
            raise InvalidConfig(f"{folder}: {times} runs of this sweep are the same; name every value once")


def _expand(base: DictConfig, overrides: Sequence[Override]) -> tuple[list[list[str]], tuple[str, ...]]:
    """The overrides of every run, as Hydra's own grid sweeper makes them, and the keys that differ among them."""
    from_config = [f"{key}={value}" for key, value in (base.hydra.sweeper.params or {}).items()]
    everything = [*OverridesParser.create().parse_overrides(from_config), *overrides]
    (jobs,) = BasicSweeper.split_arguments(everything, max_batch_size=None)
    swept = dict.fromkeys(each.key_or_group for each in everything if each.is_sweep_override())
    return [list(job) for job in jobs], tuple(swept)


def _planned(job: Sequence[str], swept: Sequence[str]) -> PlannedRun:
    with explained(job):
        composed = compose("config", list(job), return_hydra_config=True)
        folder = run_folder(*swept, _root_=composed)
        with open_dict(composed):
            del composed["hydra"]
        return PlannedRun(folder, to_config(composed))
