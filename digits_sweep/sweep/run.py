"""One run: train, or resume, and record every epoch."""

import logging
import math
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

from digits_sweep.config.own_code import changed_code, sources
from digits_sweep.config.schema import Config, EngineConfig, EvaluationConfig
from digits_sweep.data.digits import Digits
from digits_sweep.data.loading import changed, load, make_ready, name_of
from digits_sweep.errors import CannotRecord, CannotResume, DataUnavailable, EngineRefused, InvalidConfig
from digits_sweep.results.columns import fill
from digits_sweep.results.environment import describe_environment
from digits_sweep.results.lock import only_writer, writers_in
from digits_sweep.results.losses import Losses, RunningLoss
from digits_sweep.results.record import EpochRow, EvaluationRow, Record, Status, running_loss, write_record
from digits_sweep.results.sweep import Manifest
from digits_sweep.results.targets import all_reached
from digits_sweep.shell import Progress, Screen
from digits_sweep.sweep.checkpoint import Checkpoint, restore
from digits_sweep.sweep.preflight import unfit
from digits_sweep.sweep.resume import is_finished
from digits_sweep.sweep.run_files import RunFiles, RunState, load_run_state
from digits_sweep.training.building import BuiltEngine, build_engine
from digits_sweep.training.device import PeakMemory, flush_denormals_from_now_on, is_out_of_memory, resolve_device
from digits_sweep.training.engines import AUTO_PICKS, ENGINES
from digits_sweep.training.epochs import Epoch, is_last, train
from digits_sweep.training.evaluation import Evaluator, evaluate
from digits_sweep.training.schedule import Schedule, learning_rate_of
from digits_sweep.training.stopwatch import Stopwatch

# Asked after every epoch with the epochs so far; a text is the reason to end the run there.
StopRule = Callable[[Record, Sequence[EpochRow]], str | None]


@dataclass(frozen=True)
class RunRequest:
    """What a run is asked to do, and where it reports to."""

    config: Config
    run_dir: Path
    manifest: Manifest | None
    enough: StopRule | None
    screen: Screen


@contextmanager
def recording(record: Record) -> Iterator[None]:
    """Time what is written in the block. Raises `CannotRecord` if it cannot be written."""
    started = time.perf_counter()
    try:
        yield
    except OSError as error:
        where = error.filename2 or error.filename or "the run's folder"
        raise CannotRecord(f"{where}: {error.strerror or error}; nothing recorded before is lost") from error
    record.seconds_recording += time.perf_counter() - started


# Seconds per epoch by iterations per epoch, for every sweep that trains in this process.
_measured: dict[str, dict[int, float]] = {}


@dataclass
class SweepProgress:
    """The runs of a sweep in order, of which number `number` is training now; `num_samples` are in its training set."""

    manifest: Manifest
    number: int
    num_samples: int
    measured: dict[int, float] = field(init=False)

    def __post_init__(self) -> None:
        self.measured = _measured.setdefault(self.manifest.id, {})

    def after(self, epoch: int, seconds: float) -> Progress:
        """Return how far the sweep is after an epoch of the present run that took so many seconds."""
        self.measured[self._iterations(self.number)] = seconds
        left = self._seconds(self.number) * (self._epochs(self.number) - epoch)
        following = range(self.number + 1, len(self.manifest.configs))
        left += math.fsum(self._seconds(number) * self._epochs(number) for number in following)
        return Progress(self.number + epoch / self._epochs(self.number), len(self.manifest.configs), left)

    def _epochs(self, number: int) -> int:
        return int(self.manifest.configs[number]["trainer"]["num_epochs"])

    def _iterations(self, number: int) -> int:
        return math.ceil(self.num_samples / int(self.manifest.configs[number]["data"]["batch_size"]))

    def _seconds(self, number: int) -> float:
        """Return what an epoch of a run takes: as measured, or in proportion to the nearest number of iterations."""
        iterations = self._iterations(number)
        nearest = min(self.measured, key=lambda each: abs(math.log(each / iterations)))
        return self.measured[nearest] * iterations / nearest


def digits_for(config: Config, manifest: Manifest | None, record: Record, say: Callable[[str], None]) -> Digits:
    """Load the data set of a run, the same bytes for all runs of its sweep, and note it in `record`.

    Without a manifest the run makes its own data ready. Raises `DataUnavailable` or `CannotResume` if the data set is
    not what it was before, and `InvalidConfig` if the configuration does not fit it.
    """
    if manifest is None:
        digits, note = make_ready(config.data, say)
        if note:
            say(f"WARNING: training on {digits.name}: {note}")
    else:
        choice = manifest.dataset(name_of(config.data))
        digits = load(config.data, choice.used, say)
        if digits.digest != choice.digest:
            raise DataUnavailable(changed(config.data, choice.used))
    if record.dataset_digest not in (None, digits.digest):
        raise CannotResume(f"{digits.name} is not what this run started with")
    num_samples = len(digits.train_labels)
    if mistakes := list(unfit(config, digits)):
        raise InvalidConfig("\n".join(mistakes))
    record.dataset_digest = digits.digest
    record.summary |= {
        "dataset": digits.name,
        "train_samples": num_samples,
        "iterations_per_epoch": math.ceil(num_samples / config.data.batch_size),
    }
    return digits


def engine_for_run(config: Config, digits: Digits, record: Record, before: Checkpoint | None) -> BuiltEngine:
    """Build a run's engine, restore `before` into it, and note it in `record`.

    A run that continues keeps its engine and its number of threads. Raises `CannotResume` if it started with an engine
    or a device that cannot be had here, because another one may round otherwise, or with code of the user's that has
    changed.
    """
    if before is not None and (changed := list(changed_code(config, record.own_code))):
        raise CannotResume("; ".join(changed))
    built = build_engine(config, digits) if before is None else _as_it_started(config, digits, record)
    if before is not None:
        restore(built.engine, before)
    record.flush_denormal = built.configure_threads()
    record.engine_reason = built.reason
    record.own_code = sources(config)
    record.parameters = sum(each.numel() for each in built.engine.model.parameters() if each.requires_grad)
    record.seconds_setup = built.seconds_setup
    record.summary |= {"engine": built.name, "device": str(built.device), "num_threads": built.num_threads}
    return built


def _as_it_started(config: Config, digits: Digits, record: Record) -> BuiltEngine:
    """Build the engine that a run started with, even if `engine=auto` would take another one now."""
    started = recorded_engine(config, record)
    try:
        built = build_engine(replace(config, engine=EngineConfig(started or config.engine.name)), digits)
    except EngineRefused as refused:
        if started is None:
            raise
        reason = str(refused).removesuffix(AUTO_PICKS)
        raise CannotResume(f"engine was {started} when this run started; {reason}") from refused
    for name, now in (("engine", built.name), ("device", str(built.device))):
        if (then := record.summary.get(name)) != now:
            raise CannotResume(f"{name} was {then} when this run started, is {now} here")
    num_threads = record.summary.get("num_threads", built.num_threads)
    return replace(built, num_threads=num_threads, reason=record.engine_reason or built.reason)


def recorded_engine(config: Config, record: Record) -> str | None:
    """Return the name of the engine that `engine=auto` took when the run of `record` started, None if it took none."""
    name = record.summary.get("engine")
    return name if config.engine.name == "auto" and isinstance(name, str) and name in ENGINES else None


log = logging.getLogger(__name__)

ALL_TARGETS, MAX_EXAMPLES = "all targets reached", "trainer.max_examples reached"


class RecordedTraining:
    """Trains what is left of a run; an epoch and its evaluations are recorded before the next one starts."""

    def __init__(self, job: RunRequest, state: RunState, built: BuiltEngine, digits: Digits) -> None:
        self.job, self.record, self.built = job, state.record, built
        self.history, self.evaluations = state.history, state.evaluations
        self.files = RunFiles(job.run_dir)
        self.num_samples = len(digits.train_labels)
        data, trainer = job.config.data, job.config.trainer
        with recording(self.record):
            self.losses: Losses = self.files.restore(self.record, self.history, self.evaluations, _iterations(state))
        self.running = RunningLoss(data.batch_size, self.num_samples, trainer.loss_threshold)
        self._follow(self.losses)
        self.evaluator = None
        if _asks(job.config.evaluation):
            self.evaluator = Evaluator(job.config.evaluation, digits, data.scale, built.device)

    def run(self, title: str) -> None:
        """Train until the run ends; if that is before its last epoch, `error` or `ended` of its record says why."""
        trainer, done = self.job.config.trainer, len(self.history)
        if self.record.ended is not None or (done and is_last(self.history[-1].loss_mean, trainer)):
            return
        manifest = self.job.manifest
        pace = (
            SweepProgress(manifest, self.record.number, self.num_samples)
            if manifest and len(manifest.configs) > 1
            else None
        )
        with self.job.screen.run(title, trainer.num_epochs, done, pace) as shown:
            for epoch in self._epochs(done):
                self._commit(epoch)
                last = self.history[-1]
                shown.epoch(last.epoch, last.loss_mean, last.loss_std, last.seconds)
                if self.job.enough and (reason := self.job.enough(self.record, self.history)):
                    self.record.error = reason
                    break
        with recording(self.record):
            self.files.settle()
            if not self.history:
                self.files.note(self.record, self.evaluations)
        trained = Schedule(self.num_samples, self.job.config.data.batch_size).examples_after(self.running.iterations)
        is_over = trainer.max_examples is not None and trained >= trainer.max_examples
        if is_over and self.record.ended is None and self.record.error is None:
            self.record.ended = MAX_EXAMPLES

    def _epochs(self, done: int) -> Iterator[Epoch]:
        """Train what is left after `done` epochs."""
        config = self.job.config
        return train(
            self.built.engine, config.trainer, config.seed, self.num_samples, Stopwatch(self.built.device),
            first_epoch=done + 1,
            evaluation=config.evaluation if self.evaluator else None, pause=self._pause,
            seconds_before=math.fsum(row.seconds for row in self.history),
            learning_rate=learning_rate_of(config.schedule, config.trainer, self.num_samples),
        )  # fmt: skip

    def _commit(self, epoch: Epoch) -> None:
        self.history.append(_row(epoch))
        new = epoch.losses.numpy()
        with recording(self.record):
            self.losses = np.concatenate([self.losses, new])
            self._follow(new)
            self._fill_running_losses()
            beside = max(self.record.summary["concurrent_runs"], writers_in(self.job.run_dir.parent))
            self.record.summary["concurrent_runs"] = beside
            self.files.commit(self.built.engine, self.record, self.history, self.evaluations, epoch.losses)
        log.info("epoch %d: loss %.6f in %.3f s", epoch.number, epoch.loss_mean, epoch.seconds)

    def _follow(self, losses: Losses) -> None:
        """Take the losses of new iterations into the record."""
        crossing = self.running.follow(losses)
        self.record.summary |= {
            "iterations_to_threshold": crossing.iterations if crossing else None,
            "examples_to_threshold": crossing.examples if crossing else None,
            "iterations": self.running.iterations,
        }
        fill(self.record, self.history)

    def _pause(self, iterations: int, examples: int, seconds: float) -> bool:
        """Evaluate between two iterations; return whether the run ends there."""
        assert self.evaluator is not None
        found = self.evaluator.measure(self.built.engine.model)
        noise: dict[str, Any] = {}
        if found.noise:
            noise = {"gradient_squared_norm": found.noise.squared_norm, "gradient_trace": found.noise.trace}
            noise["noise_scale"] = found.noise.scale
        self.evaluations.append(
            EvaluationRow(
                iterations, examples, seconds, found.train.loss, found.train.error, found.test.loss, found.test.error,
                found.test.classes_never_predicted, **noise,
            )
        )  # fmt: skip
        evaluation = self.job.config.evaluation
        if evaluation.stop and all_reached(asdict(evaluation.targets), self.evaluations):
            self.record.ended = ALL_TARGETS
            return True
        return False

    def _fill_running_losses(self) -> None:
        """Losses are known once their epoch is over; the evaluations within it get the running loss then."""
        batch_size, trained = self.job.config.data.batch_size, len(self.losses)
        for place, row in enumerate(self.evaluations):
            if row.running_loss is None and row.iterations <= trained:
                found = running_loss(self.losses, row.iterations, batch_size, self.num_samples)
                self.evaluations[place] = replace(row, running_loss=found)


def _asks(evaluation: EvaluationConfig) -> bool:
    return evaluation.every_examples is not None or evaluation.per_doubling is not None


def _iterations(state: RunState) -> int:
    """How many iterations are committed. A checkpoint of format 1 does not say it."""
    if state.checkpoint and state.checkpoint.iterations is not None:
        return state.checkpoint.iterations
    return len(state.history) * state.record.summary["iterations_per_epoch"]


def _row(epoch: Epoch) -> EpochRow:
    per_second = epoch.examples / epoch.seconds
    return EpochRow(epoch.number, epoch.loss_mean, epoch.loss_std, epoch.seconds, per_second, epoch.complete)


def title(job: RunRequest, record: Record) -> str:
    """Return the line that announces a run: its place in the sweep, its folder, and what it trains with."""
    position = f"run {record.number + 1} of {len(job.manifest.runs)}: " if job.manifest else ""
    # A run that fails early has neither engine nor device.
    engine = f"engine {record.summary['engine']}" if "engine" in record.summary else None
    what = filter(None, [record.summary["dataset"], engine, record.summary.get("device")])
    return f"{position}{job.run_dir.name}  ({', '.join(what)})"


def ended(record: Record) -> str:
    """Return what became of a run, in a few words: `completed, 30 epochs, loss 1.4870`."""
    epochs, loss = record.summary.get("epochs") or 0, record.summary.get("final_loss")
    return f"{record.status}, {epochs} epoch{'s' if epochs != 1 else ''}" + (
        f", loss {float(loss):.4f}" if loss is not None else ""
    )


log = logging.getLogger(__name__)


def run(
    config: Config,
    run_dir: Path,
    number: int = 0,
    manifest: Manifest | None = None,
    enough: StopRule | None = None,
    screen: Screen | None = None,
) -> Record:
    """Train once as `config` says and record it in `run_dir`; if a run was started there, resume it.

    `number` is the run's place in its sweep, from 0, and `manifest` the sweep's; without one the run makes its own data
    ready. It reports to `screen`, or to standard output. After every epoch `enough` is asked with the epochs so far: a
    reason that it returns ends the run there, `interrupted`, with the reason as its `error`. An error inside the run is
    not raised: it is reported, logged and recorded with its traceback, and the record's `status` is `failed`, because
    the other runs of a sweep continue.
    If another process writes in `run_dir`, such as a job of a cluster that outlived its sweep, this waits for it to
    end and resumes from there. Raises `CannotResume` if `run_dir` holds a run with another configuration,
    `CannotRecord` or OSError if results cannot be written, and KeyboardInterrupt if the user stops it.
    """
    flush_denormals_from_now_on()
    job = RunRequest(config, run_dir, manifest, enough, screen or Screen(quiet=config.quiet))
    run_dir.mkdir(parents=True, exist_ok=True)
    with only_writer(run_dir, waits=job.screen.say):
        state = load_run_state(config, run_dir, number, job.screen.say)
        if is_finished(state.record, config):
            job.screen.say(f"{run_dir.name}: {state.record.status} before, kept")
        else:
            _attempt(job, state)
    return state.record


def _attempt(job: RunRequest, state: RunState) -> None:
    """Train what is left, and leave the record as the run ended, on disk too."""
    record = state.record
    _start(job, state)
    memory: PeakMemory | None = None
    try:
        memory = PeakMemory(resolve_device(job.config.device))
        digits = digits_for(job.config, job.manifest, record, job.screen.say)
        built = engine_for_run(job.config, digits, record, state.checkpoint)
        RecordedTraining(job, state, built, digits).run(title(job, record))
        if record.error is None:
            _evaluate(job.config, record, built, digits)
            finite = record.ended is not None or math.isfinite(float(record.summary["final_loss"]))
            record.status = Status.COMPLETED if finite else Status.DIVERGED
    except (CannotRecord, KeyboardInterrupt) as stop:
        log.warning("%s after epoch %s", type(stop).__name__, record.summary["epochs"])
        raise
    except Exception as error:
        record.status, record.error = Status.FAILED, traceback.format_exc()
        log.error("%s", record.error)
        what = f"{type(error).__name__}: {error}"
        if is_out_of_memory(error):
            what = f"out of memory at batch size {job.config.data.batch_size}"
            record.error += what
        job.screen.say(f"  failed: {what}".splitlines()[0])
        job.screen.say(f"  its traceback: {job.run_dir / 'record.json'}")
    if memory:
        memory.note(record.summary)
    fill(record, state.history)
    with recording(record):
        write_record(job.run_dir, record)
    if job.screen.quiet:
        job.screen.say(f"{title(job, record)}  {ended(record)}")
    if record.status is Status.DIVERGED:
        job.screen.say(
            f"  diverged: the mean loss of epoch {record.summary['epochs']} is {record.summary['final_loss']}"
        )


def _start(job: RunRequest, state: RunState) -> None:
    """Write the record of a run that is about to train: until it ends it reads `interrupted`."""
    record, done = state.record, len(state.history)
    if record.config:
        record.resumed_after.append(done)
    record.status, record.error, record.folder = Status.INTERRUPTED, None, job.run_dir.name
    record.config = asdict(job.config)
    environment = {**describe_environment(), "torch": str(torch.__version__)}
    if record.environment != {**environment, "from_epoch": record.environment.get("from_epoch")}:
        record.environments.append({**environment, "from_epoch": done + 1})
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    first = {"dataset": name_of(job.config.data), "concurrent_runs": 1, "started_at": started}
    # What was found on the test set belongs to an earlier end of the run.
    record.test_answers = None
    record.summary = first | record.summary | {"test_accuracy": None, "classes_never_predicted": None}
    fill(record, state.history)
    with recording(record):
        write_record(job.run_dir, record)


def _evaluate(config: Config, record: Record, built: BuiltEngine, digits: Digits) -> None:
    labels = digits.test_labels.to(built.device)
    evaluation = evaluate(built.engine.model, digits.test_images, labels, how=config.data.scale)
    record.test_answers = evaluation.predictions_per_class
    record.summary["test_accuracy"] = evaluation.accuracy
    record.summary["classes_never_predicted"] = evaluation.classes_never_predicted
