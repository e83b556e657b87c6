"""Launching the runs of a plan: by Hydra's launchers, or in this process without a command line (`run`)."""

import logging
import math
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

from digits_sweep.config.plan import Plan, PlannedRun, plan
from digits_sweep.console import Screen
from digits_sweep.errors import DigitsSweepError, InvalidConfig
from digits_sweep.process import INTERRUPTED, TERMINATED, Terminated
from digits_sweep.results.manifest import read_manifest
from digits_sweep.results.run.record import Status
from digits_sweep.results.summary import publish_summary
from digits_sweep.results.sweep import RecordedSweep
from digits_sweep.sweep import session
from digits_sweep.sweep.as_before import as_before
from digits_sweep.sweep.hydra_jobs import launch_by_hydra
from digits_sweep.sweep.one_run.run import run as train

# Exit codes: a run failed; the sweep was stopped on purpose. Those of a command that is stopped: `process`.
FAILED, STOPPED = 1, 2
# joblib gives up a whole sweep if one worker is killed, submitit if one job is: how often lost runs are launched again.
MOST_RETRIES = 3
# How often the table is rebuilt at most while runs train.
SECONDS_BETWEEN_TABLES = 2.0
# How `run` is called, and the only flags that mean something there.
EXAMPLE = "run('data.batch_size=100,20', 'trainer.num_epochs=3')"
CONFIG_DIR = ("--config-dir", "-cd")


def run(*overrides: str) -> Path:
    """Train what `python -m digits_sweep -m` would with these overrides, one run after the other, in this process.

    `run("data.batch_size=100,20,5")` is the sweep, `run("data.batch_size=5")` a single run, `run("resume=latest")`
    resumes what was stopped. Returns the full path of the sweep's folder, which `load_sweep` makes a table of. Threads
    and denormals of PyTorch, handlers of signals and Hydra are as before when it returns or raises. Raises a
    `DigitsSweepError` before anything is trained if an override is wrong, or data, device or folder cannot be had, and
    TypeError for what is no override. A run that fails says so in its row and its record; with `fail_fast=true` it is
    the last one.
    """
    for each in overrides:
        if not isinstance(each, str) or (each.startswith("-") and not each.startswith(CONFIG_DIR)):
            raise TypeError(f"run({each!r}): must be key=value, a text for each key: {EXAMPLE}")
    try:
        with as_before():
            return _trained(overrides)
    except (DigitsSweepError, OSError) as error:
        # The text says it all: the calls in between are of no use to whoever reads it.
        raise error.with_traceback(None) from None


def _trained(overrides: Sequence[str]) -> Path:
    planned = plan(["-m", *overrides])
    if planned.settings.dry_run or not planned.launcher.in_process:
        raise InvalidConfig("dry_run=true and hydra/launcher=... are for the command line; leave them out")
    _, folder = session.execute(planned, _in_this_process, Screen())
    return cast(Path, folder).absolute()


def _in_this_process(planned: Plan, sweep: RecordedSweep, screen: Screen) -> int:
    """Train without Hydra's launcher, which would change this process's logging."""
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
    # On a full disk the log cannot be written either, which would bury the line that says so under tracebacks.
    logging.raiseExceptions = False
    try:
        if planned.launcher.in_process:
            return _one_by_one(
                planned, sweep, screen, lambda number, run: launch_by_hydra(planned, sweep.folder, [run], number)[0]
            )
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
    # Runs of a fraction of a second would spend as long again on the table; the last state of it is written at the end.
    published_at = -math.inf
    for number, run in enumerate(planned.runs):
        status = start(number, run)
        if time.monotonic() - published_at >= SECONDS_BETWEEN_TABLES:
            sweep.refresh()
            try:
                publish_summary(sweep, planned.outputs)
            except OSError as error:
                screen.say(f"summary.csv is as it was before {run.folder}: {error}")
            published_at = time.monotonic()
        if planned.settings.fail_fast and status is not Status.COMPLETED:
            screen.say(f"stopped: {run.folder} {status}, and fail_fast=true ends the sweep there")
            return STOPPED
    return 0


def _all_at_once(planned: Plan, sweep: RecordedSweep, screen: Screen) -> int:
    with _published(planned, sweep):
        _launch_together(planned, sweep, planned.runs, screen)
        for _ in range(MOST_RETRIES):
            sweep.refresh()
            if not (lost := lost_runs(planned, sweep)):
                return 0
            screen.say(f"lost worker process for {', '.join(lost)}; restarting")
            _launch_together(planned, sweep, [run for run in planned.runs if run.folder in lost], screen)
    return FAILED


def _launch_together(planned: Plan, sweep: RecordedSweep, runs: Sequence[PlannedRun], screen: Screen) -> None:
    try:
        launch_by_hydra(planned, sweep.folder, runs)
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
