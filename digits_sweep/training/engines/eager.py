"""Autograd over images that already lie on the device, with a fused optimizer: any model, any device."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from digits_sweep.config.schema import OptimizerConfig
from digits_sweep.data.digits import scale
from digits_sweep.training.engines.direct_step import DirectStep
from digits_sweep.training.engines.protocol import Workload
from digits_sweep.training.engines.small_convolutions import are_small, without_onednn
from digits_sweep.training.optimizers.learning_rate import ScaledRates
from digits_sweep.training.optimizers.optimizer import build_optimizer


class EagerEngine:
    """One batch at a time: index, forward, backward, step. No iteration waits for the device."""

    automatic: ClassVar[bool] = True
    flushes_denormals: ClassVar[bool] = True
    follows_schedules: ClassVar[bool] = True
    reads_floats: ClassVar[bool] = True

    @staticmethod
    def refusal(model: nn.Module, optimizer: OptimizerConfig, device: torch.device, batch_size: int = 1) -> str | None:
        return None

    def __init__(self, workload: Workload) -> None:
        self.model = workload.model.to(workload.device)
        self.optimizer = build_optimizer(workload.optimizer, self.model.parameters(), fused=True)
        self.rates = ScaledRates(self.optimizer)
        self.images = scale(workload.images, workload.scale).to(workload.device)
        self.labels = workload.labels.to(workload.device)
        self.batch_size = workload.batch_size
        self.is_small = are_small(self.model, self.images, self.batch_size)

    def train(self, order: Tensor, rates: Sequence[float] | None = None) -> Tensor:
        batches = order.to(self.images.device).split(self.batch_size)
        losses = torch.empty(len(batches), device=self.images.device)
        # Anew for every part of an epoch, because a resume replaces the optimizer's state.
        step = DirectStep(self.optimizer)
        with without_onednn(self.is_small):
            for iteration, batch in enumerate(batches):
                loss = cross_entropy(self.model(self.images[batch]), self.labels[batch])
                step.drop_gradients()
                loss.backward()
                if rates is not None:
                    self.rates.set(rates[iteration])
                step()
                losses[iteration] = loss.detach()
        return losses
