"""The contract of engines: what they are given, what they cannot train, and what they do."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from digits_sweep.config.schema import OptimizerConfig, ScheduleConfig
from digits_sweep.training.losses import PLAIN, Loss
from digits_sweep.training.model import MLP
from digits_sweep.training.optimizers import build_optimizer, plain_kind
from digits_sweep.training.schedule import is_constant


@dataclass(frozen=True)
class Workload:
    """What is to be trained, and on what.

    `images` (n, height, width) or (n, ...), uint8, float32 or int64, and `labels` as `loss` takes them lie on the CPU;
    `model` is on the CPU with its initial weights. While a sweep is planned, n is 0 and `model` is on the meta device,
    without weights.
    """

    images: Tensor
    labels: Tensor
    scale: str
    model: nn.Module
    optimizer: OptimizerConfig
    batch_size: int
    device: torch.device
    num_workers: int = 0
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    loss: Loss = PLAIN
    micro_batch: int | None = None

    @property
    def mlp(self) -> MLP:
        """The model, for engines that refuse every other one."""
        assert isinstance(self.model, MLP), "every other model is refused"
        return self.model


# Returns why an engine cannot train a workload, or None if it can. It may look at types and shapes, never at weights or
# images, because there are none while a sweep is planned.
Limit = Callable[[Workload], str | None]


@dataclass(frozen=True)
class Only:
    """Refuses a workload with `reason`, unless it `trains` it."""

    trains: Callable[[Workload], bool]
    reason: str

    def __call__(self, workload: Workload) -> str | None:
        return None if self.trains(workload) else self.reason


cpu_only = Only(lambda workload: workload.device.type == "cpu", "it computes on the CPU only")
cuda_only = Only(lambda workload: workload.device.type == "cuda", "it needs an NVIDIA GPU")
uint8_only = Only(lambda workload: workload.images.dtype is torch.uint8, "it reads uint8 images only")
float32_only = Only(lambda workload: workload.mlp.output.weight.dtype is torch.float32, "it computes in float32 only")
constant_rate_only = Only(lambda workload: is_constant(workload.schedule), "it trains with schedule=constant only")
one_batch_size_only = Only(
    lambda workload: workload.schedule.batch is None, "it trains batches of one size only, without schedule.batch"
)
# A subclass too may compute something else.
mlp_only = Only(lambda workload: type(workload.model) is MLP, "it knows the gradient of model=mlp only")
# Neither smoothed nor weighted.
plain_loss_only = Only(lambda workload: workload.loss.is_plain, "it knows the gradient of loss=cross_entropy only")
relu_only = Only(
    lambda workload: all(type(activation) is nn.ReLU for activation in workload.mlp.activations),
    "it knows the gradient of model.activation=relu only",
)


def plain_steps_only(
    workload: Workload, does: str = "knows", kinds: tuple[str, ...] = ("Adam", "AdamW", "SGD")
) -> str | None:
    """Refuse every optimizer that does not step exactly as PyTorch's plain ones of these `kinds` do."""
    kind = plain_kind(workload.optimizer)
    if kind and kind.__name__ in kinds:
        return None
    known = f"{', '.join(kinds[:-1])} and {kinds[-1]}"
    return f"it {does} the plain steps of {known} only, not optimizer={workload.optimizer.name}"


class Engine(ABC):
    """How an epoch is computed. All engines see the same batches and give the same losses, up to float32 rounding."""

    # Whether `engine=auto` may take it; if not, only its name does.
    automatic: ClassVar[bool] = True
    # Whether float32 numbers below 1.2e-38 are taken as 0: same losses, without the slow arithmetic of denormals.
    flushes_denormals: ClassVar[bool] = True
    # What it cannot train. The first limit with a reason is the one that a user reads.
    limits: ClassVar[tuple[Limit, ...]] = ()
    # How its optimizer is built, see `build_optimizer`.
    fused: ClassVar[bool] = True
    capturable: ClassVar[bool] = False
    # Whether it can train a batch in parts of `micro_batch` examples, whose gradients it adds up.
    accumulates: ClassVar[bool] = False

    @classmethod
    def refusal(cls, workload: Workload) -> str | None:
        """Return why this engine cannot train `workload`, or None if it can."""
        if reason := next(filter(None, (limit(workload) for limit in cls.limits)), None):
            return reason
        in_parts = workload.micro_batch is not None and (
            workload.micro_batch < workload.batch_size or workload.schedule.batch is not None
        )
        return None if cls.accumulates or not in_parts else "it takes whole batches only, no data.micro_batch"

    def __init__(self, workload: Workload) -> None:
        """Prepare to train `workload`, which is not refused.

        What is needed once (moving the images, compiling, capturing) belongs here: it is timed apart from the epochs.
        """
        self.model, self.batch_size = workload.model.to(workload.device), workload.batch_size
        parameters = self.model.parameters()
        self.optimizer = build_optimizer(workload.optimizer, parameters, self.fused, self.capturable)

    def resize(self, batch_size: int, num_samples: int) -> None:
        """Train on `batch_size` images at a time from now on; `num_samples` are left of the epoch.

        Called before an epoch of a batch that grows, and within one if it grows there. What is needed once for a size
        belongs here: it is not timed.
        """
        self.batch_size = batch_size

    @abstractmethod
    def train(self, order: Tensor, rates: Sequence[float] | None = None) -> Tensor:
        """Train on the images at `order` (k,) int64, an epoch's order or a part of one, `batch_size` at a time.

        Return the loss of every iteration, (iterations,) float32, on any device. The parts of an epoch are cut at
        multiples of `batch_size` and come one after the other, so that only the last batch of an epoch may be smaller.
        Losses, weights and optimizer state are bit for bit the same however an epoch is cut. `rates` has, for every
        iteration, the share of the optimizer's learning rate to step with; without it, all steps have the whole rate.
        """

    def outputs(self, images: Tensor, chosen: Tensor) -> Tensor | None:
        """Return what the model gives in evaluation mode for `images[chosen]`, (k, classes) float32 on the CPU.

        `images` (n, ...) are as the data set has them, not scaled; `chosen` is (k,) int64. None from an engine that
        has no faster way than to call the model, for such images or for any. Nothing of the training changes.
        """
        return None
