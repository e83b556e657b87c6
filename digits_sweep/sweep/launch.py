"""Launching the runs of a plan: by Hydra's launchers, or in this process without them."""

import logging
import math
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from digits_sweep.config.plan import Plan, PlannedRun
from digits_sweep.console import Screen
from digits_sweep.process.command import INTERRUPTED, TERMINATED, Terminated
from digits_sweep.results.manifest import read_manifest
from digits_sweep.results.run.record import Status
from digits_sweep.results.summary import publish_summary
from digits_sweep.results.sweep import RecordedSweep
from digits_sweep.sweep import session
from digits_sweep.sweep.hydra_jobs import launch_by_hydra
from digits_sweep.sweep.one_run.run import run as train

# Exit codes: a run failed; the sweep was stopped on purpose. Those of a command that is stopped: `process`.
FAILED, STOPPED = 1, 2
# joblib gives up a whole sweep if one worker is killed, submitit if one job is: how often lost runs are launched again.
MOST_RETRIES = 3
# How often the table is rebuilt at most while runs train.
SECONDS_BETWEEN_TABLES = 2.0


def in_this_process(planned: Plan, sweep: RecordedSweep, screen: Screen) -> int:
    """Train without Hydra's launcher, which would change this process's logging; return the exit code."""
    manifest = read_manifest(sweep.folder)

    def start(number: int, run: PlannedRun) -> Status:
        return train(run.config, sweep.folder / run.folder, number, manifest, screen=screen).status

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
        # The longest first: started last, it would train on alone when all others have ended.
        launch_by_hydra(planned, sweep.folder, sorted(runs, key=_relative_length, reverse=True))
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        screen.say(f"hydra/launcher={planned.launcher.name}: {type(error).__name__}: {reason}")


def _relative_length(run: PlannedRun) -> float:
    """How many iterations a run has for every example: what an iteration costs hardly depends on its batch size."""
    return run.config.trainer.num_epochs / run.config.data.batch_size


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
