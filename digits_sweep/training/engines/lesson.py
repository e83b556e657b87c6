"""The lesson's own loop, kept as it was taught: the baseline of every comparison.

Worker processes turn every image into a PIL image and transform it on its own, a DataLoader stacks them, autograd
differentiates, and the optimizer's step is the one that PyTorch picks by default. Only the order of the images is given
from outside, so that the losses can be compared with those of every other engine. The workers start anew for every part
of an epoch, so that with `evaluation=fine` its seconds hold several such starts.
"""

import warnings
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from digits_sweep.config.schema import OptimizerConfig
from digits_sweep.data.digits import scale
from digits_sweep.data.torchvision_import import import_torchvision
from digits_sweep.training.engines.protocol import Workload
from digits_sweep.training.optimizers.learning_rate import ScaledRates
from digits_sweep.training.optimizers.optimizer import build_optimizer


class TransformedDigits(Dataset):
    """Images one by one: a (1, height, width) float32 image and its label.

    Those of (height, width) uint8 go through torchvision's transforms as PIL images, others are scaled as tensors.
    """

    def __init__(self, images: Tensor, labels: Tensor, scale: str) -> None:
        self.scale = scale
        transforms = import_torchvision("torchvision.transforms")
        self.transform = {
            "unit": transforms.ToTensor(),
            "standard": transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]),
            "raw": transforms.PILToTensor(),
        }[scale]
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        label = int(self.labels[index])
        if self.images.dim() != 3 or self.images.dtype is not torch.uint8:
            return scale(self.images[index : index + 1], self.scale)[0], label
        from PIL import Image

        image = Image.fromarray(self.images[index].numpy())
        return self.transform(image).float(), label


class LessonEngine:
    """For every batch: to the device, forward, loss, loss kept on the CPU, zero_grad, backward, step."""

    automatic: ClassVar[bool] = False
    flushes_denormals: ClassVar[bool] = False  # PyTorch's default
    follows_schedules: ClassVar[bool] = True
    reads_floats: ClassVar[bool] = True

    @staticmethod
    def refusal(model: nn.Module, optimizer: OptimizerConfig, device: torch.device, batch_size: int = 1) -> str | None:
        return None

    def __init__(self, workload: Workload) -> None:
        self.device = workload.device
        self.model = workload.model.to(workload.device)
        self.optimizer = build_optimizer(workload.optimizer, self.model.parameters(), fused=False)
        self.rates = ScaledRates(self.optimizer)
        self.dataset = TransformedDigits(workload.images, workload.labels, workload.scale)
        self.batch_size = workload.batch_size
        self.num_workers = workload.num_workers

    def train(self, order: Tensor, rates: Sequence[float] | None = None) -> Tensor:
        with warnings.catch_warnings():
            # The lesson's four workers are intended, on two cores too.
            warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
            loader = DataLoader(
                self.dataset,
                batch_size=self.batch_size,
                sampler=order.tolist(),
                num_workers=self.num_workers,
                # It draws a seed for its workers: not from the random numbers that the model may draw from.
                generator=torch.Generator(),
            )
            batches = iter(loader)
        losses = []
        for images, labels in batches:
            images, labels = images.to(self.device), labels.to(self.device)
            loss = cross_entropy(self.model(images), labels)
            losses.append(loss.item())
            self.optimizer.zero_grad()
            loss.backward()
            if rates is not None:
                self.rates.set(rates[len(losses) - 1])
            self.optimizer.step()
        return torch.tensor(losses)
