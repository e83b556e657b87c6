"""Steps captured as a CUDA graph and replayed: the fast path on an NVIDIA GPU for any MLP and any batch size.

A small network leaves a GPU waiting for the CPU to launch its kernels. A graph holds all kernels of many steps, the
optimizer's included, and is launched as one. It reads its images' places in the data set and its learning rates from
buffers, so that training on an order consists of copies into them and replays alone.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from digits_sweep.data.digits import scale, scale_of
from digits_sweep.training.engines.closed_form import PORTION, FlatParameters, FusedUpdate, Portion
from digits_sweep.training.engines.protocol import (
    Engine,
    Only,
    Workload,
    cuda_only,
    mlp_only,
    one_batch_size_only,
    plain_loss_only,
    plain_steps_only,
)

# Train on the images at these places, (steps * batch,), with these shares of the learning rate, (steps,); return the
# loss of every step, (steps,).
Steps = Callable[[Tensor, Tensor], Tensor]


class CudaGraphEngine(Engine):
    """Graphs of many full batches, of one, and of the smaller last one, if there is one."""

    limits = (
        cuda_only,
        one_batch_size_only,
        # Whether another model can be captured shows only when it is tried, and not always by an error.
        Only(mlp_only.trains, "it captures the step of model=mlp only"),
        plain_loss_only,
        # Warming up is undone by setting the optimizer's state to zero, which is where these start.
        partial(plain_steps_only, does="captures"),
    )
    capturable = True

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload)
        self.mlp, device = workload.mlp, workload.device
        self.images, self.labels = workload.images.to(device), workload.labels.to(device)
        self.scale = scale_of(workload.images, workload.scale)
        self.flat = FlatParameters(self.mlp)
        self.update = FusedUpdate(self.optimizer, self.flat)
        full_batches, ragged = divmod(len(self.images), self.batch_size)
        with torch.cuda.device(device):
            many = max(1, min(full_batches, PORTION // self.batch_size))
            self.many = self._captured(self.batch_size, many)
            self.one = self._captured(self.batch_size, 1) if many > 1 else self.many
            self.ragged = self._captured(ragged, 1) if ragged else None

    def train(self, order: Tensor, rates: Sequence[float] | None = None) -> Tensor:
        steps, device = -(-len(order) // self.batch_size), self.images.device
        shares = torch.ones(steps) if rates is None else torch.tensor(rates, dtype=torch.float32)
        rest, shares, losses, done = order.to(device), shares.to(device), torch.empty(steps, device=device), 0
        while done < steps:
            graph = self._next(len(rest))
            of_graph = slice(done, done + graph.steps)
            graph.train(rest[: len(graph.rows)], shares[of_graph], losses[of_graph])
            rest, done = rest[len(graph.rows) :], done + graph.steps
        return losses

    def _next(self, count: int) -> "Captured":
        """Return the graph to train on the next of `count` images with."""
        if count < self.batch_size:
            assert self.ragged is not None, "a batch is smaller only at the end of an epoch"
            return self.ragged
        return self.many if count >= len(self.many.rows) else self.one

    def _captured(self, size: int, steps: int) -> "Captured":
        """Capture `steps` steps on `size` images each. Weights and moments are as before afterwards."""
        weights = self.flat.values.clone()
        captured = Captured(self._steps_of(size, steps), size, steps, self.images.device)
        # In place, because the graph holds these very tensors: every moment starts at zero.
        self.flat.values.copy_(weights)
        for state in self.optimizer.state.values():
            for tensor in state.values():
                tensor.zero_()
        return captured

    def _steps_of(self, size: int, steps: int) -> Steps:
        if any(type(activation) is not nn.ReLU for activation in self.mlp.activations):
            return self._by_autograd
        # Images lie a multiple of 16 bytes apart, so that every batch is multiplied by the same kernels.
        inputs = self.mlp.hidden_layers[0].in_features + 1
        portion = Portion(self.flat, isinstance(self.mlp.head, nn.Softmax), self.scale, size, steps, -inputs % 4)
        images = self.images.flatten(1)

        @torch.inference_mode()
        def written_out(rows: Tensor, rates: Tensor) -> Tensor:
            portion.fill(0, images, self.labels, rows)
            return portion.train(0, steps, self.update.steps(steps, rates))

        return written_out

    def _by_autograd(self, rows: Tensor, rates: Tensor) -> Tensor:
        images, labels = scale(self.images[rows], self.scale), self.labels[rows]
        losses, update = [], self.update.steps(len(rates), rates)
        gradients = self.flat.views_of(self.flat.gradients)
        for batch, of_batch in zip(images.chunk(len(rates)), labels.chunk(len(rates)), strict=True):
            loss = cross_entropy(self.model(batch), of_batch)
            for view, gradient in zip(gradients.values(), torch.autograd.grad(loss, list(gradients)), strict=True):
                view.copy_(gradient)
            with torch.no_grad():
                update()
            losses.append(loss.detach())
        return torch.stack(losses)


class Captured:
    """A CUDA graph of some steps.

    A graph reads and writes the memory that it was captured with: whatever its steps use is allocated while it is
    captured, and so the graph's own, or kept here.
    """

    def __init__(self, work: Steps, size: int, steps: int, device: torch.device) -> None:
        self.work, self.steps = work, steps
        self.rows = torch.zeros(size * steps, dtype=torch.int64, device=device)
        self.shares = torch.ones(steps, device=device)
        # Captured work must have run before: libraries initialize themselves on first use, which a graph cannot hold.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            work(self.rows, self.shares)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.losses = work(self.rows, self.shares)

    def train(self, rows: Tensor, shares: Tensor, losses: Tensor) -> None:
        """Train on the images at `rows`, (steps * size,), with these shares of the learning rate, (steps,).

        The loss of every step is copied into `losses`, (steps,).
        """
        self.rows.copy_(rows)
        self.shares.copy_(shares)
        self.graph.replay()
        losses.copy_(self.losses)
