"""A callback that records what Lightning's Trainer trains, of either package name. It needs the extra `lightning`."""

import math
import os
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from torch.utils._pytree import tree_leaves

from digits_sweep.errors import CannotRecord
from digits_sweep.recorder.recorder import Recorder

PACKAGE = "lightning.pytorch" if find_spec("lightning") else "pytorch_lightning"
Callback: Any = import_module(f"{PACKAGE}.callbacks").Callback


class RecorderCallback(Callback):
    """Records every fit of a Trainer as a run of the sweep in the folder `sweep`; None: of the sweep that started it.

    `arguments` are those of `Recorder`; what Trainer, module and DataLoader know need not be among them. A validation's
    metrics are recorded if they are targets, by the names by which they are logged; `metrics` has others by the name of
    the measure, `{"test_error": "val_error"}`. `loss` names a logged loss if `training_step` returns none.
    """

    def __init__(
        self, sweep: Any = None, metrics: Mapping[str, str] | None = None, loss: str | None = None, **arguments: Any
    ) -> None:
        self.sweep, self.loss, self.arguments = sweep, loss, arguments
        self.recorder: Any = None
        self.metrics = {name: name for name in arguments.get("targets") or {}} | dict(metrics or {})
        self._state: dict[str, Any] = {}

    def on_sanity_check_end(self, trainer: Any, pl_module: Any) -> None:
        """Raise `CannotRecord` if a metric is not among those that a validation logs."""
        if unknown := set(self.metrics.values()) - set(logged := trainer.callback_metrics):
            known = ", ".join(sorted(logged)) or "none"
            raise CannotRecord(f"metric {min(unknown)!r}: a validation does not log it; it logs {known}")

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the run. Raises `CannotRecord` if what the Trainer does not know is missing."""
        if self.metrics and not trainer.enable_validation:
            raise CannotRecord(f"metric {next(iter(self.metrics.values()))!r}: the fit has no validation")
        self.recorder = Recorder(self.sweep, **_known(trainer, pl_module) | self.arguments)
        if self._state:
            self.recorder.load_state_dict(self._state)
        self.recorder.start()
        self._updates, self._is_manual = trainer.global_step, not pl_module.automatic_optimization

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.recorder.start_epoch()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Take the loss of a batch; None if `training_step` left it out."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if self.loss is not None:
            loss = trainer.callback_metrics[self.loss]
        elif loss is None and self._is_manual:
            raise CannotRecord(
                "training_step returns no loss; log one, and name it: RecorderCallback(..., loss='g_loss')"
            )
        elif loss is not None and not self._is_manual:
            loss = loss * trainer.accumulate_grad_batches
        size = None
        if self.recorder.train_samples is None:
            size = trainer.world_size * next(len(part) for part in tree_leaves(batch) if getattr(part, "ndim", 0))
        self.recorder.step(loss, size, update=trainer.global_step > self._updates)
        self._updates = trainer.global_step

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        if self.recorder:
            self.recorder.clock.stop()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Record the metrics of a validation, which is no part of an epoch's seconds."""
        if self.recorder and self.metrics:
            self.on_sanity_check_end(trainer, pl_module)
            self.recorder.evaluated(**{name: trainer.callback_metrics[own] for name, own in self.metrics.items()})
        if self.recorder:
            self.recorder.clock.start()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.recorder.end_epoch()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """End the run, and say why if that is before its last epoch."""
        is_enough = 0 <= trainer.max_steps <= trainer.global_step
        is_early = trainer.should_stop and trainer.current_epoch < (trainer.max_epochs or math.inf)
        self.recorder.end(why="max_steps reached" if is_enough else "stopped early" if is_early else None)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        if self.recorder:
            self.recorder.end(exception)

    def state_dict(self) -> dict[str, Any]:
        return self.recorder.state_dict() if self.recorder else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._state = state_dict


def _known(trainer: Any, module: Any) -> dict[str, Any]:
    """Return the arguments of `Recorder` that a Trainer knows."""
    loader, optimizer, accumulate = trainer.train_dataloader, trainer.optimizers[0], trainer.accumulate_grad_batches
    group, batches = optimizer.param_groups[0], trainer.num_training_batches
    known: dict[str, Any] = {"train_samples": None, "accumulate": accumulate, "average": trainer.world_size > 1}
    if size := (getattr(loader, "batch_size", None) or 0) * trainer.world_size:
        known["batch_size"] = size * accumulate
        if hasattr(loader.dataset, "__len__") and math.isfinite(batches):
            known["train_samples"] = min(len(loader.dataset), batches * size)
    return known | {
        "lr": group["lr"], "weight_decay": group.get("weight_decay"), "optimizer": type(optimizer).__name__,
        "model": type(module).__name__, "device": trainer.strategy.root_device,
        "seed": int(os.environ.get("PL_GLOBAL_SEED", 0)),
        "parameters": sum(each.numel() for each in module.parameters() if each.requires_grad),
    }  # fmt: skip
