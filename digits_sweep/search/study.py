"""A study: the runs of a search in a folder, which is that of a sweep, trained wave after wave."""

import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol, TypeVar

from digits_sweep.config.keys import differing
from digits_sweep.config.launchers import SUBMITIT_FOLDER
from digits_sweep.config.plan import Plan, PlannedRun
from digits_sweep.config.text import to_text
from digits_sweep.errors import CannotResume, CannotSearch, UnreadableRecord
from digits_sweep.report.analysis.sentences.formatting import counted, seconds
from digits_sweep.results.files import check_plain, make_folder, remove_leftovers, run_folders
from digits_sweep.results.lock import only_writer
from digits_sweep.results.record import EpochRow, EvaluationRow, Record, Status
from digits_sweep.results.sweep import DatasetChoice, Manifest, RecordedSweep, publish_summary, write_manifest
from digits_sweep.shell import Screen
from digits_sweep.sweep.launch import launch
from digits_sweep.sweep.resume import is_finished
from digits_sweep.sweep.session import Launch, claim_folder, datasets
from digits_sweep.trackers.following import report_to_trackers


@dataclass(frozen=True)
class RecordedRun:
    """What is recorded of a run; `row` has its cells of `summary.csv`, `misfit` what does not fit its record."""

    name: str
    record: Record
    history: list[EpochRow]
    evaluations: list[EvaluationRow]
    misfit: str | None

    @property
    def row(self) -> dict[str, Any]:
        """Its cells of `summary.csv` by column name."""
        return self.record.summary


def recorded_runs(sweep: RecordedSweep) -> Iterator[RecordedRun]:
    """Yield the runs of a sweep that have started and can be read, in the sweep's order."""
    yield from (recorded_run(sweep, name) for name in sweep.records)


def recorded_run(sweep: RecordedSweep, name: str) -> RecordedRun:
    """Return a run of a sweep. Raises KeyError if it has not started or cannot be read."""
    misfit = sweep.misfits.get(name)
    return RecordedRun(name, sweep.records[name], sweep.histories[name], sweep.evaluations[name], misfit)


Key = TypeVar("Key")
Value = TypeVar("Value")


class Search(Protocol[Key, Value]):
    """What is searched for. It remembers nothing: which runs come next is a pure function of what others resulted in.

    A run has a key, such as its batch size, rate and seed, and a value, what it resulted in.
    """

    def next_runs(self, results: Mapping[Key, Value]) -> dict[Key, PlannedRun]:
        """Return the wave of runs to make next, which do not depend on one another; none if the search is done."""

    def outcome(self, run: PlannedRun, recorded: RecordedRun) -> Value:
        """Return what a run that has ended means."""

    def least_left(self, known: Collection[Key]) -> int:
        """Return how many runs come at least after those that are known."""


class Stopped(SystemExit):
    """A command that was stopped, or whose wave was not trained to its end: its exit code, and the runs left of it."""

    def __init__(self, code: int, unfinished: Sequence[str] = ()) -> None:
        super().__init__(code)
        self.unfinished = unfinished


class Study:
    """The runs of a search in its folder, which is that of a sweep.

    `failure_is_a_miss`: a run that fails has not reached its goal; otherwise it ends the search.
    """

    def __init__(self, planned: Plan, sweep: RecordedSweep, choices: list[DatasetChoice], screen: Screen) -> None:
        self.planned, self.sweep, self.choices, self.screen = planned, sweep, choices, screen
        self.failure_is_a_miss = False
        self._waves, self._trained, self._seconds = 0, 0, 0.0
        manifest = sweep.manifest
        self.configs = dict(zip(manifest.runs, manifest.configs, strict=True)) if manifest else {}

    @property
    def folder(self) -> Path:
        return self.sweep.folder

    def search(
        self, search: Search[Key, Value], after_a_wave: Callable[[dict[Key, Value]], None] = lambda results: None
    ) -> dict[Key, Value]:
        """Train wave after wave until nothing is left to do; return what all runs resulted in.

        A wave follows from the results of the waves before it, so that a study which is resumed, or has more workers,
        makes the same runs. Raises what `train` raises.
        """
        results: dict[Key, Value] = {}
        while wave := search.next_runs(results):
            later = search.least_left({*results, *wave})
            self.train(list(wave.values()), lambda left, later=later: self._announced(left, later))  # type: ignore[misc]
            for key, run in wave.items():
                recorded = self.ended(run)
                assert recorded is not None, "a wave was trained to its end"
                results[key] = search.outcome(run, recorded)
            after_a_wave(results)
        return results

    def train(
        self, runs: Sequence[PlannedRun], announce: Callable[[Sequence[PlannedRun]], str], launch: Launch = launch
    ) -> None:
        """Train those of `runs` to their end that have not ended; `announce` returns the line that says so.

        Raises `Stopped` if that is stopped, `CannotSearch` if a run fails and that is no miss, `CannotResume` if
        another run was recorded in the place of one.
        """
        left = [run for run in runs if self.ended(run) is None]
        self.configs |= {
            run.folder: asdict(run.config) for run in runs if run in left or run.folder not in self.configs
        }
        if left:
            self._write_manifest()
            self.screen.say(announce(left))
            started = time.monotonic()
            code = launch(replace(self.planned, runs=tuple(left)), self.sweep, self.screen)
            self._trained, self._seconds = self._trained + len(left), self._seconds + time.monotonic() - started
            self.sweep.refresh()
            unfinished = [run.folder for run in left if self.ended(run) is None]
            if not code and (failed := [name for name in unfinished if self._has_failed(name)]):
                raise CannotSearch(f"{failed[0]} failed: {recorded_run(self.sweep, failed[0]).record.error_line}")
            if code or unfinished:
                raise Stopped(code or 1, unfinished)
        for run in runs:
            if self._has_failed(run.folder):
                reason = recorded_run(self.sweep, run.folder).record.error_line or "no reason recorded"
                self.screen.say(f"WARNING: {run.folder} failed and counts as a miss: {reason}")

    def _announced(self, runs: Sequence[PlannedRun], later: int) -> str:
        """Return the line of a wave, and how long it and at least `later` runs take, as the runs so far took."""
        self._waves += 1
        sizes = dict.fromkeys(run.config.data.batch_size for run in runs)
        what = "; ".join(f"{size} at {_rates(size, runs)}" for size in sizes)
        line = f"wave {self._waves}, batch size {what}: {counted(len(runs), 'run')}"
        if not self._trained:
            return line
        now, until_the_end = (count * self._seconds / self._trained for count in (len(runs), len(runs) + later))
        return f"{line}, about {_duration(now)}; {_duration(until_the_end)} or more until the end"

    def _has_failed(self, name: str) -> bool:
        return name in self.sweep.records and recorded_run(self.sweep, name).record.status is Status.FAILED

    def ended(self, run: PlannedRun) -> RecordedRun | None:
        """Return what is recorded of a run that has ended as planned; None if it is to be trained, or trained on.

        Raises `CannotResume` if another run was recorded in its place.
        """
        if run.folder not in self.sweep.records:
            return None
        recorded = recorded_run(self.sweep, run.folder)
        record = recorded.record
        if record.config and (found := differing(record.config, run.config)):
            raise CannotResume(f"{self.folder / run.folder}: {'; '.join(found)}")
        is_over = is_finished(record, run.config) or (self.failure_is_a_miss and record.status is Status.FAILED)
        return recorded if is_over and recorded.misfit is None else None

    def publish(self) -> None:
        """Write the tables of all runs that are recorded, as a sweep does at its end."""
        self.sweep.refresh()
        try:
            publish_summary(self.sweep, self.planned.outputs)
        except OSError as error:
            self.screen.say(f"ERROR: summary.csv is as it was: {error}")

    def _write_manifest(self) -> None:
        """Write `sweep.json` with every run so far, before any of them starts: launchers take them from there."""
        before = self.sweep.manifest
        now = Manifest(
            command=list(self.planned.command),
            runs=list(self.configs),
            configs=list(self.configs.values()),
            datasets=self.choices,
            id=before.id if before else secrets.token_hex(8),
            started_at=before.started_at if before else datetime.now(timezone.utc).isoformat(),
        )
        write_manifest(self.folder, now)
        self.sweep.refresh()


@contextmanager
def opened(folder: Path | None, parent: Path, planned: Plan, screen: Screen) -> Iterator[Study]:
    """Open the study in `folder`, or start one there or, without one, in a folder of its own in `parent`.

    This process alone writes there in the block. At its end, whatever that is, the tables of all runs are written.
    Raises `CannotResume` if something there is no plain file, `FolderInUse` if another process has it,
    `DataUnavailable` or `UnusableRoot` if its data cannot be had or has changed, OSError if it cannot be written.
    """
    earlier = RecordedSweep(folder) if folder and folder.exists() and _holds_runs(folder) else None
    choices = datasets(planned, earlier, screen)
    folder = folder or claim_folder(parent)
    make_folder(folder)
    with only_writer(folder):
        if earlier:
            remove_leftovers(folder)
            screen.say(f"resuming {folder}")
        study = Study(planned, RecordedSweep(folder), choices, screen)
        with report_to_trackers(planned.settings.tracker, folder, screen.say):
            try:
                yield study
            finally:
                study.publish()


def _holds_runs(folder: Path) -> bool:
    """Return whether a study has runs. Raises `CannotResume` if something there is no plain file."""
    try:
        check_plain(folder, unused=SUBMITIT_FOLDER)
    except UnreadableRecord as error:
        raise CannotResume(f"{folder}: {error}") from error
    return bool(run_folders(folder)[0])


def _duration(value: float) -> str:
    return seconds(max(1, round(value))).replace(".0 s", " s")


def _rates(size: int, runs: Sequence[PlannedRun]) -> str:
    rates: dict[float, int] = {}
    for run in runs:
        if run.config.data.batch_size == size:
            rates[run.config.optimizer.lr] = rates.get(run.config.optimizer.lr, 0) + 1
    return ", ".join(f"lr {to_text(float(f'{lr:.4g}'))} ({counted(seeds, 'seed')})" for lr, seeds in rates.items())
