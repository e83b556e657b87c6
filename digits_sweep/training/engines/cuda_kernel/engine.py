"""A whole epoch in one CUDA kernel, with the weights on the chip: the fastest on a GPU, at small batch sizes.

`epoch.cu` has the formula, and how the blocks of the kernel work together. Here is what they are given.
"""

from collections.abc import Sequence
from ctypes import Structure, c_float, c_int, c_void_p
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from digits_sweep.config.schema import AdamConfig, OptimizerConfig
from digits_sweep.data.digits import scale
from digits_sweep.errors import EngineRefused
from digits_sweep.training.engines.cuda_kernel.layout import Layout
from digits_sweep.training.engines.cuda_kernel.runtime import Kernel, compiled, load_compiler, load_driver
from digits_sweep.training.engines.protocol import Workload
from digits_sweep.training.model import MLP
from digits_sweep.training.optimizers.optimizer import build_optimizer, steps_plainly

SOURCE = Path(__file__).parent / "epoch.cu"
# Images converted at a time.
PORTION = 5_000


class Layer(Structure):
    """`Layer` in epoch.cu."""

    _fields_ = [
        (name, c_void_p) for name in ("weight", "bias", "weight_mean", "bias_mean", "weight_square", "bias_square")
    ]


class Task(Structure):
    """`Task` in epoch.cu."""

    _fields_ = [
        ("layers", Layer * 3),
        *((name, c_void_p) for name in ("images", "labels", "order", "rates", "losses", "sent")),
        ("count", c_int),
        *((name, c_float) for name in ("decay", "one_minus_beta1", "beta2", "one_minus_beta2")),
    ]


class CudaKernelEngine:
    """Forward, backward and step of two hidden layers in one kernel for as many steps as there are."""

    automatic: ClassVar[bool] = True
    flushes_denormals: ClassVar[bool] = True
    follows_schedules: ClassVar[bool] = True
    reads_floats: ClassVar[bool] = True

    @staticmethod
    def refusal(model: nn.Module, optimizer: OptimizerConfig, device: torch.device, batch_size: int = 1) -> str | None:
        if device.type != "cuda":
            return "it needs an NVIDIA GPU"
        # Exact types: a subclass may compute something else.
        if type(model) is not MLP:
            return "it knows the gradient of model=mlp only"
        if len(model.hidden_layers) != 2:
            return "it knows the gradient of model.hidden_layers=2 only"
        if any(type(activation) is not nn.ReLU for activation in model.activations):
            return "it knows the gradient of model.activation=relu only"
        if not isinstance(optimizer, AdamConfig) or not steps_plainly(optimizer):
            return f"it knows the plain steps of Adam and AdamW only, not optimizer={optimizer.name}"
        if model.output.weight.dtype is not torch.float32:
            return "it computes in float32 only"
        try:
            load_compiler(), load_driver()
            return Layout.of(model, batch_size, device).refusal()
        except EngineRefused as refused:
            return str(refused)

    def __init__(self, workload: Workload) -> None:
        model, device = workload.model.to(workload.device), workload.device
        assert isinstance(model, MLP), "every other model is refused"
        self.model: nn.Module = model
        self.batch_size = workload.batch_size
        self.optimizer = build_optimizer(workload.optimizer, model.parameters(), fused=True)
        self.steps_done = torch.zeros(())
        self.layout = layout = Layout.of(model, self.batch_size, device)
        code = compiled(SOURCE, layout.capability, layout.options)
        self.kernel = Kernel(code, "train", layout.shared_bytes, device)
        self.images = _rows(workload, layout)
        self.labels = workload.labels.to(device)
        self.sent = torch.zeros(2, self.batch_size, layout.wide, dtype=torch.int64, device=device)
        self.task = Task(images=self.images.data_ptr(), sent=self.sent.data_ptr())
        self._lay_out_layers(model)

    def train(self, order: Tensor, rates: Sequence[float] | None = None) -> Tensor:
        if len(order) and not 0 <= int(order.min()) <= int(order.max()) < len(self.images):
            raise IndexError(f"order must be from 0 to {len(self.images) - 1}")
        task, device, steps = self.task, self.images.device, -(-len(order) // self.batch_size)
        order = order.to(device).contiguous()
        labels, losses = self.labels[order], torch.empty(steps, device=device)
        of_steps = torch.from_numpy(self._rates(steps, rates)).to(device)
        task.order, task.labels, task.count = order.data_ptr(), labels.data_ptr(), len(order)
        task.rates, task.losses = of_steps.data_ptr(), losses.data_ptr()
        if not steps:
            return losses
        # Numbers of earlier steps must not be taken for those of these.
        self.sent.zero_()
        self.kernel(self.layout.blocks, self.layout.threads, task)
        self.steps_done += steps
        return losses

    def _rates(self, steps: int, shares: Sequence[float] | None) -> Any:
        """Return what a step's weight - mean / (root * a + b) needs, (steps, 4) float32: a, b, and the decay of AdamW.

        With rate r, Adam's step is r mean / c1 / (root / sqrt(c2) + epsilon), c1 and c2 the moments' corrections
        (Kingma and Ba 2015, algorithm 1).
        """
        (group,) = self.optimizer.param_groups
        (beta1, beta2), decoupled = group["betas"], type(self.optimizer) is AdamW
        number = float(self.steps_done) + np.arange(1, steps + 1)
        rate = group["lr"] * (np.ones(steps) if shares is None else np.asarray(shares, np.float64))
        task = self.task
        task.decay = 0.0 if decoupled else group["weight_decay"]
        task.one_minus_beta1, task.beta2, task.one_minus_beta2 = 1 - beta1, beta2, 1 - beta2
        size = rate / (1 - beta1**number)
        found = np.zeros((steps, 4), np.float32)
        found[:, 0] = 1 / (size * np.sqrt(1 - beta2**number))
        found[:, 1] = group["eps"] / size
        found[:, 2] = 1 - rate * group["weight_decay"] * decoupled
        return found

    def _lay_out_layers(self, model: MLP) -> None:
        """Let the kernel read and write the model's weights and the optimizer's state."""
        for place, layer in zip(self.task.layers, [*model.hidden_layers, model.output], strict=True):
            for name, parameter in (("weight", layer.weight), ("bias", layer.bias)):
                mean, square = torch.zeros_like(parameter), torch.zeros_like(parameter)
                self.optimizer.state[parameter] = {"step": self.steps_done, "exp_avg": mean, "exp_avg_sq": square}
                for suffix, tensor in (("", parameter), ("_mean", mean), ("_square", square)):
                    setattr(place, name + suffix, tensor.data_ptr())


def _rows(workload: Workload, layout: Layout) -> Tensor:
    """Return the images as the kernel reads them: a row is an image, a 1 for the bias, and zeros.

    A portion is converted at a time: all images are four times as large in float32.
    """
    rows = torch.zeros(len(workload.images), layout.row, device=workload.device)
    for images, of_images in zip(workload.images.split(PORTION), rows.split(PORTION), strict=True):
        of_images[:, : layout.pixels] = scale(images, workload.scale).flatten(1).to(workload.device)
    rows[:, layout.pixels] = 1
    return rows
