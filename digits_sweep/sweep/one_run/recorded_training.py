"""Training a run with every epoch and every evaluation recorded."""

import logging
import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from digits_sweep.config.schema import EvaluationConfig
from digits_sweep.data.digits import Digits
from digits_sweep.results.columns import fill
from digits_sweep.results.disk.lock import writers_in
from digits_sweep.results.run.evaluations import EvaluationRow, running_loss
from digits_sweep.results.run.history import EpochRow
from digits_sweep.results.run.losses import Losses, RunningLoss
from digits_sweep.results.run.record import Record
from digits_sweep.results.run.targets import all_reached
from digits_sweep.sweep.one_run.job import Job, recording
from digits_sweep.sweep.one_run.on_disk.run_files import RunFiles
from digits_sweep.sweep.one_run.on_disk.run_state import RunState
from digits_sweep.sweep.one_run.pace import Pace
from digits_sweep.training.building import BuiltEngine
from digits_sweep.training.epochs import Epoch, is_last, train
from digits_sweep.training.measures.evaluation import Evaluator
from digits_sweep.training.measures.schedule import Schedule
from digits_sweep.training.optimizers.learning_rate import learning_rate_of
from digits_sweep.training.stopwatch import Stopwatch

log = logging.getLogger(__name__)

ALL_TARGETS, MAX_EXAMPLES = "all targets reached", "trainer.max_examples reached"


class RecordedTraining:
    """Trains what is left of a run; an epoch and its evaluations are recorded before the next one starts."""

    def __init__(self, job: Job, state: RunState, built: BuiltEngine, digits: Digits) -> None:
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
        pace = Pace(manifest, self.record.number, self.num_samples) if manifest and len(manifest.configs) > 1 else None
        with self.job.screen.run(title, trainer.num_epochs, done, pace) as shown:
            for epoch in self._epochs(done):
                self._commit(epoch)
                shown.epoch(self.history[-1])
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


def title(job: Job, record: Record) -> str:
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
