"""The whole step captured once as a CUDA graph and replayed: the fast path on an NVIDIA GPU.

A small network leaves a GPU waiting for the CPU to launch its kernels. A graph holds all of a step's kernels, the
optimizer's included, and is launched as one. It reads its position in the order from a counter on the device, so that
training on an order consists of replays alone: no copy, no synchronization.
"""

import warnings
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from digits_sweep.config.schema import OptimizerConfig
from digits_sweep.data.digits import scale
from digits_sweep.training.engines.protocol import Workload
from digits_sweep.training.model import MLP
from digits_sweep.training.optimizers.optimizer import build_optimizer, steps_plainly

# Captured work must have run before: libraries initialize themselves on first use, which a graph cannot hold.
WARM_UP_STEPS = 3


class CudaGraphEngine:
    """Autograd's step, captured: one graph for full batches and one for the smaller last one, if there is one."""

    automatic: ClassVar[bool] = True
    flushes_denormals: ClassVar[bool] = True
    # A graph holds one learning rate.
    follows_schedules: ClassVar[bool] = False
    reads_floats: ClassVar[bool] = True

    @staticmethod
    def refusal(model: nn.Module, optimizer: OptimizerConfig, device: torch.device) -> str | None:
        if device.type != "cuda":
            return "it needs an NVIDIA GPU"
        # Whether another model can be captured shows only when it is tried, and not always by an error.
        if type(model) is not MLP:
            return "it captures the step of model=mlp only"
        # Warming up is undone by setting the optimizer's state to zero, which is where these start.
        if not steps_plainly(optimizer):
            return f"it captures the plain steps of Adam, AdamW and SGD only, not optimizer={optimizer.name}"
        return None

    def __init__(self, workload: Workload) -> None:
        device, num_samples = workload.device, len(workload.labels)
        self.model = workload.model.to(device)
        self.optimizer = build_optimizer(workload.optimizer, self.model.parameters(), fused=True, capturable=True)
        self.images = scale(workload.images, workload.scale).to(device)
        self.labels = workload.labels.to(device)
        self.order = torch.arange(num_samples, device=device)
        self.batch_size = workload.batch_size
        full_batches, ragged = divmod(num_samples, self.batch_size)
        self.losses = torch.zeros(full_batches + bool(ragged), device=device)
        self.iteration = torch.zeros(1, dtype=torch.int64, device=device)
        self.first_image = torch.zeros(1, dtype=torch.int64, device=device)
        with torch.cuda.device(device):
            self.full = self._capture(self.batch_size)
            self.ragged = self._capture(ragged) if ragged else None

    def train(self, order: Tensor, rates: Sequence[float] | None = None) -> Tensor:
        full_batches, ragged = divmod(len(order), self.batch_size)
        self.order[: len(order)].copy_(order)
        self.iteration.zero_()
        self.first_image.zero_()
        for _ in range(full_batches):
            self.full.replay()
        if ragged:
            assert self.ragged is not None, "a batch is smaller only at the end of an epoch"
            self.ragged.replay()
        return self.losses[: full_batches + bool(ragged)].clone()

    def _capture(self, size: int) -> torch.cuda.CUDAGraph:
        """Capture one step on the next `size` images. Weights and moments are as before afterwards."""
        within_batch = torch.arange(size, device=self.order.device)
        weights = [parameter.detach().clone() for parameter in self.model.parameters()]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), warnings.catch_warnings():
            # Adam warns if a capturable step runs uncaptured, which is what warming up is.
            warnings.simplefilter("ignore", UserWarning)
            for _ in range(WARM_UP_STEPS):
                self.iteration.zero_()
                self.first_image.zero_()
                self._step(within_batch)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step(within_batch)
        self._rewind(weights)
        return graph

    def _step(self, within_batch: Tensor) -> None:
        batch = self.order[self.first_image + within_batch]
        loss = cross_entropy(self.model(self.images[batch]), self.labels[batch])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.losses.index_copy_(0, self.iteration, loss.detach().unsqueeze(0))
        self.iteration.add_(1)
        self.first_image.add_(len(within_batch))

    def _rewind(self, weights: list[Tensor]) -> None:
        """Undo the warm-up in place, because the graph holds these very tensors: every moment starts at zero."""
        with torch.no_grad():
            for parameter, weight in zip(self.model.parameters(), weights, strict=True):
                parameter.copy_(weight)
            for state in self.optimizer.state.values():
                for kept in state.values():
                    if isinstance(kept, Tensor):
                        kept.zero_()
