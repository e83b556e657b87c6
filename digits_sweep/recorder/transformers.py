"""A callback that records what the Trainer of Hugging Face's Transformers trains. It needs the extra `transformers`."""

from typing import Any

from transformers import TrainerCallback

from digits_sweep.errors import CannotRecord
from digits_sweep.recorder.recorder import Recorder

# What an evaluation reports besides its metrics.
NO_METRICS = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")


class RecorderCallback(TrainerCallback):
    """Records the training of `trainer` as a run of the sweep in the folder `sweep`; None: of the one that started it.

    `trainer.add_callback(RecorderCallback(trainer, "outputs/sweeps/mine", loss_threshold=2.0))`. `arguments` are those
    of `Recorder`; what the Trainer knows need not be among them. Of an evaluation every metric is recorded:
    `eval_f1` as `f1`, `eval_loss` as the test loss, and from `eval_accuracy` the test error.
    """

    def __init__(self, trainer: Any, sweep: Any = None, **arguments: Any) -> None:
        self.sweep, self.arguments = sweep, arguments
        self.recorder: Any = None
        self._loss: Any = None
        # No event of a callback has the loss of a step.
        self._training_step, trainer.training_step = trainer.training_step, self._with_loss

    def _with_loss(self, *given: Any, **named: Any) -> Any:
        """Make a step, whose loss is its share of that of the update."""
        loss = self._training_step(*given, **named)
        self._loss = loss if self._loss is None else self._loss + loss
        return loss

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the run. Raises `CannotRecord` if it is one that continues."""
        if state.global_step:
            raise CannotRecord("resume_from_checkpoint: a training that continues is not recorded; train without it")
        self.recorder = Recorder(
            self.sweep, **_known(args, kwargs["model"], kwargs["train_dataloader"]) | self.arguments
        )
        self.recorder.start()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.recorder.start_epoch()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.recorder.clock.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the loss of an update; an evaluation or a checkpoint after it is no part of an epoch's seconds."""
        self.recorder.step(self._loss, update=True)
        self._loss = None
        if control.should_evaluate or control.should_save:
            self.recorder.clock.stop()

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        """Record the metrics of an evaluation."""
        named = {name.removeprefix("eval_"): value for name, value in (metrics or {}).items() if name != "epoch"}
        values = {name: value for name, value in named.items() if not name.endswith(NO_METRICS)}
        if "loss" in values:
            values["test_loss"] = values.pop("loss")
        if "accuracy" in values:
            values["test_error"] = 1 - values.pop("accuracy")
        if self.recorder and values:
            self.recorder.evaluated(**values)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.recorder.end_epoch()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End the run, and say why if that is before its last epoch."""
        is_enough = 0 < args.max_steps <= state.global_step
        is_early = not is_enough and state.global_step < state.max_steps
        self.recorder.end(why="max_steps reached" if is_enough else "stopped early" if is_early else None)


def _known(args: Any, model: Any, loader: Any) -> dict[str, Any]:
    """Return the arguments of `Recorder` that a Trainer knows."""
    size = args.train_batch_size * args.world_size
    has_length = hasattr(loader, "__len__") and hasattr(loader.dataset, "__len__")
    return {
        "batch_size": size * args.gradient_accumulation_steps,
        "train_samples": min(len(loader.dataset), len(loader) * size) if has_length else None,
        "lr": args.learning_rate, "weight_decay": args.weight_decay, "seed": args.seed, "optimizer": args.optim.value,
        "model": type(model).__name__, "device": args.device, "average": args.world_size > 1,
        "parameters": sum(each.numel() for each in model.parameters() if each.requires_grad),
    }  # fmt: skip
