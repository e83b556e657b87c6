"""Reporting to trackers what a sweep's folder holds, as it grows."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from digits_sweep.errors import UnreadableRecord
from digits_sweep.results.files import SMALL_BYTES, check_plain, read_json, replace_file
from digits_sweep.results.record import Count, Status
from digits_sweep.results.run import RecordedRun
from digits_sweep.results.sweep import RecordedSweep
from digits_sweep.trackers import TRACKERS
from digits_sweep.trackers.protocol import Tracker

# In the folder of a run: each tracker's name for it, and what has been reported to it.
REPORTED = "trackers.json"


@dataclass
class Reported:
    """What one tracker has of one run: its name for the run, how many epochs, and the status at its end if it ended."""

    known_as: str | None = None
    epochs: Count = 0
    ended: str | None = None


class Follower:
    """Reports a sweep to its trackers; `settings` are those of every tracker by its name.

    A tracker that raises is turned off, with one line to `warn`; the others continue.
    """

    def __init__(self, sweep_dir: Path, settings: dict[str, dict[str, str]], warn: Callable[[str], None]) -> None:
        self.warn = warn
        self._sweep = RecordedSweep(sweep_dir)
        self._trackers: dict[str, Tracker] = {}
        self._open: set[tuple[str, str]] = set()
        self._done: dict[str, RecordedRun] = {}
        for name, chosen in settings.items():
            try:
                self._trackers[name] = TRACKERS[name](**chosen)
            except Exception as error:
                self._turn_off(name, error)

    def follow(self, last: bool = False) -> None:
        """Report what is new on disk to every tracker. `last` closes runs that have not ended, as they stand."""
        self._sweep.refresh()
        for name, run in self._sweep.runs.items():
            # A run of which nothing has changed is the same object. What does not fit its record is not reported: the
            # run's row in the summary says what is wrong.
            if not run.misfits and (last or self._done.get(name) is not run):
                self._follow_run(run, last)
                self._done[name] = run

    def _follow_run(self, run: RecordedRun, last: bool) -> None:
        for name in list(self._trackers):
            try:
                self._report(name, run, last)
            except Exception as error:
                self._turn_off(name, error)

    def _report(self, name: str, run: RecordedRun, last: bool) -> None:
        tracker, folder, record, history = self._trackers[name], run.folder, run.record, run.history
        of_all = _read(folder)
        before = of_all.get(name, Reported())
        if before.epochs > len(history):
            # The run was started again from an earlier epoch.
            before = Reported(before.known_as)
        new = history[before.epochs :]
        ended = str(record.status) if last or record.status is not Status.INTERRUPTED else None
        if not new and ended in (None, before.ended):
            return
        known_as = before.known_as or ""
        if (name, run.name) not in self._open:
            known_as = tracker.begin(run, before.known_as)
            self._open.add((name, run.name))
            if known_as != before.known_as:
                # What the file says was reported to another run.
                new = history
        for row in new:
            tracker.epoch(known_as, row)
        _write(folder, of_all | {name: Reported(known_as, len(history))})
        if ended:
            # What lies in the folder is sent as it is: a link would send a file from elsewhere.
            check_plain(folder)
            tracker.end(known_as, run)
            self._open.discard((name, run.name))
            _write(folder, of_all | {name: Reported(known_as, len(history), ended)})

    def _turn_off(self, name: str, error: Exception) -> None:
        self._trackers.pop(name, None)
        reason = (str(error).splitlines() or [""])[0]
        self.warn(f"WARNING: tracker {name} is off for the rest of the sweep: {type(error).__name__}: {reason}")


def _write(folder: Path, of_all: dict[str, Reported]) -> None:
    content = {name: asdict(each) for name, each in of_all.items()}
    replace_file(folder / REPORTED, json.dumps(content) + "\n")


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
    # A process that has died already says so by its exit code.
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps(tracker).encode() + b"\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
    try:
        yield
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()  # type: ignore[union-attr]
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_SECONDS)
            if process.poll() is None:
                verb = "have" if len(tracker) > 1 else "has"
                say(f"waiting until {' and '.join(tracker)} {verb} what is left, at most {MOST_SECONDS} s")
            if process.wait(MOST_SECONDS):
                say(f"WARNING: the process of the trackers ended with exit code {process.returncode}")
        except subprocess.TimeoutExpired:
            say(f"process {process.pid} is still reporting to the trackers; the sweep does not wait for it")
