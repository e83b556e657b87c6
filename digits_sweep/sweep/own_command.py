"""A run whose training is a command of the user's: started, watched, and stopped when the sweep has what it wants."""

import ctypes
import logging
import math
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from digits_sweep.config.own_command import RUN, keys_in, search_path, words_of
from digits_sweep.config.schema import Config
from digits_sweep.config.text import to_text
from digits_sweep.errors import UnreadableRecord
from digits_sweep.results.changes import open_own
from digits_sweep.results.files import last_lines
from digits_sweep.results.lock import only_writer
from digits_sweep.results.record import (
    ENDED_BY_THE_SWEEP,
    Record,
    Status,
    describe_environment,
    read_record,
    write_record,
)
from digits_sweep.results.run import RecordedRun, read_run
from digits_sweep.shell import RunOnScreen, Screen
from digits_sweep.sweep.run_files import FILES, refuse_another_run, set_run_aside
from digits_sweep.training.device import threads_for

log = logging.getLogger(__name__)

COMMAND_LOG = "command.log"
# How often a run is looked at, and how long a command that is stopped may take to save something.
SECONDS_BETWEEN_LOOKS, GRACE_SECONDS = 0.1, 10.0
# Of the log of a command that fails, so many lines are in the record.
LAST_LINES = 20
# What the libraries that compute on the CPU take their number of threads from.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# A command that somebody or a scheduler stops has not failed; a shell returns 128 and the number of the signal.
STOPS = ("SIGHUP", "SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")
STOPPED: dict[int | OSError, signal.Signals] = {
    code: number for number in signal.Signals if number.name in STOPS for code in (-number.value, 128 + number.value)
}
RECORDED_NOTHING = (
    "the command has ended without recording anything: Recorder() without a folder, or lines for "
    "python -m digits_sweep.record"
)
ENDED_BEFORE = "the command has ended, but its run has not: leave the block of the Recorder, or call its end()"


def new_attempt(config: Config, run_dir: Path, number: int, say: Callable[[str], None]) -> Record:
    """Prepare the record in `run_dir` of a run whose command is about to start, and return it.

    What an earlier attempt recorded stays until the command records. Raises `CannotResume` if a run with another
    configuration is recorded there, OSError if it cannot be written.
    """
    try:
        record = read_record(run_dir)
    except UnreadableRecord as error:
        if any((run_dir / name).exists() for name in FILES):
            set_run_aside(run_dir, error, say)
        record = Record(number)
    if record.config:
        refuse_another_run(run_dir, record, config)
    record.status, record.config, record.folder = Status.INTERRUPTED, asdict(config), run_dir.name
    record.environments = [{**describe_environment(), "from_epoch": 1}]  # type: ignore[typeddict-item]
    record.started_at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    # What belongs to an earlier attempt; a command that records fills in what it is made with.
    record.engine = record.error = record.ended = record.test_accuracy = None
    record.files = {}
    write_record(run_dir, record)
    return record


def run_command(config: Config, run_dir: Path, title: str, screen: Screen) -> RecordedRun:
    """Start the command of `config` for the run in `run_dir`, wait for its end, and return what it has recorded.

    Its output is in `command.log`. It is stopped, first by SIGTERM, if the sweep has what it wants, or if this raises
    KeyboardInterrupt. A command that cannot be started, that records nothing or that returns another code than 0 has
    failed, with the last lines of its output as the `error`.
    """
    words = words_of(config)
    num_epochs = config.trainer.num_epochs if "trainer.num_epochs" in keys_in(str(config.command)) else None
    output_file = open_own(run_dir / COMMAND_LOG, os.O_CREAT | os.O_APPEND)
    with os.fdopen(output_file, "ab") as output, screen.run(title, num_epochs) as shown:
        output.write(f"$ {shlex.join(words)}\n".encode())
        output.flush()
        start = output.tell()
        code: int | OSError
        try:
            with _started(words, run_dir, config, output.fileno()) as process:
                code = _watched(process, run_dir, shown)
        except OSError as error:
            code = error
    with only_writer(run_dir, waits=screen.say):
        record = read_record(run_dir)
        if record.status is Status.INTERRUPTED and code in STOPPED:
            record.error = f"the command was stopped by {STOPPED[code].name}"
            write_record(run_dir, record)
        elif reason := _failure(record, code) or _never_evaluated(read_run(run_dir)):
            record.status = Status.FAILED
            record.error = "\n".join([reason, *last_lines(run_dir / COMMAND_LOG, LAST_LINES, start)])
            log.error("%s", record.error)
            screen.say(f"  failed: {reason}")
            screen.say(f"  its output: {run_dir / COMMAND_LOG}")
            write_record(run_dir, record)
    return read_run(run_dir)


@contextmanager
def _started(words: list[str], run_dir: Path, config: Config, output: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command during the block, in a session of its own, so that all that it starts is stopped with it."""
    threads = dict.fromkeys(THREADS, str(threads_for(config.num_threads)))
    environment = os.environ | {"PATH": search_path()} | threads | {RUN: str(run_dir.absolute())}
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment,
        start_new_session=True, preexec_fn=_end_with_parent if sys.platform == "linux" else None,
    )  # fmt: skip
    try:
        yield process
    finally:
        _stop(process)


# Looked up before the fork: behind it, another thread of the parent may hold what an import waits for.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    """Let the system send SIGTERM if this program is killed: nobody would stop the command then."""
    if _LIBC:
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End a command, and whatever it has left running."""
    if os.name != "posix":
        # Windows has no groups of processes that a signal reaches, and no SIGTERM that a program could hear.
        if process.poll() is None:
            subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False)
        process.kill()
        process.wait()
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(GRACE_SECONDS)
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _watched(process: "subprocess.Popen[bytes]", run_dir: Path, shown: RunOnScreen) -> int:
    """Show the epochs that a command records until it ends, or its run does for the sweep; return its exit code."""
    epochs, seen = 0, None
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(SECONDS_BETWEEN_LOOKS)
        if (now := _signature(run_dir)) != seen:
            seen = now
            with suppress(UnreadableRecord):
                recorded = read_run(run_dir)
                for row in recorded.history[epochs:] if recorded.record.engine else ():
                    shown.epoch(row.epoch, row.loss_mean, row.loss_std, row.seconds)
                    log.info("epoch %d: loss %.6f in %.3f s", row.epoch, row.loss_mean, row.seconds)
                    epochs = row.epoch
                if recorded.record.status.has_ended and recorded.record.ended in ENDED_BY_THE_SWEEP:
                    return 0
        if process.returncode is not None:
            return process.returncode


def _signature(run_dir: Path) -> list[tuple[int, int]]:
    """What changes if an epoch is recorded, or the run ends."""
    found = []
    for name in ("record.json", "history.csv"):
        with suppress(OSError):
            status = (run_dir / name).stat()
            found.append((status.st_mtime_ns, status.st_size))
    return found


def _failure(record: Record, code: int | OSError) -> str | None:
    """Return why a command has failed, None if it has not. What its run has recorded of that itself stays."""
    if record.status is Status.FAILED and record.error:
        return None
    if isinstance(code, OSError):
        return f"the command cannot be started ({code.strerror or code})"
    if code < 0:
        return f"the command was stopped by {signal.Signals(-code).name}"
    if code:
        return f"the command returned exit code {code}"
    if record.engine is None:
        return RECORDED_NOTHING
    return None if record.status.has_ended else ENDED_BEFORE


def _never_evaluated(run: RecordedRun) -> str | None:
    """Return why a completed run cannot say whether it has reached a target, None if it can."""
    targets = (run.record.config.get("evaluation") or {}).get("targets") or {}
    for name, thresholds in targets.items() if run.record.status is Status.COMPLETED else ():
        values = [value for row in run.evaluations if (value := getattr(row, name, None)) is not None]
        if thresholds and all(map(math.isnan, values)):
            return (
                f"evaluation.targets.{name}={to_text(thresholds)}: the command has recorded none; "
                f"recorder.evaluated({name}=...)"
            )
    return None
