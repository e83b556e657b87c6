"""The MLP's gradient written out: no autograd graph, no allocation, few operations a step. The fast path on a CPU.

With h_0 the batch, h_k = relu(h_{k-1} W_k' + b_k), scores s = softmax(h_n W' + b) (or without the softmax), targets y
(one-hot) and B digits in the batch, cross-entropy on s has the gradient (softmax(s) - y) / B with respect to s, and
backpropagation (Rumelhart, Hinton and Williams 1986) gives the rest. All weights lie in one vector, so that one fused
kernel steps them all; the model's parameters and the optimizer's moments are views of such vectors.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from digits_sweep.data.digits import scale
from digits_sweep.learning.engines.flat_parameters import FlatParameters, fused_update
from digits_sweep.learning.engines.protocol import Workload
from digits_sweep.learning.engines.threads import sparing_threads
from digits_sweep.learning.model import MLP
from digits_sweep.learning.optimizer import build_optimizer


class ClosedFormEngine:
    """Forward, backward and step on preallocated tensors, for ReLU networks on the CPU."""

    flushes_denormals: ClassVar[bool] = True

    @staticmethod
    def refusal(workload: Workload) -> str | None:
        if workload.device.type != "cpu":
            return "it computes on the CPU only"
        if not isinstance(workload.model.features[1], nn.ReLU):
            return "it knows the gradient of model.activation=relu only"
        return None

    @staticmethod
    def threads(batch_size: int, cores: int) -> int:
        return sparing_threads(batch_size, cores)

    def __init__(self, workload: Workload) -> None:
        self.model = workload.model
        self.optimizer = build_optimizer(workload.optimizer, self.model.parameters(), fused=True)
        self.batch_size = workload.batch_size
        self.labels = workload.labels
        dtype = self.model.output.weight.dtype
        self.images = scale(workload.images, workload.scale).flatten(1).to(dtype)
        self.shuffled = torch.empty_like(self.images)
        self.scores = torch.empty(len(self.images), self.model.output.out_features, dtype=dtype)
        flat = FlatParameters(self.model)
        self.update = fused_update(self.optimizer, flat)
        sizes = {self.batch_size, len(self.images) % self.batch_size} - {0}
        self.steps = {size: Step(self.model, flat, size) for size in sizes}

    @torch.inference_mode()
    def run_epoch(self, order: Tensor) -> Tensor:
        torch.index_select(self.images, 0, order, out=self.shuffled)
        labels = self.labels[order]
        targets = self._scaled_targets(labels)
        step, update = self.steps[self.batch_size], self.update
        batches = zip(
            self.shuffled.split(self.batch_size),
            targets.split(self.batch_size),
            self.scores.split(self.batch_size),
            strict=True,
        )
        for images, target, scores in batches:
            if len(images) != step.size:
                step = self.steps[len(images)]
            step.differentiate(images, target, scores)
            update()
        losses = cross_entropy(self.scores, labels, reduction="none")
        return torch.stack([batch.mean() for batch in losses.split(self.batch_size)])

    def _scaled_targets(self, labels: Tensor) -> Tensor:
        """The one-hot labels (n, classes), each over minus the size of its batch: what the gradient adds."""
        targets = torch.zeros_like(self.scores)
        targets.scatter_(1, labels.unsqueeze(1), -1 / self.batch_size)
        if ragged := len(labels) % self.batch_size:
            targets[-ragged:] *= self.batch_size / ragged
        return targets


class Step:
    """The gradient of one batch of `size` digits, computed into the model's flat gradient through fixed buffers."""

    def __init__(self, model: MLP, flat: FlatParameters, size: int) -> None:
        layers = model.hidden_layers
        output = model.output
        like = output.weight.data
        self.size = size
        self.squashes = isinstance(model.head, nn.Softmax)
        self.ones = like.new_ones(size)
        self.logits = like.new_empty(size, output.out_features)
        self.gradient = torch.empty_like(self.logits)
        self.hidden = [like.new_empty(size, layer.out_features) for layer in layers]
        self.deltas = [*(torch.empty_like(hidden) for hidden in self.hidden), torch.empty_like(self.logits)]
        self.forward = [
            (layer.bias.data, layer.weight.data.t(), hidden) for layer, hidden in zip(layers, self.hidden, strict=True)
        ]
        self.output = (output.bias.data, output.weight.data.t())
        above: list[nn.Linear] = [*layers, output]
        self.gradients = [
            (delta.t(), flat.gradient_of[layer.weight], flat.gradient_of[layer.bias])
            for layer, delta in zip(above, self.deltas, strict=True)
        ]
        # From the output layer down: which delta goes through which weights to which hidden layer's.
        self.backward = [
            (self.deltas[k + 1], *self.gradients[k + 1], above[k + 1].weight.data, self.hidden[k], self.deltas[k])
            for k in reversed(range(len(layers)))
        ]

    def differentiate(self, images: Tensor, targets: Tensor, scores: Tensor) -> None:
        """Write the head's output for `images` (size, features) into `scores` and the mean loss's gradient into place.

        `targets` (size, classes) are the one-hot labels over minus `size`.
        """
        addmm, mm, mv = torch.addmm, torch.mm, torch.mv
        below = images
        for bias, weight, hidden in self.forward:
            addmm(bias, below, weight, out=hidden)
            below = hidden.relu_()
        self._head(below, targets, scores)
        for delta, delta_t, weight_gradient, bias_gradient, weight, hidden, delta_below in self.backward:
            mm(delta_t, hidden, out=weight_gradient)
            mv(delta_t, self.ones, out=bias_gradient)
            mm(delta, weight, out=delta_below)
            delta_below.mul_(hidden.sign_())
        delta_t, weight_gradient, bias_gradient = self.gradients[0]
        mm(delta_t, images, out=weight_gradient)
        mv(delta_t, self.ones, out=bias_gradient)

    def _head(self, below: Tensor, targets: Tensor, scores: Tensor) -> None:
        """The scores, and the gradient of the mean loss with respect to the logits, in the last of the deltas."""
        bias, weight = self.output
        if not self.squashes:
            torch.addmm(bias, below, weight, out=scores)
            torch.softmax(scores, 1, out=self.gradient)
            torch.add(targets, self.gradient, alpha=1 / self.size, out=self.deltas[-1])
            return
        torch.addmm(bias, below, weight, out=self.logits)
        torch.softmax(self.logits, 1, out=scores)
        torch.softmax(scores, 1, out=self.gradient)
        torch.add(targets, self.gradient, alpha=1 / self.size, out=self.gradient)
        torch._softmax_backward_data(self.gradient, scores, 1, scores.dtype, grad_input=self.deltas[-1])
