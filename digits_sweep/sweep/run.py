"""One run: train, or resume, and record every epoch."""

import logging
import math
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import cast

import numpy as np
import torch

from digits_sweep.config.keys import differing
from digits_sweep.config.own_code import changed_code, changes_taken_back, sources, what_was_taken_back
from digits_sweep.config.own_command import words_of
from digits_sweep.config.scaling import GROW, Sizes, sizes_of
from digits_sweep.config.schema import Config
from digits_sweep.data.digits import Digits
from digits_sweep.data.loading import changed, for_run, load, make_ready, name_of
from digits_sweep.errors import (
    LONGEST_REASON,
    CannotRecord,
    CannotResume,
    DataUnavailable,
    DeviceUnavailable,
    EngineRefused,
    InvalidConfig,
    UnreadableRecord,
    reason_of,
    shortened,
)
from digits_sweep.machine import usable_cores
from digits_sweep.results.critical import divides_by_the_root
from digits_sweep.results.lock import only_writer, writers_in
from digits_sweep.results.losses import RunningLoss, read_sizes
from digits_sweep.results.record import (
    ALL_TARGETS,
    MAX_EXAMPLES,
    RECORD_FILE,
    EpochRow,
    EvaluationRow,
    Record,
    Status,
    describe_environment,
    write_record,
)
from digits_sweep.results.run import RecordedRun, read_run
from digits_sweep.results.sweep import Manifest
from digits_sweep.results.targets import all_reached
from digits_sweep.shell import Screen, SweepProgress
from digits_sweep.sweep.checkpoint import Checkpoint, restore
from digits_sweep.sweep.fitting import as_settled, recorded_engine
from digits_sweep.sweep.own_command import new_attempt, run_command
from digits_sweep.sweep.preflight import unfit
from digits_sweep.sweep.resume import is_finished
from digits_sweep.sweep.run_files import RunFiles, RunState, load_run_state
from digits_sweep.training.building import BuiltEngine, build_engine
from digits_sweep.training.device import (
    PeakMemory,
    arithmetic_of,
    error_line,
    flush_denormals_from_now_on,
    resolve_device,
    traceback_of,
)
from digits_sweep.training.engines import AUTO_PICKS
from digits_sweep.training.epochs import Epoch, Stopwatch, is_last, train
from digits_sweep.training.evaluation import Evaluator, evaluate, evaluate_by
from digits_sweep.training.schedule import NoiseGrowth, learning_rate_of

log = logging.getLogger(__name__)

# What share of a run's time looking at the other runs of its sweep may take.
MOST_OF_THE_TIME = 0.05


@dataclass(frozen=True)
class RunRequest:
    """What a run is asked to do, and where it reports to."""

    config: Config
    run_dir: Path
    manifest: Manifest | None
    screen: Screen
    progress: SweepProgress | None = None


def run(
    config: Config,
    run_dir: Path,
    number: int = 0,
    manifest: Manifest | None = None,
    screen: Screen | None = None,
    progress: SweepProgress | None = None,
) -> RecordedRun:
    """Train once as `config` says and record it in `run_dir`; if a run was started there, resume it.

    A command is started in the place of an engine; if it was started there before, it starts anew.

    `number` is the run's place in its sweep, from 0, and `manifest` the sweep's; without one the run makes its own data
    ready. It reports to `screen`, or to standard output, and how far the sweep is as `progress` says. An error inside
    the run is not raised: it is reported, logged and recorded with its traceback, and the record's `status` is
    `failed`, because the other runs of a sweep continue.

    If another process writes in `run_dir`, such as a job of a cluster that outlived its sweep, this waits for it to
    end and resumes from there. Raises `CannotResume` if `run_dir` holds a run with another configuration,
    `CannotRecord` or OSError if results cannot be written, and KeyboardInterrupt if the user stops it.
    """
    flush_denormals_from_now_on()
    request = RunRequest(config, run_dir, manifest, screen or Screen(quiet=config.quiet), progress)
    run_dir.mkdir(parents=True, exist_ok=True)
    with only_writer(run_dir, waits=request.screen.say):
        if finished := _finished(request):
            return finished
        if config.command is None:
            state = load_run_state(config, run_dir, number, request.screen.say)
            _attempt(request, state)
            return state.run
        record = new_attempt(config, run_dir, number, request.screen.say)
    # Without the lock: the command records, and holds the folder itself.
    recorded = run_command(config, run_dir, title(request, record), request.screen)
    _say_end(request, recorded)
    return recorded


def _finished(request: RunRequest) -> RecordedRun | None:
    """Return the run that is recorded if nothing is left to do, and say so."""
    with suppress(UnreadableRecord):
        recorded = read_run(request.run_dir)
        if is_finished(recorded, request.config) and not differing(recorded.record.config, request.config):
            _ = recorded.row  # reads the losses too
            why = (
                f"; {recorded.misfit}; to train it again, remove {request.run_dir} and type the whole command"
                if recorded.misfit
                else ""
            )
            request.screen.say(f"{request.run_dir.name}: {recorded.record.status} before, kept{why}")
            return recorded
    return None


def _attempt(request: RunRequest, state: RunState) -> None:
    """Train what is left, and leave the record as the run ended, on disk too."""
    recorded, record = state.run, state.run.record
    _begin(request, recorded)
    memory: PeakMemory | None = None
    training: _RecordedTraining | None = None
    try:
        device = resolve_device(as_settled(request.config, record).device)
        with observing(record, "peak_memory_mb"):
            memory = PeakMemory(device)
        digits = digits_for(request.config, request.manifest, record, request.screen.say)
        built = engine_for_run(request.config, digits, record, state.checkpoint)
        training = _RecordedTraining(request, state, built, digits)
        with changes_taken_back(request.run_dir.name):
            training.run(title(request, record))
            with observing(record, "test_accuracy"):
                _evaluate(request.config, record, built, digits)
        finite = record.ended is not None or math.isfinite(cast(float, recorded.final_loss))
        record.status = Status.COMPLETED if finite else Status.DIVERGED
    except (CannotRecord, KeyboardInterrupt) as stop:
        log.warning("%s after epoch %s", type(stop).__name__, recorded.epochs)
        raise
    # Code of the user's that calls sys.exit ends its run and no other.
    except (Exception, SystemExit) as error:
        _note_failure(request, record, error)
    for line in what_was_taken_back():
        request.screen.say(f"WARNING: {line}")
    if memory:
        with observing(record, "peak_memory_mb"):
            for name, peak in memory.peaks().items():
                setattr(record, name, round(max(peak, getattr(record, name) or 0.0), 1) or None)
    with recording(record):
        if training:
            training.files.wait_for_disk()
            record.files = training.files.writer.written
        write_record(request.run_dir, record)
    _say_end(request, recorded)


def _begin(request: RunRequest, recorded: RecordedRun) -> None:
    """Prepare the record of a run that is about to train: until the run ends, it says `interrupted`."""
    record, done = recorded.record, len(recorded.history)
    if record.status is not Status.PLANNED:
        record.resumed_after.append(done)
    record.status, record.error, record.folder = Status.INTERRUPTED, None, request.run_dir.name
    record.config = asdict(request.config)
    environment = {**describe_environment(), "torch": str(torch.__version__)}
    if record.environment != {**environment, "from_epoch": record.environment.get("from_epoch")}:
        _say_other_torch(request, record)
        record.environments.append({**environment, "from_epoch": done + 1})  # type: ignore[typeddict-item]
    record.dataset = record.dataset or name_of(request.config.data)
    record.started_at = record.started_at or datetime.now(timezone.utc).isoformat(timespec="seconds")
    # What belongs to an earlier end of the run.
    record.test_answers = record.test_accuracy = record.classes_never_predicted = record.ended = None
    record.files, record.not_measured = {}, {}


def _say_other_torch(request: RunRequest, record: Record) -> None:
    before, now = record.environment.get("torch"), str(torch.__version__)
    if before and before.partition("+")[0] != now.partition("+")[0]:
        name = request.run_dir.name
        request.screen.say(f"{name}: trained with torch {before}; the last digits may differ with torch {now}")


def _note_failure(request: RunRequest, record: Record, error: BaseException) -> None:
    """Record an error inside the run, log it and say it."""
    batch_size = request.config.data.batch_size
    record.status, record.error = Status.FAILED, traceback_of(error, batch_size)
    log.error("%s", record.error)
    request.screen.say(f"  failed: {shortened(error_line(error, batch_size), LONGEST_REASON)}")
    request.screen.say(f"  its traceback: {request.run_dir / RECORD_FILE}")


def _say_end(request: RunRequest, recorded: RecordedRun) -> None:
    if request.screen.quiet:
        request.screen.say(f"{title(request, recorded.record)}  {ended(recorded)}")
    if recorded.record.status is Status.DIVERGED:
        epoch, loss = len(recorded.history), recorded.final_loss
        request.screen.say(f"  diverged: the mean loss of epoch {epoch} is {loss}")


def _evaluate(config: Config, record: Record, built: BuiltEngine, digits: Digits) -> None:
    images, labels = digits.test_images, digits.test_labels.to(built.device)
    fast = evaluate_by(built.engine, images, torch.arange(len(images)), labels, built.loss)
    evaluation = fast or evaluate(built.engine.model, images, labels, config.data.scale, built.loss)
    record.test_answers, record.test_accuracy = evaluation.predictions_per_class or None, evaluation.accuracy
    record.classes_never_predicted = evaluation.classes_never_predicted


@contextmanager
def observing(record: Record, column: str) -> Iterator[None]:
    """Note in the record why the block cannot measure `column`; the run that it observes goes on."""
    try:
        yield
    # A network in evaluation mode is the user's code in another state, and the device may be out of memory.
    except Exception as error:
        log.warning("%s is not measured", column, exc_info=error)
        record.not_measured[column] = reason_of(error)


@contextmanager
def recording(record: Record) -> Iterator[None]:
    """Time what is written in the block. Raises `CannotRecord` if it cannot be written."""
    started = time.perf_counter()
    try:
        yield
    except OSError as error:
        where = error.filename2 or error.filename or "the run's folder"
        raise CannotRecord(f"{where}: {error.strerror or error}; nothing recorded before is lost") from error
    finally:
        record.seconds_recording += time.perf_counter() - started


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
    if mistakes := list(unfit(config, digits)):
        raise InvalidConfig("\n".join(mistakes))
    record.dataset, record.dataset_digest = digits.name, digits.digest
    record.train_samples, record.image_shape = trained_on(config, digits), list(digits.image_shape)
    record.tokens = digits.train_images.dtype is torch.int64
    return for_run(digits, config)


def trained_on(config: Config, digits: Digits) -> int:
    """Return how many examples an epoch trains on: all, or those of its whole batches with `data.last=drop`."""
    count = len(digits.train_labels)
    return count - count % config.data.batch_size if config.data.last == "drop" else count


def engine_for_run(config: Config, digits: Digits, record: Record, before: Checkpoint | None) -> BuiltEngine:
    """Build a run's engine, restore `before` into it, and note it in `record`.

    A run that continues keeps its engine and its number of threads. Raises `CannotResume` if it started with an engine
    or a device that cannot be had here, because another one may round otherwise, or with code of the user's that has
    changed.
    """
    if before is not None and (changes := list(changed_code(config, record.own_code))):
        raise CannotResume("; ".join(changes))
    built = _as_planned(config, digits, record) if before is None else _as_it_started(config, digits, record)
    if before is not None:
        restore(built.engine, before)
    record.flush_denormal = built.configure_threads()
    record.arithmetic = arithmetic_of(built.device)
    record.engine, record.engine_reason = built.name, built.reason
    record.device, record.num_threads = str(built.device), built.num_threads
    record.own_code = sources(config)
    record.parameters = sum(each.numel() for each in built.engine.model.parameters() if each.requires_grad)
    record.seconds_setup = built.seconds_setup
    return built


def _as_planned(config: Config, digits: Digits, record: Record) -> BuiltEngine:
    """Build the engine that was settled for a run before the sweep started, or another one if this machine differs."""
    settled = as_settled(config, record)
    if settled.num_threads != config.num_threads and int(settled.num_threads) > usable_cores():
        settled = replace(settled, num_threads=config.num_threads)
    try:
        built = build_engine(settled, digits)
    except (EngineRefused, DeviceUnavailable):
        if settled == config:
            raise
        return build_engine(config, digits)
    return built if settled.engine == config.engine else replace(built, reason=record.engine_reason or built.reason)


def _as_it_started(config: Config, digits: Digits, record: Record) -> BuiltEngine:
    """Build the engine that a run started with, even if `engine=auto` would take another one now."""
    started = recorded_engine(config, record)
    try:
        built = build_engine(as_settled(config, record), digits)
    except EngineRefused as refused:
        if started is None:
            raise
        reason = str(refused).removesuffix(AUTO_PICKS)
        raise CannotResume(f"engine was {started} when this run started; {reason}") from refused
    for name, then, now in (("engine", record.engine, built.name), ("device", record.device, str(built.device))):
        if then != now:
            raise CannotResume(f"{name} was {then} when this run started, is {now} here")
    return replace(
        built,
        num_threads=record.num_threads or built.num_threads,
        reason=record.engine_reason or built.reason,
    )


class _RecordedTraining:
    """Trains what is left of a run; an epoch and its evaluations are recorded before the next one starts."""

    def __init__(self, request: RunRequest, state: RunState, built: BuiltEngine, digits: Digits) -> None:
        self.request, self.recorded, self.record, self.built = request, state.run, state.run.record, built
        config, threshold = request.config, request.config.trainer.loss_threshold
        threshold = -math.inf if threshold is None else threshold
        self.num_samples, self.of_samples = trained_on(config, digits), len(digits.train_labels)
        self.files = RunFiles(request.run_dir, config, self.num_samples, self.record.run_id)
        with recording(self.record):
            losses = self.files.open(state.checkpoint)
            write_record(request.run_dir, self.record)
        self.growth = NoiseGrowth(config.data.batch_size, config.schedule.largest_batch or self.num_samples)
        for row in self.recorded.evaluations:
            self.growth.follow(row)
        self.running = RunningLoss(config.data.batch_size, self.num_samples, threshold)
        self.running.follow(losses, read_sizes(request.run_dir, count=len(losses)) if config.schedule.batch else None)
        self.evaluator = None
        if config.evaluation.every_examples is not None or config.evaluation.per_doubling is not None:
            self.evaluator = Evaluator(config.evaluation, digits, config.data.scale, built.device, built.loss)
        self.has_metric = divides_by_the_root(vars(config.optimizer))
        # Evaluations of the present epoch.
        self._new: list[EvaluationRow] = []
        self._next_look = -math.inf

    def run(self, title: str) -> None:
        """Train until the run ends; if that is before its last epoch, `ended` of its record says why."""
        trainer, history = self.request.config.trainer, self.recorded.history
        # A process may be stopped between the last epoch and the end.
        if not self._reaches_all_targets() and not (history and is_last(history[-1].loss_mean, trainer)):
            self._train(title)
        self._note_max_examples()

    def _train(self, title: str) -> None:
        """Train what is left, and commit every epoch."""
        request, trainer, history = self.request, self.request.config.trainer, self.recorded.history
        if request.progress:
            request.progress.num_samples = self.num_samples
        with request.screen.run(title, trainer.num_epochs, len(history), request.progress) as shown:
            for epoch in self._epochs():
                self._commit(epoch)
                shown.epoch(epoch.number, epoch.loss_mean, epoch.loss_std, epoch.seconds)
        with recording(self.record):
            self.files.wait_for_disk()
            if not history:
                self.files.writer.add(self._new)

    def _note_max_examples(self) -> None:
        most, history = self.request.config.trainer.max_examples, self.recorded.history
        is_over = most is not None and history and history[-1].examples >= most
        if is_over and self.record.ended is None:
            self.record.ended = MAX_EXAMPLES

    def _epochs(self) -> Iterator[Epoch]:
        """Train what is left."""
        config, history = self.request.config, self.recorded.history
        return train(
            self.built.engine, config.trainer, config.seed, self.num_samples, Stopwatch(self.built.device),
            first_epoch=len(history) + 1,
            evaluation=config.evaluation if self.evaluator else None, pause=self._pause,
            seconds_before=math.fsum(row.seconds for row in history),
            learning_rate=learning_rate_of(config.schedule, config.trainer, self.num_samples),
            of_samples=self.of_samples, batch_sizes=self._batch_sizes if config.schedule.batch else None,
        )  # fmt: skip

    def _batch_sizes(self) -> Sizes:
        """Return the sizes of the batches, of one that grows as far as they are known."""
        config = self.request.config
        return self.growth.sizes if config.schedule.batch == GROW else sizes_of(config)

    def _commit(self, epoch: Epoch) -> None:
        losses, sizes = epoch.losses.numpy(), None if epoch.sizes is None else np.array(epoch.sizes)
        self.recorded.crossing = self.running.follow(losses, sizes)
        before = self.recorded.history[-1].examples if self.recorded.history else 0
        row = EpochRow(
            epoch.number, epoch.loss_mean, epoch.loss_std, epoch.seconds, epoch.examples / epoch.seconds,
            epoch.complete, self.running.iterations, before + epoch.examples,
        )  # fmt: skip
        with recording(self.record):
            self._note_concurrent_runs()
            self.files.commit(self.built.engine, row, losses, self._new, sizes)
        self.recorded.history.append(row)
        self._new = []
        log.info("epoch %d: loss %.6f in %.3f s", epoch.number, epoch.loss_mean, epoch.seconds)

    def _note_concurrent_runs(self) -> None:
        """Note how many runs train side by side, unless that was looked at just now: of thousands it takes long."""
        started = time.monotonic()
        if started < self._next_look:
            return
        if (beside := writers_in(self.request.run_dir.parent)) > self.record.concurrent_runs:
            self.record.concurrent_runs = beside
            write_record(self.request.run_dir, self.record)
        now = time.monotonic()
        self._next_look = now + (now - started) / MOST_OF_THE_TIME

    def _pause(self, iterations: int, examples: int, seconds: float) -> bool:
        """Evaluate between two iterations; return whether the run ends there."""
        assert self.evaluator is not None
        size = [size for start, size in self._batch_sizes() if start <= examples][-1]
        measured = self.evaluator.measure(self.built.engine, size if self.has_metric else None)
        noise, in_metric, train, test = measured.noise, measured.noise_in_metric, measured.train, measured.test
        if measured.no_noise and "noise_scale" not in self.record.not_measured:
            self.record.not_measured["noise_scale"] = measured.no_noise
            self.request.screen.say(f"  the gradient noise scale is not measured: {measured.no_noise}")
        row = EvaluationRow(
            iterations, examples, seconds, train.loss, train.error, test.loss, test.error,
            test.classes_never_predicted,
        )  # fmt: skip
        if noise:
            scale = in_metric.scale if in_metric else None
            row = replace(
                row, gradient_squared_norm=noise.squared_norm, gradient_trace=noise.trace, noise_scale=noise.scale,
                optimizer_noise_scale=scale,
            )  # fmt: skip
        self._new.append(row)
        self.recorded.evaluations.append(row)
        self.growth.follow(row)
        return self._reaches_all_targets()

    def _reaches_all_targets(self) -> bool:
        """Return whether the run ends because it has reached all that it is to stop at, and note that."""
        evaluation, rows = self.request.config.evaluation, self.recorded.evaluations
        if not evaluation.stop or not all_reached(asdict(evaluation.targets), rows, evaluation.on_balance):
            return False
        self.record.ended = ALL_TARGETS
        return True


def title(request: RunRequest, record: Record) -> str:
    """Return the line that announces a run: how many came before it, its folder, and what it trains with."""
    number, total = record.number, len(request.manifest.runs) if request.manifest else 0
    if request.progress:
        number, total = request.progress.number, request.progress.total
    position = f"run {number + 1} of {total}: " if total else ""
    # A run that fails early has neither engine nor device.
    engine = f"engine {record.engine}" if record.engine else None
    what = list(filter(None, [record.dataset, engine, record.device]))
    if request.config.command is not None:
        what = [shlex.join(words_of(request.config))]
    return f"{position}{request.run_dir.name}  ({', '.join(what)})"


def ended(recorded: RecordedRun) -> str:
    """Return what became of a run, in a few words: `completed, 30 epochs, loss 1.4870`."""
    epochs, loss = recorded.epochs, recorded.final_loss
    return f"{recorded.record.status}, {epochs} epoch{'s' if epochs != 1 else ''}" + (
        f", loss {loss:.4f}" if loss is not None else ""
    )
