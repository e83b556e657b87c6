"""From what is typed to runs: one plan of all batch sizes, and the run of every trial."""

import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from statistics import fmean

from digits_sweep.config.compose import checked
from digits_sweep.config.keys import differing
from digits_sweep.config.plan import Plan, PlannedRun, plan
from digits_sweep.config.schema import Config
from digits_sweep.config.text import to_text
from digits_sweep.errors import CannotResume, InvalidConfig
from digits_sweep.report.words import counted, seconds
from digits_sweep.results.record import RECORD_FILE, EvaluationRow, Record, Status
from digits_sweep.results.sweep import DatasetChoice, Manifest, RecordedSweep, write_manifest
from digits_sweep.results.targets import targets_of
from digits_sweep.search.grid import BatchSize, Outcome, Rules, Trial
from digits_sweep.search.settings import CriticalConfig
from digits_sweep.shell import Screen

SIZE = "data.batch_size"


@dataclass(frozen=True)
class Goal:
    """A target, such as `train_error`, and the threshold that it must fall below."""

    target: str
    threshold: float

    def __str__(self) -> str:
        return f"{self.target.replace('_', ' ')} < {to_text(self.threshold)}"


def goals_of(config: Config) -> list[Goal]:
    """Return every goal of a run. Raises `InvalidConfig` if it has none, or is never evaluated."""
    targets = config.evaluation.targets
    goals = [Goal(each.name, value) for each in fields(targets) for value in getattr(targets, each.name)]
    if not goals:
        raise InvalidConfig("evaluation.targets: name a goal, such as evaluation.targets.train_error=[0.1]")
    return goals


def plan_batch_sizes(arguments: Sequence[str]) -> Plan:
    """Return a plan with a run for every batch size, the smallest first.

    Raises `InvalidConfig` if a key is wrong, or if another key than the batch size has several values.
    """
    planned = plan(arguments)
    values = [{text.partition("=")[0]: text for text in run.overrides} for run in planned.runs]
    swept = {key for each in values for key in each if len({other.get(key) for other in values}) > 1} - {SIZE}
    if swept:
        texts = " ".join(each for each in arguments if each.lstrip("+").partition("=")[0] in swept) or ", ".join(swept)
        raise InvalidConfig(f"{texts}: give one value; the batch size alone has several")
    return replace(planned, runs=tuple(sorted(planned.runs, key=lambda run: run.config.data.batch_size)))


def plan_batch_size(arguments: Sequence[str], batch_size: int) -> PlannedRun:
    """Return the run of a batch size that was not typed. Raises `InvalidConfig` as `plan_batch_sizes` does."""
    others = [each for each in arguments if not each.startswith(f"{SIZE}=")]
    (run,) = plan([*others, f"{SIZE}={batch_size}"]).runs
    return run


def learning_rate(settings: CriticalConfig, batch_size: int, exponent: int) -> float:
    """Return the rate of the grid at `exponent`: centred on the square-root rule, four digits long."""
    middle = settings.lr * math.sqrt(batch_size / settings.reference_batch_size)
    return float(f"{middle * settings.factor**exponent:.4g}")


def planned_run(base: PlannedRun, settings: CriticalConfig, trial: Trial) -> PlannedRun:
    """Return the run of a trial; `base` is that of its batch size.

    Raises `InvalidConfig` if its seed or its rate is too large.
    """
    config, size = base.config, base.config.data.batch_size
    lr, seed = learning_rate(settings, size, trial.exponent), config.seed + trial.place
    limits = [config.trainer.max_examples] if config.trainer.max_examples is not None else []
    limits += [math.ceil(trial.most_iterations * size)] if math.isfinite(trial.most_iterations) else []
    config = replace(
        config,
        seed=seed,
        optimizer=replace(config.optimizer, lr=lr),
        trainer=replace(config.trainer, max_examples=min(limits, default=None)),
        evaluation=replace(config.evaluation, noise_scale=config.evaluation.noise_scale or trial.measures_noise),
    )
    return PlannedRun(f"batch_size={size}_lr={to_text(lr)}_seed={seed}", checked(config), base.overrides)


def outcomes(sweep: RecordedSweep, run: PlannedRun, goals: Sequence[Goal]) -> list[Outcome] | None:
    """Return what a recorded run means for every goal; None if it has not ended, or cannot be read.

    A run that diverged or failed is a miss. Raises `CannotResume` if another run was recorded in its place.
    """
    record = sweep.records.get(run.folder)
    if record is None or run.folder in sweep.misfits or record.status is Status.INTERRUPTED:
        return None
    if record.config and (found := differing(record.config, run.config)):
        raise CannotResume(f"{sweep.folder / run.folder}: {'; '.join(found)}")
    return [_outcome(record, sweep.evaluations[run.folder], goal) for goal in goals]


def _outcome(record: Record, rows: Sequence[EvaluationRow], goal: Goal) -> Outcome:
    values = [value for row in rows if math.isfinite(value := getattr(row, goal.target))]
    trained = int(record.summary.get("iterations") or 0)
    best = min(values, default=math.inf)
    if record.status is not Status.COMPLETED:
        return Outcome(math.inf, best, trained)
    (found,) = targets_of("", {goal.target: [goal.threshold]}, rows)
    return Outcome(math.inf if found.iterations is None else found.iterations, best, trained)


class Progress:
    """Counts waves, and estimates what is left from what the recorded runs took.

    `speed` is how many times faster than one after the other the runs of this command went: launchers run them side by
    side.
    """

    def __init__(self, sweep: RecordedSweep) -> None:
        self.sweep, self.speed, self.wave = sweep, 1.0, 0
        self._started, self._before = time.monotonic(), 0.0

    def announce(self, runs: Sequence[PlannedRun], later: Mapping[int, int]) -> str:
        """Return the line of a wave of `runs`; `later` counts the least runs that follow, by batch size."""
        self.wave += 1
        self._started, self._before = time.monotonic(), sum(self._took().values())
        sizes = dict.fromkeys(run.config.data.batch_size for run in runs)
        what = "; ".join(f"{size} at {_rates(size, runs)}" for size in sizes)
        return f"wave {self.wave}, batch size {what}: {counted(len(runs), 'run')}{self._how_long(runs, later)}"

    def finished(self) -> None:
        """Note that the wave has been trained."""
        wall, own = time.monotonic() - self._started, sum(self._took().values()) - self._before
        self.speed = max(1.0, own / wall) if wall > 0 else 1.0

    def _how_long(self, runs: Sequence[PlannedRun], later: Mapping[int, int]) -> str:
        took = self._took()
        if not took:
            return ""
        by_size: dict[int, list[float]] = {}
        for name, each in took.items():
            by_size.setdefault(int(self.sweep.records[name].summary.get("batch_size", 0)), []).append(each)
        overall = fmean(took.values())
        means = {size: fmean(each) for size, each in by_size.items()}
        now = sum(means.get(run.config.data.batch_size, overall) for run in runs) / self.speed
        rest = sum(count * means.get(size, overall) for size, count in later.items()) / self.speed
        return f", about {_duration(now)}; {_duration(now + rest)} or more until the end"

    def _took(self) -> dict[str, float]:
        """The seconds from the start of every recorded run to its last record; starts are recorded to the second."""
        found = {}
        for name, record in self.sweep.records.items():
            try:
                started = datetime.fromisoformat(str(record.summary.get("started_at")))
                ended = (self.sweep.folder / name / RECORD_FILE).stat().st_mtime
            except (ValueError, OSError):
                continue
            # A run that was resumed another day did not take that long.
            if not record.resumed_after:
                found[name] = max(0.0, ended - started.timestamp() - 0.5)
        return found


def _duration(value: float) -> str:
    return seconds(max(1, round(value))).replace(".0 s", " s")


def _rates(size: int, runs: Sequence[PlannedRun]) -> str:
    rates: dict[float, int] = {}
    for run in runs:
        if run.config.data.batch_size == size:
            rates[run.config.optimizer.lr] = rates.get(run.config.optimizer.lr, 0) + 1
    return ", ".join(f"lr {to_text(lr)} ({counted(seeds, 'seed')})" for lr, seeds in rates.items())


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
