"""One run: train, or resume, and record every epoch."""

import logging
import math
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

import torch

from digits_sweep.config.schema import Config
from digits_sweep.console import Screen
from digits_sweep.data.digits import Digits, scale
from digits_sweep.errors import CannotRecord
from digits_sweep.results.columns import fill
from digits_sweep.results.environment import describe_environment
from digits_sweep.results.history import EpochRow
from digits_sweep.results.lock import only_writer, writers_in
from digits_sweep.results.losses import Losses, RunningLoss
from digits_sweep.results.manifest import Manifest
from digits_sweep.results.record import Record, Status, write_record
from digits_sweep.sweep.resume import is_finished
from digits_sweep.sweep.run_files import RunFiles
from digits_sweep.sweep.run_state import RunState, load_run_state
from digits_sweep.sweep.setup import digits_for, engine_for_run
from digits_sweep.training.building import BuiltEngine
from digits_sweep.training.device import flush_denormals_from_now_on
from digits_sweep.training.epochs import Epoch, is_last, train
from digits_sweep.training.evaluation import evaluate
from digits_sweep.training.stopwatch import Stopwatch

log = logging.getLogger(__name__)

# Asked after every epoch with the epochs so far; a text is the reason to end the run there.
Enough = Callable[[Sequence[EpochRow]], str | None]


@dataclass(frozen=True)
class Job:
    """What a run is asked to do, and where it reports to."""

    config: Config
    run_dir: Path
    manifest: Manifest | None
    enough: Enough | None
    screen: Screen


def run(
    config: Config, run_dir: Path, number: int = 0, manifest: Manifest | None = None, enough: Enough | None = None
) -> Record:
    """Train once as `config` says and record it in `run_dir`; if a run was started there, resume it.

    `number` is the run's place in its sweep, from 0, and `manifest` the sweep's; without one the run makes its own data
    ready. After every epoch `enough` is asked with the epochs so far: a reason that it returns ends the run there,
    `interrupted`, with the reason as its `error`. An error inside the run is not raised: it is reported, logged and
    recorded with its traceback, and the record's `status` is `failed`, because the other runs of a sweep continue.
    If another process writes in `run_dir`, such as a job of a cluster that outlived its sweep, this waits for it to
    end and resumes from there. Raises `CannotResume` if `run_dir` holds a run with another configuration,
    `CannotRecord` or OSError if results cannot be written, and KeyboardInterrupt if the user stops it.
    """
    flush_denormals_from_now_on()
    job = Job(config, run_dir, manifest, enough, Screen())
    run_dir.mkdir(parents=True, exist_ok=True)
    with only_writer(run_dir, waits=job.screen.say):
        state = load_run_state(config, run_dir, number, job.screen.say)
        if is_finished(state.record, config):
            job.screen.say(f"{run_dir.name}: {state.record.status} before, kept")
        else:
            _attempt(job, state)
    return state.record


def _attempt(job: Job, state: RunState) -> None:
    """Train what is left, and leave the record as the run ended, on disk too."""
    record = state.record
    _start(job, state)
    try:
        digits = digits_for(job.config, job.manifest, record, job.screen.say)
        built = engine_for_run(job.config, digits, record, state.checkpoint)
        _train(job, state, built)
        if record.error is None:
            _evaluate(job.config, record, built, digits)
            finite = math.isfinite(float(record.summary["final_loss"]))
            record.status = Status.COMPLETED if finite else Status.DIVERGED
    except (CannotRecord, KeyboardInterrupt) as stop:
        log.warning("%s after epoch %s", type(stop).__name__, record.summary["epochs"])
        raise
    except Exception as error:
        record.status, record.error = Status.FAILED, traceback.format_exc()
        log.error("%s", record.error)
        job.screen.say(f"  failed: {type(error).__name__}: {error}".splitlines()[0])
        job.screen.say(f"  its traceback: {job.run_dir / 'record.json'}")
    with _recording(record):
        write_record(job.run_dir, record)
    if record.status is Status.DIVERGED:
        job.screen.say(
            f"  diverged: the mean loss of epoch {record.summary['epochs']} is {record.summary['final_loss']}"
        )


def _start(job: Job, state: RunState) -> None:
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
    first = {"dataset": job.config.data.name, "concurrent_runs": 1, "started_at": started}
    # What was found on the test set belongs to an earlier end of the run.
    record.test_answers = None
    record.summary = first | record.summary | {"test_accuracy": None, "classes_never_predicted": None}
    fill(record, state.history)
    with _recording(record):
        write_record(job.run_dir, record)


@contextmanager
def _recording(record: Record) -> Iterator[None]:
    """Time what is written in the block. If it cannot be written, training further would be for nothing."""
    started = time.perf_counter()
    try:
        yield
    except OSError as error:
        where = error.filename2 or error.filename or "the run's folder"
        raise CannotRecord(f"{where}: {error.strerror or error}; nothing recorded before is lost") from error
    record.seconds_recording += time.perf_counter() - started


def _train(job: Job, state: RunState, built: BuiltEngine) -> None:
    """Train epoch by epoch. Each is on disk before the next starts."""
    trainer, run_dir, record, history = job.config.trainer, job.run_dir, state.record, state.history
    num_samples, files = record.summary["train_samples"], RunFiles(job.run_dir)
    with _recording(record):
        done = files.restore(record, history, _iterations(state))
    running = RunningLoss(job.config.data.batch_size, num_samples, trainer.loss_threshold)
    _follow(running, done, record, history)
    if history and is_last(history[-1].loss_mean, trainer):
        return
    with job.screen.run(_title(job, record), trainer.num_epochs, len(history)) as shown:
        stopwatch = Stopwatch(built.device)
        for epoch in train(built.engine, trainer, job.config.seed, num_samples, stopwatch, len(history) + 1):
            history.append(_row(epoch))
            with _recording(record):
                _follow(running, epoch.losses.numpy(), record, history)
                beside = max(record.summary["concurrent_runs"], writers_in(run_dir.parent))
                record.summary["concurrent_runs"] = beside
                files.commit(built.engine, record, history, epoch.losses)
            log.info("epoch %d: loss %.6f in %.3f s", epoch.number, epoch.loss_mean, epoch.seconds)
            shown.epoch(history[-1])
            if job.enough and (reason := job.enough(history)):
                record.error = reason
                return


def _iterations(state: RunState) -> int:
    """How many iterations are committed. A checkpoint of format 1 does not say it."""
    if state.checkpoint and state.checkpoint.iterations is not None:
        return state.checkpoint.iterations
    return len(state.history) * state.record.summary["iterations_per_epoch"]


def _follow(running: RunningLoss, losses: Losses, record: Record, history: Sequence[EpochRow]) -> None:
    """Take the losses of new iterations into the record."""
    crossing = running.follow(losses)
    record.summary |= {
        "iterations_to_threshold": crossing.iterations if crossing else None,
        "examples_to_threshold": crossing.examples if crossing else None,
        "iterations": running.iterations,
    }
    fill(record, history)


def _title(job: Job, record: Record) -> str:
    position = f"run {record.number + 1} of {len(job.manifest.runs)}: " if job.manifest else ""
    what = ", ".join([record.summary["dataset"], f"engine {record.summary['engine']}", record.summary["device"]])
    return f"{position}{job.run_dir.name}  ({what})"


def _row(epoch: Epoch) -> EpochRow:
    per_second = epoch.examples / epoch.seconds
    return EpochRow(epoch.number, epoch.loss_mean, epoch.loss_std, epoch.seconds, per_second, epoch.complete)


def _evaluate(config: Config, record: Record, built: BuiltEngine, digits: Digits) -> None:
    images = scale(digits.test_images, config.data.scale).to(built.device)
    evaluation = evaluate(built.engine.model, images, digits.test_labels.to(built.device))
    record.test_answers = evaluation.answers_per_class
    record.summary["test_accuracy"] = evaluation.accuracy
    record.summary["classes_never_predicted"] = evaluation.classes_never_predicted
