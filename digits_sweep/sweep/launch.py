"""Launching the runs of a plan: by Hydra's launchers, or in this process without them.

Each job gets its configuration from the record of its run, in whatever process it is started.
"""

import copy
import logging
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, open_dict

from digits_sweep.config.launchers import SUBMITIT_FOLDER, launcher_called
from digits_sweep.config.plan import Plan, PlannedRun
from digits_sweep.config.schema import config_from
from digits_sweep.errors import CannotRecord, CannotResume
from digits_sweep.report.words import counted, listed
from digits_sweep.results.record import Status, read_record
from digits_sweep.results.sweep import RecordedSweep, publish_summary, read_manifest
from digits_sweep.shell import INTERRUPTED, TERMINATED, Screen, SweepProgress, Terminated
from digits_sweep.sweep import packing, session, slurm
from digits_sweep.sweep.run import run as train


def launch_by_hydra(
    planned: Plan, sweep_dir: Path, runs: Sequence[PlannedRun], progress: SweepProgress | None = None
) -> list[Status]:
    """Let the plan's launcher train `runs` in `sweep_dir`; return how each ended.

    `progress` is for a launcher that trains in this process. Raises whatever the launcher or a job raises.
    """
    launcher = _launcher(planned, sweep_dir, token_hex(8), progress)
    return [Status(ended.return_value) for ended in launcher.launch(_overrides(runs), initial_job_idx=0)]


def _overrides(runs: Sequence[PlannedRun]) -> list[list[str]]:
    return [[*run.overrides, f"hydra.sweep.subdir={run.folder}"] for run in runs]


def _launcher(planned: Plan, sweep_dir: Path, token: str, progress: SweepProgress | None = None) -> Any:
    """Return Hydra's launcher for a plan; submitit's keeps what it writes in a folder called `token`."""
    config = DictConfig({"hydra": planned.hydra})
    with open_dict(config.hydra):
        config.hydra.job.chdir = False
        config.hydra.sweep.dir, config.hydra.mode = str(sweep_dir.absolute()), RunMode.MULTIRUN
        if "submitit_folder" in config.hydra.launcher:
            # submitit runs what its folder holds in files named after its jobs, whose numbers can be guessed: in a
            # sweep that somebody else has sent, its folder must be a new one.
            config.hydra.launcher.submitit_folder = str(sweep_dir.absolute() / SUBMITIT_FOLDER / token / "%j")
            if config.hydra.launcher.name == config.hydra.job.name:
                config.hydra.launcher.name = f"{config.hydra.job.name}_{sweep_dir.name}"
    context = HydraContext(config_loader=cast(Any, PlannedConfigs()), callbacks=cast(Any, NoCallbacks()))
    # A command is what was typed, not what a file in the sweep's folder says.
    task = partial(job, progress=progress, command=planned.settings.command)
    return Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task, config=config)


class PlannedConfigs:
    """Stands in for Hydra's config loader: gives a job its configuration from its record, already composed."""

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Return the configuration of the job whose last override is `hydra.sweep.subdir=FOLDER`."""
        *typed, subdir = sweep_overrides
        folder = subdir.partition("=")[2]
        record = read_record(Path(master_config.hydra.sweep.dir, folder))
        config = copy.deepcopy(master_config)
        with open_dict(config):
            config.hydra.sweep.subdir, config.hydra.overrides.task = folder, typed
            for key, value in record.config.items():
                config[key] = value
        return config


class NoCallbacks:
    """Stands in for Hydra's callbacks, which this program refuses while planning."""

    def on_job_start(self, **of_the_job: Any) -> None:
        """Ignore the start of a job."""

    def on_job_end(self, **of_the_job: Any) -> None:
        """Ignore the end of a job."""


def job(_: DictConfig, progress: SweepProgress | None = None, command: str | None = None) -> str:
    """Train one run in whatever process Hydra's launcher starts it, by `command` if there is one; return its status.

    Raises SystemExit if the sweep must not continue: results cannot be recorded, or `fail_fast` asks for it.
    """
    hydra = HydraConfig.get()
    # A cluster's worker stands in another folder than its user, who typed the paths.
    os.chdir(hydra.runtime.cwd)
    run_dir = Path(hydra.runtime.output_dir)
    manifest, record = read_manifest(run_dir.parent), read_record(run_dir)
    config = replace(config_from(record.config), command=command)
    try:
        status = train(config, run_dir, record.number, manifest, progress=progress).record.status
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


# Exit codes: a run failed; the sweep was stopped on purpose. Those of a command that is stopped are in `shell`.
FAILED, STOPPED = 1, 2
# How often the table is rebuilt at most while runs train, and what share of the time that may take.
SECONDS_BETWEEN_TABLES, MOST_OF_THE_TIME = 2.0, 0.05


def launch_in_process(planned: Plan, sweep: RecordedSweep, screen: Screen) -> int:
    """Train without Hydra's launcher, which would change this process's logging; return the exit code."""
    manifest = read_manifest(sweep.folder)

    def start(run: PlannedRun, progress: SweepProgress | None) -> Status:
        run_dir = sweep.folder / run.folder
        number = read_record(run_dir).number
        return train(run.config, run_dir, number, manifest, screen=screen, progress=progress).record.status

    return _one_by_one(planned, sweep, screen, start)


def launch(planned: Plan, sweep: RecordedSweep, screen: Screen) -> int:
    """Let Hydra's launcher run everything that is planned; return the exit code.

    Stopped by hand or by a scheduler, what was running stays as it is.
    """
    # On a full disk the log cannot be written either, which would bury the line that says so under tracebacks.
    logging.raiseExceptions = False
    try:
        if planned.launcher.in_process:
            return _one_by_one(
                planned, sweep, screen,
                lambda run, progress: launch_by_hydra(planned, sweep.folder, [run], progress)[0],
            )  # fmt: skip
        return (_in_jobs if planned.launcher.is_slurm else _all_at_once)(planned, sweep, screen)
    except Terminated:
        return TERMINATED
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as end:
        screen.say(str(end.code))
        return STOPPED


def _one_by_one(
    planned: Plan,
    sweep: RecordedSweep,
    screen: Screen,
    start: Callable[[PlannedRun, SweepProgress | None], Status],
) -> int:
    runs = in_order(planned.runs)
    configs = [run.config for run in runs]
    epochs, sizes = [each.trainer.num_epochs for each in configs], [each.data.batch_size for each in configs]
    progress = SweepProgress(epochs, sizes) if len(configs) > 1 else None
    # Runs of a fraction of a second would spend as long again on the table; the last state of it is written at the end.
    tables = _Tables(sweep, planned.outputs)
    for number, run in enumerate(runs):
        if progress:
            progress.number = number
        status = start(run, progress)
        try:
            tables.publish()
        except OSError as error:
            screen.say(f"summary.csv is as it was before {run.folder}: {error}")
        if planned.settings.fail_fast and status is not Status.COMPLETED:
            screen.say(f"stopped: {run.folder} {status}, and fail_fast=true ends the sweep there")
            return STOPPED
    return 0


# Ray itself waits for minutes for a head that does not answer, with a line of its own every few seconds.
SECONDS_FOR_A_HEAD = 15.0


def _is_away(planned: Plan, say: Callable[[str], None]) -> bool:
    """Return whether the Ray cluster that a plan names by address does not answer, and say so."""
    address = str(planned.hydra.launcher.ray.init.address) if planned.launcher.name == "ray_cluster" else ""
    address = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return False
    until = time.monotonic() + SECONDS_FOR_A_HEAD
    while True:
        try:
            socket.create_connection((host, int(port)), SECONDS_FOR_A_HEAD).close()
            return False
        except (OSError, OverflowError) as error:
            if time.monotonic() >= until:
                say(f"the Ray cluster at {address} does not answer for {SECONDS_FOR_A_HEAD:g} s: {error}")
                return True
            time.sleep(min(1.0, SECONDS_FOR_A_HEAD))


def _all_at_once(planned: Plan, sweep: RecordedSweep, screen: Screen) -> int:
    if _is_away(planned, screen.say):
        return FAILED
    with _published(planned, sweep):
        _launch_together(planned, sweep, planned.runs, screen)
        for _ in range(planned.settings.retries):
            sweep.refresh()
            # If no run has started, no process was lost: the launcher has not worked.
            if not sweep.runs or not (lost := _unfinished(planned, sweep)):
                return 0
            screen.say(f"lost worker process for {', '.join(lost)}; restarting")
            _launch_together(planned, sweep, [run for run in planned.runs if run.folder in lost], screen)
    return FAILED


def _in_jobs(planned: Plan, sweep: RecordedSweep, screen: Screen) -> int:
    """Attach to the jobs that still live, submit others for the runs that are left, and wait for all of them.

    A run is submitted again if its job was lost, at most `retries` times, and only when no job is left.
    """
    jobs = slurm.read_jobs(sweep.folder)
    alive = slurm.living(jobs)
    if alive is None:
        screen.say(
            f"Slurm does not answer (squeue), and {counted(len(jobs), 'job')} may be there still: try again later"
        )
        return FAILED
    # A run whose job has ended since the sweep was read needs no other.
    sweep.refresh()
    left = session.left(planned, sweep)
    jobs = {run: jobs[run] for run in left if run in jobs}
    attached = {run: alive[run] for run in left if run in alive}
    if attached:
        ids = {jobs[run].id for run in attached}
        screen.say(f"{counted(len(ids), 'job')} still there, not submitted again: {listed(list(attached))}")
    with _published(planned, sweep):
        try:
            again, alone = [run for run in left if run not in attached], set[str]()
            for attempt in range(planned.settings.retries + 1):
                if not _through_jobs(planned, sweep, again, alone, jobs, screen):
                    return FAILED
                sweep.refresh()
                if not (unfinished := _unfinished(planned, sweep)):
                    return 0
                again = slurm.lost(jobs, unfinished, sweep.folder, screen.say)
                if not again or attempt == planned.settings.retries:
                    return FAILED
                # What ended one may end it again, and its neighbours with it.
                alone |= sweep.runs.keys() & set(again)
                screen.say(f"lost, submitted again: {listed(again)}")
        except KeyboardInterrupt:
            if alive := slurm.living(jobs):
                screen.say(slurm.go_on([jobs[run] for run in alive]))
            raise
    return FAILED


def _through_jobs(
    planned: Plan,
    sweep: RecordedSweep,
    names: Sequence[str],
    alone: Collection[str],
    jobs: dict[str, slurm.Job],
    screen: Screen,
) -> bool:
    """Submit jobs for the runs called `names`, add them to `jobs`, and wait until none of these is left.

    Return False if Slurm takes none. What it takes no more of, or what waits until it is known how long runs take, is
    submitted later. Runs in `alone` share no job.
    """
    waiting = in_order([run for run in planned.runs if run.folder in names])
    tried: dict[str, str] = {}
    none_lives = False
    while True:
        packs, later = _packed(planned, sweep, waiting, alone, None if none_lives else tried)
        refused = _submit(planned, sweep, packs, jobs, screen)
        if refused and not slurm.living(jobs):
            return False
        waiting = in_order([*refused, *later])
        kinds = frozenset(map(_kind, later))
        tried.update((_kind(run), run.folder) for run in (pack[0] for pack in packs) if _kind(run) in kinds)

        def is_enough(kinds: frozenset[str] = kinds) -> bool:
            if kinds:
                return not kinds.isdisjoint(_expected(sweep, tried.values()))
            return not session.left(planned, sweep)

        none_lives = slurm.wait_for(jobs, screen.say, is_enough)
        if not waiting:
            return True


def _kind(run: PlannedRun) -> str:
    return packing.alike(asdict(run.config))


def _packed(
    planned: Plan,
    sweep: RecordedSweep,
    runs: Sequence[PlannedRun],
    alone: Collection[str],
    tried: Collection[str] | None,
) -> tuple[list[list[PlannedRun]], list[PlannedRun]]:
    """Return runs job by job, and those that wait for a run like them that is being `tried`; with None, none wait."""
    single, shared = ([run for run in runs if (run.folder in alone) is each] for each in (True, False))
    packs = [[run] for run in single]
    if planned.runs_per_job is not None:
        return packs + packing.in_jobs_of(planned.runs_per_job, shared), []
    known, limit_seconds = _expected(sweep, sweep.runs), 60.0 * planned.hydra.launcher.timeout_min
    more, waiting = packing.by_seconds(shared, known, limit_seconds, tried or ())
    packs += more
    return (packs, waiting) if tried is not None else (packs + [[run] for run in waiting], [])


def _expected(sweep: RecordedSweep, names: Iterable[str]) -> dict[str, float]:
    return packing.expected([sweep.runs[name] for name in list(names) if name in sweep.runs])


def _submit(
    planned: Plan, sweep: RecordedSweep, packs: list[list[PlannedRun]], jobs: dict[str, slurm.Job], screen: Screen
) -> list[PlannedRun]:
    """Submit a job for each of `packs`, and note it in `jobs` and `jobs.json`; return the runs that Slurm refuses."""
    if not packs:
        return []
    token, done = token_hex(8), 0
    overrides = [dict(zip((run.folder for run in pack), _overrides(pack), strict=True)) for pack in packs]
    try:
        for accepted in slurm.submit(_launcher(planned, sweep.folder, token), overrides, token):
            now = {run.folder: job for pack, job in zip(packs[done:], accepted, strict=False) for run in pack}
            done += len(accepted)
            jobs |= now
            slurm.write_jobs(sweep.folder, slurm.read_jobs(sweep.folder) | now)
            runs = f" of {counted(len(now), 'run')}" if len(now) > len(accepted) else ""
            ids, logs = listed([job.id for job in accepted]), sweep.folder / SUBMITIT_FOLDER / token
            screen.say(f"{counted(len(accepted), 'job')} submitted{runs} ({ids}); logs: {logs}")
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[-1]
        screen.say(f"hydra/launcher={planned.launcher.name}: {type(error).__name__}: {reason}")
    return [run for pack in packs[done:] for run in pack]


def _launch_together(planned: Plan, sweep: RecordedSweep, runs: Sequence[PlannedRun], screen: Screen) -> None:
    try:
        launch_by_hydra(planned, sweep.folder, in_order(runs))
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        screen.say(f"hydra/launcher={planned.launcher.name}: {type(error).__name__}: {reason}")


def in_order(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Return runs in the order in which they are started: seed by seed, and the longest of a seed first.

    A machine whose speed drifts then slows all configurations alike. Started last, the longest would train on alone.
    """
    seeds = {seed: number for number, seed in enumerate(dict.fromkeys(run.config.seed for run in runs))}
    return sorted(runs, key=lambda run: (seeds[run.config.seed], -_relative_length(run)))


def _relative_length(run: PlannedRun) -> float:
    """How many iterations a run has for every example: what an iteration costs hardly depends on its batch size."""
    return run.config.trainer.num_epochs / run.config.data.batch_size


class _Tables:
    """Rebuilds the tables of a sweep while its runs train, which takes seconds with thousands of them."""

    def __init__(self, sweep: RecordedSweep, outputs: Path) -> None:
        self.sweep, self.outputs = sweep, outputs
        self._due = -math.inf

    def publish(self) -> None:
        """Rebuild them if something has changed and it is not too soon. Raises OSError if they cannot be written."""
        started = time.monotonic()
        if started < self._due:
            return
        try:
            if self.sweep.refresh():
                publish_summary(self.sweep, self.outputs)
        finally:
            now = time.monotonic()
            self._due = now + max(SECONDS_BETWEEN_TABLES, (now - started) / MOST_OF_THE_TIME)


@contextmanager
def _published(planned: Plan, sweep: RecordedSweep) -> Iterator[None]:
    """Keep the table up to date while runs train in other processes."""
    ended, tables = threading.Event(), _Tables(sweep, planned.outputs)

    def publish() -> None:
        while not ended.wait(SECONDS_BETWEEN_TABLES):
            # What cannot be written now is reported when the sweep ends.
            with suppress(OSError):
                tables.publish()

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _unfinished(planned: Plan, sweep: RecordedSweep) -> list[str]:
    """Return the runs whose worker died before it wrote a status, and those waiting behind them."""
    failed = {name for name, run in sweep.runs.items() if run.record.status is Status.FAILED}
    return [name for name in session.left(planned, sweep) if name not in failed]
