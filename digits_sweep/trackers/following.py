"""Reporting to trackers what a sweep's folder holds, as it grows, from a process beside the sweep."""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from digits_sweep.errors import UnreadableRecord
from digits_sweep.results.columns import COLUMNS, ColumnRole
from digits_sweep.results.files import SMALL_BYTES, check_plain, read_json, write_json
from digits_sweep.results.record import Count, Status
from digits_sweep.results.run import RecordedRun
from digits_sweep.results.sweep import RecordedSweep
from digits_sweep.trackers.registry import REPORTED, TRACKERS, Figures, Tracker

# A server that is away for long is asked no less often than that.
MOST_SECONDS_BETWEEN_TRIES = 60.0


@dataclass(frozen=True)
class Reported:
    """What one tracker has of one run: its name for the run, how many epochs, and the status at its end if it ended."""

    known_as: str | None = None
    epochs: Count = 0
    ended: str | None = None


class Follower:
    """Reports a sweep to its trackers; `settings` are those of every tracker by its name.

    A tracker that raises, because its server is away for example, is tried again later, with one line to `warn`; the
    others continue.
    """

    def __init__(self, sweep_dir: Path, settings: dict[str, dict[str, str]], warn: Callable[[str], None]) -> None:
        self.warn = warn
        self._sweep, self._settings = RecordedSweep(sweep_dir), settings
        self._trackers: dict[str, Tracker] = {}
        # Which tracker has which run open, and which run as it stands.
        self._open: set[tuple[str, str]] = set()
        self._done: dict[tuple[str, str], RecordedRun] = {}
        # Those that fail: how often in a row, and when they are tried again.
        self._failures: dict[str, int] = {}
        self._next: dict[str, float] = {}

    def follow(self, last: bool = False) -> None:
        """Report what is new on disk to every tracker. `last` closes runs that have not ended, as they stand."""
        self._sweep.refresh()
        for name in self._settings:
            if last or time.monotonic() >= self._next.get(name, -math.inf):
                with self._trying(name):
                    self._follow(name, last)
        if last:
            for name in self._failures:
                again = f"resume={self._sweep.folder} tracker={name}"
                self.warn(f"WARNING: tracker {name} lacks a part of the sweep; {again} sends it, nothing is trained")

    def _follow(self, name: str, last: bool) -> None:
        """Report what is new to one tracker, which is started if it is not."""
        if name not in self._trackers:
            self._trackers[name] = TRACKERS[name](**self._settings[name])
        for run in self._sweep.runs.values():
            # A run of which nothing has changed is the same object. What does not fit its record is not reported: the
            # run's row in the summary says what is wrong.
            if not run.misfits and (last or self._done.get((name, run.name)) is not run):
                self._report(name, run, last)
                self._done[name, run.name] = run

    def _report(self, name: str, run: RecordedRun, last: bool) -> None:
        tracker, folder, record, history = self._trackers[name], run.folder, run.record, run.history
        reported = _read(folder)
        before = reported.get(name, Reported())
        if before.epochs > len(history):
            # The run was started again from an earlier epoch.
            before = Reported(before.known_as)
        known_as, new = before.known_as, history[before.epochs :]
        ended = str(record.status) if last or record.status is not Status.INTERRUPTED else None
        if not new and ended in (None, before.ended):
            return
        if (name, run.name) not in self._open:
            known_as = tracker.begin(folder, record, known_as)
            self._open.add((name, run.name))
            if known_as != before.known_as:
                # What the file says was reported to another run.
                new = history
        assert known_as is not None
        if new:
            names = ("loss_mean", "loss_std", "seconds")
            tracker.epochs(known_as, {row.epoch: {name: getattr(row, name) for name in names} for row in new})
        _write(folder, reported | {name: Reported(known_as, len(history))})
        if ended:
            # What lies in the folder is sent as it is: a link would send a file from elsewhere.
            check_plain(folder)
            tracker.end(known_as, folder, record, last_figures(run.row))
            self._open.discard((name, run.name))
            _write(folder, reported | {name: Reported(known_as, len(history), ended)})

    @contextmanager
    def _trying(self, name: str) -> Iterator[None]:
        """Start a tracker anew that raises in the block, after a while that doubles each time."""
        try:
            yield
        except Exception as error:
            self._trackers.pop(name, None)
            self._open = {(tracker, run) for tracker, run in self._open if tracker != name}
            failures = self._failures[name] = self._failures.get(name, 0) + 1
            self._next[name] = time.monotonic() + min(MOST_SECONDS_BETWEEN_TRIES, 2.0**failures)
            if failures == 1:
                reason = (str(error).splitlines() or [""])[0]
                self.warn(f"WARNING: tracker {name} is tried again later: {type(error).__name__}: {reason}")
        else:
            self._failures.pop(name, None)


def last_figures(row: Mapping[str, Any]) -> Figures:
    """Return the figures of a run that has ended: the outcomes in its row of the summary that are numbers."""
    names = [column.name for column in COLUMNS if column.role is ColumnRole.OUTCOME and column.dtype != "string"]
    return {name: float(row[name]) for name in names if row.get(name) is not None}


def _write(folder: Path, reported: dict[str, Reported]) -> None:
    write_json(folder / REPORTED, reported)


def _read(folder: Path) -> dict[str, Reported]:
    """Read what has been reported of a run, by the tracker's name; empty if nothing, or if the file is unreadable."""
    try:
        return read_json(folder / REPORTED, SMALL_BYTES, dict[str, Reported])
    except UnreadableRecord:
        return {}


# How long the end of a sweep waits for trackers that are still sending.
MOST_SECONDS = 60
# After this it is said what is waited for.
PATIENCE_SECONDS = 0.5

# Keeps the libraries from printing between the epochs, and MLflow from trying for minutes to reach a server.
QUIET = {"WANDB_SILENT": "true", "MLFLOW_LOGGING_LEVEL": "WARNING", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}


@contextmanager
def report_to_trackers(tracker: Mapping[str, Any], sweep_dir: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Report what is recorded in `sweep_dir` during the block to the trackers whose settings `tracker` holds by name.

    Without a tracker no process is started. What goes wrong is a line to `say`; nothing is raised.
    """
    if not tracker:
        yield
        return
    process = subprocess.Popen(
        [sys.executable, "-m", "digits_sweep.trackers", str(sweep_dir)],
        stdin=subprocess.PIPE,
        # Ctrl-C is for the sweep, whose end this process must still report.
        start_new_session=True,
        env=QUIET | os.environ,
    )
    stdin = cast(IO[bytes], process.stdin)
    # A process that has died already says so by its exit code.
    with suppress(BrokenPipeError):
        stdin.write(json.dumps(tracker).encode() + b"\n")
        stdin.flush()
    try:
        yield
    finally:
        with suppress(BrokenPipeError):
            stdin.close()
        _wait_for(process, list(tracker), say)


def _wait_for(process: "subprocess.Popen[bytes]", trackers: list[str], say: Callable[[str], None]) -> None:
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_SECONDS)
        if process.poll() is None:
            verb = "have" if len(trackers) > 1 else "has"
            say(f"waiting until {' and '.join(trackers)} {verb} what is left, at most {MOST_SECONDS} s")
        if process.wait(MOST_SECONDS):
            say(f"WARNING: the process of the trackers ended with exit code {process.returncode}")
    except subprocess.TimeoutExpired:
        say(f"process {process.pid} is still reporting to the trackers; the sweep does not wait for it")
