"""A study: the runs of a search in a folder, which is that of a sweep, trained wave after wave."""

import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from digits_sweep.config.keys import changed, differing, value_of
from digits_sweep.config.launchers import SUBMITIT_FOLDER
from digits_sweep.config.plan import Plan, PlannedRun
from digits_sweep.config.text import to_text
from digits_sweep.errors import CannotResume, CannotSearch, UnreadableRecord
from digits_sweep.report.words import counted, seconds
from digits_sweep.results.files import check_plain, make_folder, run_folders
from digits_sweep.results.record import Status
from digits_sweep.results.run import RecordedRun
from digits_sweep.results.sweep import DatasetChoice, RecordedSweep, new_manifest, publish_summary
from digits_sweep.shell import Screen
from digits_sweep.sweep.fitting import with_fixed_decay
from digits_sweep.sweep.launch import launch
from digits_sweep.sweep.resume import is_finished
from digits_sweep.sweep.seeds import Launch
from digits_sweep.sweep.session import claim_folder, datasets, write_plan, writing

# So often a run is made that fails: the reason may have been the disk's or the network's.
ATTEMPTS = 2
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


def run_of(
    base: PlannedRun,
    name: str,
    values: Mapping[str, Any],
    most_examples: float = math.inf,
    recorded: dict[str, Any] | None = None,
) -> PlannedRun:
    """Return a run like `base` with other values of some keys, which ends after `most_examples` at the latest.

    One that was made before, with the `recorded` configuration, keeps its limit. Raises `InvalidConfig` if a value
    breaks the rule of its key.
    """
    config = with_fixed_decay(base.config)
    most = min(most_examples, config.trainer.max_examples or math.inf)
    limit = math.ceil(most) if math.isfinite(most) else None
    if recorded:
        limit = value_of(recorded, "trainer.max_examples")
    return PlannedRun(name, changed(config, {"trainer.max_examples": limit, **values}), base.overrides)


class Stopped(SystemExit):
    """A command that was stopped, or whose wave was not trained to its end: its exit code, and the runs left of it."""

    def __init__(self, code: int, unfinished: Sequence[str] = ()) -> None:
        super().__init__(code)
        self.unfinished = unfinished


class Study:
    """The runs of a search in its folder, which is that of a sweep.

    `leaves_out_failures`: a run that fails is made a second time, and left out if it fails again; otherwise it ends the
    search. A search that is resumed makes it anew.
    """

    def __init__(self, planned: Plan, sweep: RecordedSweep, choices: list[DatasetChoice], screen: Screen) -> None:
        self.planned, self.sweep, self.choices, self.screen = planned, sweep, choices, screen
        self.leaves_out_failures = False
        self._attempts: Counter[str] = Counter()
        self._waves, self._trained, self._seconds = 0, 0, 0.0
        self._runs: dict[str, PlannedRun] = {}

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
            self.train(list(wave.values()), partial(self._announced, later=later))
            for key, run in wave.items():
                recorded = self.ended(run)
                assert recorded is not None, "a wave was trained to its end"
                results[key] = search.outcome(run, recorded)
            after_a_wave(results)
        return results

    def train(
        self, runs: Sequence[PlannedRun], announce: Callable[[Sequence[PlannedRun]], str], launch: Launch = launch
    ) -> None:
        """Train those of `runs` that have not ended to their end; `announce` returns the line that says so.

        Raises `Stopped` if that is stopped, `CannotSearch` if a run fails that cannot be left out, or all did so far,
        `CannotResume` if another run was recorded in the place of one.
        """
        self._runs |= {run.folder: run for run in runs}
        while left := [run for run in runs if self.ended(run) is None]:
            self._write_plan()
            again = any(self._attempts[run.folder] for run in left)
            self.screen.say(f"{counted(len(left), 'failed run')} made again" if again else announce(left))
            started = time.monotonic()
            code = launch(replace(self.planned, runs=tuple(left)), self.sweep, self.screen)
            self._trained, self._seconds = self._trained + len(left), self._seconds + time.monotonic() - started
            self._attempts.update(run.folder for run in left)
            self.sweep.refresh()
            unfinished = [run.folder for run in left if self.ended(run) is None]
            failed = [name for name in unfinished if self._error_of(name)]
            if not code and failed and not self.leaves_out_failures:
                raise CannotSearch(f"{failed[0]} failed: {self._error_of(failed[0])}")
            if code or len(unfinished) > len(failed):
                raise Stopped(code or 1, unfinished)
        errors = {run.folder: error for run in runs if (error := self._error_of(run.folder))}
        for name, error in errors.items():
            if all(run.record.status is Status.FAILED for run in self.sweep.runs.values()):
                raise CannotSearch(f"every run failed; {name}: {error}")
            self.screen.say(f"WARNING: {name} failed twice and is left out, resume=latest makes it again: {error}")

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

    def _error_of(self, name: str) -> str | None:
        """Return why a run failed, None if it did not."""
        record = self.sweep.runs[name].record if name in self.sweep.runs else None
        return record.error_line or "no reason recorded" if record and record.status is Status.FAILED else None

    def ended(self, run: PlannedRun) -> RecordedRun | None:
        """Return what is recorded of a run that has ended as planned; None if it is to be trained, or trained on.

        Raises `CannotResume` if another run was recorded in its place.
        """
        recorded = self.sweep.runs.get(run.folder)
        if recorded is None:
            return None
        if lines := differing(recorded.record.config, run.config):
            raise CannotResume(f"{self.folder / run.folder}: {'; '.join(lines)}")
        has_failed = self._attempts[run.folder] >= ATTEMPTS and recorded.record.status is Status.FAILED
        if not has_failed and not is_finished(recorded, run.config):
            return None
        # Its losses are read for its row: what cannot be read is not known, and no miss.
        return recorded if recorded.row and not recorded.misfits else None

    def publish(self) -> None:
        """Write the tables of all runs that are recorded, as a sweep does at its end."""
        self.sweep.refresh()
        try:
            publish_summary(self.sweep, self.planned.outputs)
        except OSError as error:
            self.screen.say(f"ERROR: summary.csv is as it was: {error}")

    def _write_plan(self) -> None:
        """Write `sweep.json` with every run so far, and their records, before any of them starts."""
        before = self.sweep.manifest
        names = list(dict.fromkeys([*(before.runs if before else ()), *self._runs]))
        now = (before or new_manifest()).with_runs(list(self.planned.command), names, self.choices)
        write_plan(replace(self.planned, runs=tuple(self._runs.values())), now, self.sweep, self.screen.say)


@contextmanager
def opened(folder: Path | None, parent: Path, planned: Plan, screen: Screen) -> Iterator[Study]:
    """Open the study in `folder`, or start one there or, without one, in a folder of its own in `parent`.

    This process alone writes there in the block. At its end, whatever that is, the tables of all runs are written.
    Raises `CannotResume` if something there is no plain file, `FolderInUse` if another process has it,
    `DataUnavailable` or `UnusableRoot` if its data cannot be had or has changed, OSError if it cannot be written.
    """
    earlier = None
    if folder and folder.exists():
        try:
            check_plain(folder, unused=SUBMITIT_FOLDER)
        except UnreadableRecord as error:
            raise CannotResume(f"{folder}: {error}") from error
        earlier = RecordedSweep(folder) if run_folders(folder)[0] else None
    choices = datasets(planned, earlier, screen)
    folder = folder or claim_folder(parent)
    make_folder(folder)
    with writing(folder, planned, earlier is not None, screen):
        study = Study(planned, RecordedSweep(folder), choices, screen)
        try:
            yield study
        finally:
            study.publish()


def _duration(value: float) -> str:
    return seconds(max(1, round(value))).replace(".0 s", " s")


def _rates(size: int, runs: Sequence[PlannedRun]) -> str:
    rates = Counter(run.config.optimizer.lr for run in runs if run.config.data.batch_size == size)
    return ", ".join(f"lr {to_text(float(f'{lr:.4g}'))} ({counted(seeds, 'seed')})" for lr, seeds in rates.items())
