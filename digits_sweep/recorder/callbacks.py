"""A callback that records what Lightning's Trainer trains. It needs the extra `lightning`."""

import math
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from digits_sweep.errors import CannotRecord
from digits_sweep.recorder.recorder import Recorder


class RecorderCallback(Callback):
    """Records the fit of a Trainer with `recorder`, which is not a context manager then.

    A validation is no part of an epoch's seconds. `error` names a metric that the module logs in it, the share of
    errors from 0 to 1; it is recorded as the test error.
    """

    def __init__(self, recorder: Recorder, error: str | None = None) -> None:
        self.recorder, self.error = recorder, error

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the run. Raises `CannotRecord` if an epoch has other batches than the recorder was made for."""
        batches = trainer.num_training_batches
        wanted = math.ceil((self.recorder.train_samples or 0) / self.recorder.batch_size)
        if trainer.accumulate_grad_batches != 1:
            raise CannotRecord("accumulate_grad_batches must be 1: a step is recorded for every batch")
        if batches != wanted:
            right = "train_samples and batch_size are those of the training DataLoader"
            raise CannotRecord(f"an epoch has {batches} batches, the recorder is made for {wanted}: {right}")
        self.recorder.start()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start an epoch."""
        self.recorder.start_epoch()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the loss of a batch."""
        self.recorder.step(outputs["loss"])

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the clock stand."""
        self.recorder.clock.stop()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the error that was found, and let the clock run."""
        if trainer.sanity_checking:
            return
        if self.error is not None:
            self.recorder.evaluated(test_error=float(trainer.callback_metrics[self.error]))
        self.recorder.clock.start()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record an epoch."""
        self.recorder.end_epoch()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the run."""
        self.recorder.end()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End the run as failed, or as interrupted."""
        self.recorder.end(exception)
