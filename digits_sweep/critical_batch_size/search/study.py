"""The loop of a study: waves of runs until every batch size has its rate and its fresh seeds.

What a wave consists of follows from the results of the waves before it alone. A study that is resumed goes through the
same waves; those whose runs are recorded cost nothing. So it ends with the same runs however often it was stopped, and
whatever launcher trains a wave.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from digits_sweep.config.plan import Plan, PlannedRun
from digits_sweep.console import Screen
from digits_sweep.critical_batch_size.search.outcomes import outcomes
from digits_sweep.critical_batch_size.search.progress import Progress
from digits_sweep.critical_batch_size.search.runs import Goal, planned_run
from digits_sweep.critical_batch_size.search.trials import BatchSize, Outcome, Rules, Trial
from digits_sweep.critical_batch_size.settings import CriticalConfig
from digits_sweep.results.manifest import DatasetChoice, Manifest, write_manifest
from digits_sweep.results.run.record import Status
from digits_sweep.results.sweep import RecordedSweep

# Trains the runs of a plan in a sweep's folder; returns the exit code.
Launch = Callable[[Plan, RecordedSweep, Screen], int]
Found = dict[tuple[int, int], list[Outcome]]


@dataclass(frozen=True)
class Stop:
    """A command that was stopped, or whose wave was not trained to its end: its exit code, and the runs left of it."""

    code: int
    unfinished: list[str]


class Study:
    """The runs of a study in its folder. `results` has what they resulted in, by batch size."""

    def __init__(
        self,
        planned: Plan,
        settings: CriticalConfig,
        goals: list[Goal],
        sweep: RecordedSweep,
        datasets: list[DatasetChoice],
        screen: Screen,
        launch: Launch,
    ) -> None:
        self.planned, self.settings, self.goals = planned, settings, goals
        self.sweep, self.datasets, self.screen, self.launch = sweep, datasets, screen, launch
        self.rules = Rules(settings.seeds, settings.confirm, settings.give_up, settings.most_steps)
        self.progress = Progress(sweep)
        self.results: dict[int, Found] = {}
        self.runs: dict[str, PlannedRun] = {}
        self.trials: dict[str, Trial] = {}

    def search(self, bases: Sequence[PlannedRun], after_a_wave: Callable[[], None]) -> Stop | None:
        """Train wave after wave until nothing is left to do at the batch sizes of `bases`.

        Return why it has stopped before that; None if all is done. Raises what `launch` raises.
        """
        for base in bases:
            self.results.setdefault(base.config.data.batch_size, {})
        while wave := self._wave(bases):
            if stop := self._train([run for run, _ in wave]):
                return stop
            for run, trial in wave:
                found = outcomes(self.sweep, run, self.goals)
                assert found is not None, "a wave was trained to its end"
                size = run.config.data.batch_size
                self.results[size][trial.exponent, trial.place] = found
                self._warn(run)
            after_a_wave()
        return None

    def at(self, batch_size: int) -> BatchSize:
        """Return the search at a batch size as far as it has come."""
        return BatchSize(self.rules, len(self.goals), self.results[batch_size])

    def _wave(self, bases: Sequence[PlannedRun]) -> list[tuple[PlannedRun, Trial]]:
        """Return the next runs of all batch sizes, the longest first: workers that share them end together."""
        wave = []
        for base in bases:
            for trial in self.at(base.config.data.batch_size).next_trials():
                run = planned_run(base, self.settings, trial)
                wave.append((run, trial))
                self.runs[run.folder], self.trials[run.folder] = run, trial
        return wave

    def _train(self, wave: Sequence[PlannedRun]) -> Stop | None:
        left = self._unfinished(wave)
        if not left:
            return None
        self._write_manifest()
        self.screen.say(self.progress.announce(left, self._later(left)))
        code = self.launch(replace(self.planned, runs=tuple(left)), self.sweep, self.screen)
        self.sweep.refresh()
        self.progress.finished()
        unfinished = [run.folder for run in self._unfinished(wave)]
        return Stop(code or 1, unfinished) if code or unfinished else None

    def _unfinished(self, wave: Sequence[PlannedRun]) -> list[PlannedRun]:
        return [run for run in wave if outcomes(self.sweep, run, self.goals) is None]

    def _write_manifest(self) -> None:
        """Write `sweep.json` with every run so far, before any of them starts: launchers take them from there."""
        before = self.sweep.manifest
        configs = [asdict(run.config) for run in self.runs.values()]
        now = Manifest(list(self.planned.command), list(self.runs), configs, self.datasets)
        if before:
            now = replace(now, id=before.id, started_at=before.started_at)
        write_manifest(self.sweep.folder, now if before else replace(now, id=secrets.token_hex(8)))
        self.sweep.refresh()

    def _later(self, wave: Sequence[PlannedRun]) -> dict[int, int]:
        """How many runs follow at least, by batch size: fresh seeds, at one rate if it is not known at how many."""
        in_wave = [(run.config.data.batch_size, self.trials[run.folder].place) for run in wave]
        later = {}
        for size, found in self.results.items():
            fresh = sum(place >= self.rules.seeds for _, place in found)
            fresh += sum(each == size and place >= self.rules.seeds for each, place in in_wave)
            later[size] = max(0, self.rules.confirm - fresh)
        return later

    def _warn(self, run: PlannedRun) -> None:
        record = self.sweep.records[run.folder]
        if record.status is Status.FAILED:
            reason = record.error_line or "no reason recorded"
            self.screen.say(f"WARNING: {run.folder} failed and counts as a miss: {reason}")
