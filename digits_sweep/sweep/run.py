"""One run: build, train or go on, record. The only place where data, learning and results meet."""

import logging
import math
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from digits_sweep.config.rules import check_batch_size
from digits_sweep.config.schema import AdamConfig, Config, OptimizerConfig
from digits_sweep.console import Screen
from digits_sweep.data.digits import Digits, scale
from digits_sweep.data.loading import load, make_ready
from digits_sweep.data.mnist import DataUnavailable
from digits_sweep.results.environment import describe_environment, git_commit
from digits_sweep.results.history import EpochRow, outcome
from digits_sweep.results.lock import only_writer, writers_in
from digits_sweep.results.record import Record, write_history, write_record
from digits_sweep.results.sweep import Manifest
from digits_sweep.sweep.checkpoint import Checkpoint, restore, write_checkpoint
from digits_sweep.sweep.resume import is_finished
from digits_sweep.sweep.run_state import begun
from digits_sweep.training.building import BuiltEngine, build_engine
from digits_sweep.training.device import flush_denormals_from_now_on
from digits_sweep.training.epochs import Epoch, is_last, train
from digits_sweep.training.evaluation import evaluate
from digits_sweep.training.stopwatch import Stopwatch

log = logging.getLogger(__name__)


class CannotRecord(Exception):
    """What a run has come to cannot be written. The text says where and why."""


class CannotGoOn(Exception):
    """A run that was begun elsewhere or otherwise cannot be gone on with here. The text says what differs."""


# Asked after every epoch with the epochs so far; a text is the reason to end the run there.
Enough = Callable[[Sequence[EpochRow]], str | None]


@dataclass(frozen=True)
class Job:
    """What a run is asked to do, and whom it tells."""

    config: Config
    run_dir: Path
    manifest: Manifest | None
    enough: Enough | None
    screen: Screen


def run(
    config: Config, run_dir: Path, number: int = 0, manifest: Manifest | None = None, enough: Enough | None = None
) -> Record:
    """Train once as `config` says and record it in `run_dir`; where a run was begun there, go on after its last epoch.

    `number` is the run's place in its sweep, from 0, and `manifest` the sweep's; without one the run makes its own
    digits ready. After every epoch `enough` is asked with the epochs so far: a reason that it returns ends the run
    there, `interrupted`, with the reason as its `error`. What goes wrong inside the run is not raised: it is told,
    logged and recorded with its traceback, and the record's `status` says so, because the other runs of a sweep go on.
    Where another process writes in `run_dir`, such as a job of a cluster that outlived the sweep which submitted it,
    this waits for its end and goes on from there. Raises `InvalidConfig` where another configuration was begun in
    `run_dir`, `CannotRecord` or OSError where nothing can be written, and KeyboardInterrupt where the user stops it.
    """
    flush_denormals_from_now_on()
    job = Job(config, run_dir, manifest, enough, Screen())
    run_dir.mkdir(parents=True, exist_ok=True)
    with only_writer(run_dir, waits=job.screen.say):
        record, checkpoint = begun(config, run_dir, number, job.screen.say)
        if is_finished(record, config):
            job.screen.say(f"{run_dir.name}: {record.status} before, kept")
            return record
        _attempt(job, record, checkpoint)
    return record


def _attempt(job: Job, record: Record, before: Checkpoint | None) -> None:
    """Train what is left, and leave `record` as the run has ended, on disk too."""
    if record.config:
        record.resumed_after.append(len(before.history) if before else 0)
    record.status, record.error = "interrupted", None
    record.config, record.environment = asdict(job.config), describe_environment()
    record.summary = _known_from_the_start(job.config) | record.summary
    with _recording(record):
        write_record(job.run_dir, record)
    try:
        digits = _digits(job, record)
        built = _build(job.config, digits, record, before)
        _train(job, record, built, before.history if before else [])
        if record.error is None:
            _evaluate(job.config, record, built, digits)
            record.status = "completed" if math.isfinite(float(record.summary["final_loss"])) else "diverged"
    except (CannotRecord, KeyboardInterrupt) as stop:
        log.warning("%s after epoch %s", type(stop).__name__, record.summary["epochs"])
        raise
    except Exception as error:
        record.status, record.error = "failed", traceback.format_exc()
        log.error("%s", record.error)
        job.screen.say(f"  failed: {type(error).__name__}: {error}".splitlines()[0])
        job.screen.say(f"  its traceback: {job.run_dir / 'record.json'}")
    with _recording(record):
        write_record(job.run_dir, record)
    if record.status == "diverged":
        job.screen.say(
            f"  diverged: the mean loss of epoch {record.summary['epochs']} is {record.summary['final_loss']}"
        )


@contextmanager
def _recording(record: Record) -> Iterator[None]:
    """What is written in the block is timed; where it cannot be written, training on would be for nothing."""
    started = time.perf_counter()
    try:
        yield
    except OSError as error:
        where = error.filename2 or error.filename or "the run's folder"
        raise CannotRecord(f"{where}: {error.strerror or error}; nothing recorded before is lost") from error
    record.seconds_recording += time.perf_counter() - started


def _known_from_the_start(config: Config) -> dict[str, Any]:
    return {
        "batch_size": config.data.batch_size,
        "lr": config.optimizer.lr,
        "weight_decay": config.optimizer.weight_decay,
        "seed": config.seed,
        "loss_threshold": config.trainer.loss_threshold,
        "epochs": 0,
        "dataset": config.data.name,
        "model": config.model.name if config.model.head == "softmax" else f"{config.model.name}_{config.model.head}",
        "hidden_size": config.model.hidden_size,
        "optimizer": config.optimizer.name,
        **_of_adam(config.optimizer),
        "concurrent_runs": 1,
        "torch_version": torch.__version__,
        "git_commit": git_commit(),
        "started_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _of_adam(optimizer: OptimizerConfig) -> dict[str, float]:
    if not isinstance(optimizer, AdamConfig):
        return {}
    return {"beta1": optimizer.betas[0], "beta2": optimizer.betas[1], "eps": optimizer.eps}


def _digits(job: Job, record: Record) -> Digits:
    """The digits that the sweep settled on, the same bytes for all of its runs."""
    config, manifest, screen = job.config, job.manifest, job.screen
    if manifest is None:
        digits, note = make_ready(config.data, screen.say)
        if note:
            screen.say(f"WARNING: training on {digits.name}: {note}")
    else:
        choice = manifest.dataset(config.data.name)
        digits = load(config.data, choice.used, screen.say)
        if digits.digest != choice.digest:
            raise DataUnavailable(f"{choice.used} in {config.data.root} is not what it was when this sweep started")
    if record.dataset_digest not in (None, digits.digest):
        raise CannotGoOn(f"{digits.name} is not what this run began with")
    num_samples = len(digits.train_labels)
    check_batch_size(config, digits.name, num_samples)
    record.dataset_digest = digits.digest
    record.summary |= {
        "dataset": digits.name,
        "train_samples": num_samples,
        "iterations_per_epoch": math.ceil(num_samples / config.data.batch_size),
    }
    return digits


def _build(config: Config, digits: Digits, record: Record, before: Checkpoint | None) -> BuiltEngine:
    """The engine, as it was when the run began: another one, or another number of threads, may round otherwise."""
    built = build_engine(config, digits)
    if before is not None:
        for name, now in (("engine", built.name), ("device", str(built.device))):
            if (then := record.summary.get(name)) != now:
                raise CannotGoOn(f"{name} was {then} when this run began, is {now} here")
        built = replace(built, num_threads=record.summary.get("num_threads", built.num_threads))
        restore(built.engine, before)
    record.flush_denormal = built.settle()
    record.engine_reason = built.reason
    record.seconds_setup = built.seconds_setup
    record.summary |= {"engine": built.name, "device": str(built.device), "num_threads": built.num_threads}
    return built


def _train(job: Job, record: Record, built: BuiltEngine, done: list[EpochRow]) -> None:
    """Every epoch is on disk before the next one starts: first the checkpoint, which alone can give all the rest."""
    trainer, run_dir = job.config.trainer, job.run_dir
    history, num_samples = list(done), record.summary["train_samples"]
    record.summary |= outcome(history, trainer.loss_threshold, num_samples, record.resumed_after)
    with _recording(record):
        write_history(run_dir, history)
    if history and is_last(history[-1].loss_mean, trainer):
        return
    with job.screen.run(_title(job, record), trainer.num_epochs, len(history)) as shown:
        stopwatch = Stopwatch(built.device)
        for epoch in train(built.engine, trainer, job.config.seed, num_samples, stopwatch, len(history) + 1):
            history.append(_row(epoch, num_samples))
            record.summary |= outcome(history, trainer.loss_threshold, num_samples, record.resumed_after)
            with _recording(record):
                beside = max(record.summary["concurrent_runs"], writers_in(run_dir.parent))
                record.summary["concurrent_runs"] = beside
                write_checkpoint(run_dir, built.engine, history)
                write_history(run_dir, history)
                write_record(run_dir, record)
            log.info("epoch %d: loss %.6f in %.3f s", epoch.number, epoch.loss_mean, epoch.seconds)
            shown.epoch(history[-1])
            if job.enough and (reason := job.enough(history)):
                record.error = reason
                return


def _title(job: Job, record: Record) -> str:
    position = f"run {record.number + 1} of {len(job.manifest.runs)}: " if job.manifest else ""
    what = ", ".join([record.summary["dataset"], f"engine {record.summary['engine']}", record.summary["device"]])
    return f"{position}{job.run_dir.name}  ({what})"


def _row(epoch: Epoch, num_samples: int) -> EpochRow:
    return EpochRow(epoch.number, epoch.loss_mean, epoch.loss_std, epoch.seconds, num_samples / epoch.seconds)


def _evaluate(config: Config, record: Record, built: BuiltEngine, digits: Digits) -> None:
    images = scale(digits.test_images, config.data.scale).to(built.device)
    evaluation = evaluate(built.engine.model, images, digits.test_labels.to(built.device))
    record.test_answers = evaluation.answers_per_class
    record.summary["test_accuracy"] = evaluation.accuracy
    record.summary["classes_never_predicted"] = evaluation.classes_never_predicted
