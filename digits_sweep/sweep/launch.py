"""Having Hydra launch every run of a sweep, and launch again those that were lost with their process."""

import logging
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from digits_sweep.config.plan import Plan
from digits_sweep.console import Screen
from digits_sweep.sweep import session as sweep

# Exit codes: a run failed; the sweep was stopped on purpose; and what a shell reports for SIGINT and SIGTERM.
FAILED, STOPPED, INTERRUPTED, TERMINATED = 1, 2, 130, 143
# joblib gives up a whole sweep when one worker is killed, submitit when one job is: how often it is launched again.
MOST_RETRIES = 3
ON_SLURM = ("slurm", "submitit_slurm")


def launch(job: Callable[[], object], planned: Plan, sweep_dir: Path, screen: Screen) -> int:
    """Let `job`, Hydra's way into this program, run everything that is planned, in `sweep_dir`; the exit code.

    Stopped by hand or by a scheduler, what was running is left as it is.
    """
    if planned.launcher in ON_SLURM and not _slurm_accounts():
        screen.say("WARNING: sacct has no answer here: the end of a job that is killed will not be noticed")
    sys.argv[1:] = [*planned.arguments, *planned.folders_for_hydra(sweep_dir)]
    code = _launch(job, screen)
    for _ in range(MOST_RETRIES if planned.launcher != "basic" else 0):
        if code != FAILED or not (lost := sweep.lost_runs(planned, sweep_dir)):
            break
        screen.say(f"their process ended without a word: {', '.join(lost)}; going on with them")
        code = _launch(job, screen)
    return code


def _slurm_accounts() -> bool:
    """Whether Slurm keeps accounts of its jobs, from which submitit learns that one was killed."""
    return shutil.which("sacct") is not None and subprocess.run(["sacct", "-n"], capture_output=True).returncode == 0


def _launch(job: Callable[[], object], screen: Screen) -> int:
    raise_on_sigterm()
    # On a full disk the log cannot be written either, which would bury the line that says so under tracebacks.
    logging.raiseExceptions = False
    try:
        job()
    except Terminated:
        return TERMINATED
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as end:
        if isinstance(end.code, str):
            screen.say(end.code)
            return STOPPED
        return FAILED if end.code else 0
    return 0


class Terminated(KeyboardInterrupt):
    """SIGTERM: what a scheduler sends before it kills."""


def raise_on_sigterm() -> None:
    """Have SIGTERM end this process as Ctrl-C does, by an exception: `Terminated`."""
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(signum: int, frame: object) -> None:
    raise Terminated
