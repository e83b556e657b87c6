"""Hydra's launchers: each job gets its configuration from the plan, in whatever process it is started."""

import copy
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, open_dict

from digits_sweep.config.hydra.launchers import SUBMITIT_FOLDER, launcher_called
from digits_sweep.config.nodes import config_from
from digits_sweep.config.plan import Plan, PlannedRun
from digits_sweep.console import Screen
from digits_sweep.errors import CannotRecord, CannotResume
from digits_sweep.results.manifest import read_manifest
from digits_sweep.results.run.record import Status
from digits_sweep.sweep.one_run.run import run


def launch_by_hydra(planned: Plan, sweep_dir: Path, runs: Sequence[PlannedRun], first: int = 0) -> list[Status]:
    """Let the plan's launcher train `runs` in `sweep_dir`; return how each ended.

    `first` is the number of the first one in its sweep. Raises whatever the launcher or a job raises.
    """
    config = DictConfig({"hydra": planned.hydra})
    with open_dict(config.hydra):
        config.hydra.job.chdir = False
        config.hydra.sweep.dir, config.hydra.mode = str(sweep_dir.absolute()), RunMode.MULTIRUN
        if "submitit_folder" in config.hydra.launcher:
            # submitit runs what its folder holds in files named after its jobs, whose numbers can be guessed: in a
            # sweep that somebody else has sent, its folder must be a new one.
            config.hydra.launcher.submitit_folder = str(sweep_dir.absolute() / SUBMITIT_FOLDER / token_hex(8) / "%j")
    context = HydraContext(config_loader=cast(Any, PlannedConfigs()), callbacks=cast(Any, NoCallbacks()))
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=job, config=config)
    overrides = [[*run.overrides, f"hydra.sweep.subdir={run.folder}"] for run in runs]
    return [Status(ended.return_value) for ended in launcher.launch(overrides, initial_job_idx=first)]


class PlannedConfigs:
    """Stands in for Hydra's config loader: gives a job its configuration from `sweep.json`, already composed."""

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Return the configuration of the job whose last override is `hydra.sweep.subdir=FOLDER`."""
        *typed, subdir = sweep_overrides
        folder = subdir.partition("=")[2]
        manifest = read_manifest(Path(master_config.hydra.sweep.dir))
        config = copy.deepcopy(master_config)
        with open_dict(config):
            config.hydra.sweep.subdir, config.hydra.overrides.task = folder, typed
            for key, value in manifest.configs[manifest.number_of(folder)].items():
                config[key] = value
        return config


class NoCallbacks:
    """Stands in for Hydra's callbacks, which this program refuses while planning."""

    def on_job_start(self, **of_the_job: Any) -> None:
        """Ignore the start of a job."""

    def on_job_end(self, **of_the_job: Any) -> None:
        """Ignore the end of a job."""


def job(_: DictConfig) -> str:
    """Train one run in whatever process Hydra's launcher starts it; return its status.

    Raises SystemExit if the sweep must not continue: results cannot be recorded, or `fail_fast` asks for it.
    """
    hydra = HydraConfig.get()
    # A cluster's worker stands in another folder than its user, who typed the paths.
    os.chdir(hydra.runtime.cwd)
    run_dir = Path(hydra.runtime.output_dir)
    manifest = read_manifest(run_dir.parent)
    number = manifest.number_of(run_dir.name)
    config = config_from(manifest.configs[number])
    try:
        status = run(config, run_dir, number, manifest).status
    except CannotResume as error:
        # Another run was started there: what is recorded stays.
        Screen().say(str(error))
        return str(Status.FAILED)
    except (CannotRecord, OSError) as error:
        sys.exit(f"stopped: {error}")
    in_process = launcher_called(hydra.runtime.choices["hydra/launcher"]).in_process
    if config.fail_fast and status is not Status.COMPLETED and not in_process:
        sys.exit(f"stopped: {run_dir.name} {status}, and fail_fast=true ends the sweep there")
    return str(status)
