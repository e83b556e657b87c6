"""What every engine is given, and what it must do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from digits_sweep.config.schema import OptimizerConfig


@dataclass(frozen=True)
class Workload:
    """What is to be trained, and on what.

    `images` (n, height, width) or (n, ...), uint8 or float32, and `labels` (n,) int64 lie on the CPU; `model` is on the
    CPU with its initial weights.
    """

    images: Tensor
    labels: Tensor
    scale: str
    model: nn.Module
    optimizer: OptimizerConfig
    batch_size: int
    device: torch.device
    num_workers: int = 0


class Engine(Protocol):
    """How an epoch is computed. All engines see the same batches and give the same losses, up to float32 rounding.

    An engine is built from a `Workload`. What it needs once (moving the images, compiling, capturing) belongs into its
    constructor, which is timed apart from the epochs.
    """

    model: nn.Module
    optimizer: Optimizer
    batch_size: int
    # Whether `engine=auto` may take it; if not, only its name does.
    automatic: ClassVar[bool]
    # Whether float32 numbers below 1.2e-38 are taken as 0: same losses, without the slow arithmetic of denormals.
    flushes_denormals: ClassVar[bool]
    # Whether `train` can be given `rates`. If not, the engine is refused for every schedule but the constant one.
    follows_schedules: ClassVar[bool]
    # Whether images may be float32. If not, the engine is refused for all that are not uint8.
    reads_floats: ClassVar[bool]

    @staticmethod
    def refusal(model: nn.Module, optimizer: OptimizerConfig, device: torch.device, batch_size: int = 1) -> str | None:
        """Return why this engine cannot train `model` with `optimizer` on `device`, or None if it can.

        `batch_size` is the number of images in a full batch.

        Asked while planning too, with a model on the meta device: look at types and shapes, never at weights.
        """
        ...

    def __init__(self, workload: Workload) -> None: ...

    def train(self, order: Tensor, rates: Sequence[float] | None = None) -> Tensor:
        """Train on the images at `order` (k,) int64, an epoch's order or a part of one, `batch_size` at a time.

        Return the loss of every iteration, (iterations,) float32, on any device. The parts of an epoch are cut at
        multiples of `batch_size` and come one after the other, so that only the last batch of an epoch may be smaller.
        Losses, weights and optimizer state are bit for bit the same however an epoch is cut. `rates` has, for every
        iteration, the share of the optimizer's learning rate to step with; without it, all steps have the whole rate.
        """
        ...
