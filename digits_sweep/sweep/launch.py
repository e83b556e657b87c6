"""Launching the runs of a plan: by Hydra's launchers, or in this process without a command line (`run`)."""

import copy
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, open_dict

from digits_sweep.config.launchers import launcher_called
from digits_sweep.config.plan import Plan, PlannedRun, plan
from digits_sweep.config.schema import config_from
from digits_sweep.console import Screen
from digits_sweep.errors import CannotRecord, CannotResume, InvalidConfig
from digits_sweep.results.record import Status
from digits_sweep.results.summary import publish_summary
from digits_sweep.results.sweep import RecordedSweep, read_manifest
from digits_sweep.sweep import session
from digits_sweep.sweep.run import run as train

# Exit codes: a run failed; the sweep was stopped on purpose; and what a shell reports for SIGINT and SIGTERM.
FAILED, STOPPED, INTERRUPTED, TERMINATED = 1, 2, 130, 143
# joblib gives up a whole sweep if one worker is killed, submitit if one job is: how often lost runs are launched again.
MOST_RETRIES = 3
# How often the table is rebuilt while runs train in other processes.
SECONDS_BETWEEN_TABLES = 2.0


def run(*overrides: str) -> Path:
    """Train what `python -m digits_sweep -m` would with these overrides, one run after the other, in this process.

    `run("data.batch_size=100,20,5")` is the sweep, `run("data.batch_size=5")` a single run, `run("resume=latest")`
    resumes what was stopped. Returns the sweep's folder, which `load_sweep` makes a table of. Raises a
    `DigitsSweepError` before anything is trained if an override is wrong, or data, device or folder cannot be had. A
    run that fails says so in its row and its record; with `fail_fast=true` it is the last one.
    """
    _, folder = session.execute(plan(["-m", *overrides]), _in_this_process, Screen())
    if folder is None:
        raise InvalidConfig("dry_run=true: is for the command line; leave it out")
    return folder


def _in_this_process(planned: Plan, sweep: RecordedSweep, screen: Screen) -> int:
    """Train without Hydra's launcher, which would change this process's logging."""
    if planned.launcher.name != "basic":
        raise InvalidConfig(f"hydra/launcher={planned.launcher.name}: is for the command line; leave it out")
    manifest = read_manifest(sweep.folder)

    def start(number: int, run: PlannedRun) -> Status:
        return train(run.config, sweep.folder / run.folder, number, manifest).status

    return _one_by_one(planned, sweep, screen, start)


def launch(planned: Plan, sweep: RecordedSweep, screen: Screen) -> int:
    """Let Hydra's launcher run everything that is planned; return the exit code.

    Stopped by hand or by a scheduler, what was running stays as it is.
    """
    if planned.launcher.needs_accounts and not _keeps_accounts():
        screen.say("WARNING: sacct does not answer here: the end of a killed job will not be noticed")
    raise_on_sigterm()
    # On a full disk the log cannot be written either, which would bury the line that says so under tracebacks.
    logging.raiseExceptions = False
    try:
        if planned.launcher.in_process:
            return _one_by_one(planned, sweep, screen, lambda number, run: _launched(planned, sweep, run, number))
        return _all_at_once(planned, sweep, screen)
    except Terminated:
        return TERMINATED
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as end:
        screen.say(str(end.code))
        return STOPPED


def _keeps_accounts() -> bool:
    """Whether Slurm keeps accounts of its jobs, from which submitit learns that one was killed."""
    return shutil.which("sacct") is not None and subprocess.run(["sacct", "-n"], capture_output=True).returncode == 0


def _one_by_one(planned: Plan, sweep: RecordedSweep, screen: Screen, start: Callable[[int, PlannedRun], Status]) -> int:
    for number, run in enumerate(planned.runs):
        status = start(number, run)
        sweep.refresh()
        try:
            publish_summary(sweep, planned.outputs)
        except OSError as error:
            screen.say(f"summary.csv is as it was before {run.folder}: {error}")
        if planned.settings.fail_fast and status is not Status.COMPLETED:
            screen.say(f"stopped: {run.folder} {status}, and fail_fast=true ends the sweep there")
            return STOPPED
    return 0


def _launched(planned: Plan, sweep: RecordedSweep, run: PlannedRun, number: int) -> Status:
    (ended,) = _launcher(planned, sweep.folder).launch([_overrides(run)], initial_job_idx=number)
    return Status(ended.return_value)


def _all_at_once(planned: Plan, sweep: RecordedSweep, screen: Screen) -> int:
    runs: Sequence[PlannedRun] = planned.runs
    for _ in range(1 + MOST_RETRIES):
        with _published(planned, sweep):
            _launch_together(planned, sweep, runs, screen)
        sweep.refresh()
        lost = lost_runs(planned, sweep)
        if not lost:
            return 0
        screen.say(f"lost worker process for {', '.join(lost)}; restarting")
        runs = [run for run in planned.runs if run.folder in lost]
    return FAILED


def _launch_together(planned: Plan, sweep: RecordedSweep, runs: Sequence[PlannedRun], screen: Screen) -> None:
    try:
        ended: Sequence[JobReturn] = _launcher(planned, sweep.folder).launch(list(map(_overrides, runs)), 0)
        for each in ended:
            # Raises what a job raised.
            _ = each.return_value
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        screen.say(f"hydra/launcher={planned.launcher.name}: {type(error).__name__}: {reason}")


@contextmanager
def _published(planned: Plan, sweep: RecordedSweep) -> Iterator[None]:
    """Keep the table up to date while runs train in other processes."""
    ended = threading.Event()

    def publish() -> None:
        while not ended.wait(SECONDS_BETWEEN_TABLES):
            # What cannot be written now is reported when the sweep ends.
            with suppress(OSError):
                if sweep.refresh():
                    publish_summary(sweep, planned.outputs)

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def lost_runs(planned: Plan, sweep: RecordedSweep) -> list[str]:
    """Return the runs whose processes ended without recording how, and those that they kept from starting.

    They may be started again. If no run has started there are none: no process was lost, no launcher has worked.
    """
    left = session.left(planned, sweep) if sweep.records else []
    return [name for name in left if name not in sweep.records or sweep.records[name].status is not Status.FAILED]


def _overrides(run: PlannedRun) -> list[str]:
    return [*run.overrides, f"hydra.sweep.subdir={run.folder}"]


def _launcher(planned: Plan, sweep_dir: Path) -> Launcher:
    """Hydra's launcher, which hands every job its configuration from the plan."""
    config = DictConfig({"hydra": planned.hydra})
    with open_dict(config.hydra):
        config.hydra.sweep.dir, config.hydra.mode = str(sweep_dir.absolute()), RunMode.MULTIRUN
    context = HydraContext(config_loader=cast(Any, PlannedConfigs()), callbacks=cast(Any, NoCallbacks()))
    return Plugins.instance().instantiate_launcher(hydra_context=context, task_function=job, config=config)


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
        status = train(config, run_dir, number, manifest).status
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


class Terminated(KeyboardInterrupt):
    """SIGTERM: what a scheduler sends before it kills."""


def raise_on_sigterm() -> None:
    """Make SIGTERM end this process as Ctrl-C does, by an exception: `Terminated`."""
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(signum: int, frame: object) -> None:
    raise Terminated
