"""The engines that train any network with autograd, a batch at a time: the lesson's own loop, and one in memory."""

import warnings
from collections.abc import Sequence
from importlib.metadata import version
from types import ModuleType

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from digits_sweep.data.digits import MEAN, STD, scale
from digits_sweep.errors import MismatchedTorchvision
from digits_sweep.training.engines.fused_steps import DirectStep
from digits_sweep.training.engines.protocol import Engine, Workload
from digits_sweep.training.schedule import ScaledRates


class EagerEngine(Engine):
    """For every batch: index, forward, backward, step. No iteration waits for the device."""

    accumulates = True

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload)
        self.rates = ScaledRates(self.optimizer)
        self.images = scale(workload.images, workload.scale).to(workload.device)
        self.labels = workload.labels.to(workload.device)
        self.loss, self.micro_batch = workload.loss, workload.micro_batch

    def train(self, order: Tensor, rates: Sequence[float] | None = None) -> Tensor:
        batches = order.to(self.images.device).split(self.batch_size)
        losses = torch.empty(len(batches), device=self.images.device)
        # Anew for every part of an epoch, because a resume replaces the optimizer's state.
        step = DirectStep(self.optimizer)
        for iteration, batch in enumerate(batches):
            if self.micro_batch is None or len(batch) <= self.micro_batch:
                loss = self.loss(self.model(self.images[batch]), self.labels[batch])
                step.drop_gradients()
                loss.backward()
            else:
                step.drop_gradients()
                loss = self._in_parts(batch, self.micro_batch)
            if rates is not None:
                self.rates.set(rates[iteration])
            step()
            losses[iteration] = loss.detach()
        return losses

    def _in_parts(self, batch: Tensor, size: int) -> Tensor:
        """Add up the gradients of a batch, so many of its examples at a time, and return its mean loss."""
        loss, labels = torch.zeros((), device=self.images.device), self.labels[batch]
        for part in batch.split(size):
            share = self.loss.part(self.model(self.images[part]), self.labels[part], labels)
            share.backward()
            loss += share.detach()
        return loss


def import_transforms() -> ModuleType:
    """Import torchvision's transforms.

    Raises `MismatchedTorchvision` if torchvision is missing or its compiled operators do not load, for example if torch
    is a CPU build and torchvision was built for another one (`operator torchvision::nms does not exist`).
    """
    try:
        from torchvision import transforms
    except ModuleNotFoundError as error:
        if error.name != "torchvision":
            raise
        raise MismatchedTorchvision("torchvision is not installed; pip install torch torchvision") from error
    except (ImportError, RuntimeError) as error:
        raise MismatchedTorchvision(
            f"torch {version('torch')} and torchvision {version('torchvision')} do not work together ({error}); "
            "install both from the same place: pip install --force-reinstall torch torchvision"
        ) from error
    return transforms


class TransformedDigits(Dataset):
    """Images one by one: a (1, height, width) float32 image, or what else a network sees, and its label.

    Those of (height, width) uint8 go through torchvision's transforms as PIL images, others are scaled as tensors.
    """

    def __init__(self, images: Tensor, labels: Tensor, scale: str) -> None:
        self.images, self.labels, self.scale = images, labels, scale
        transforms = import_transforms()
        self.transform = {
            "unit": transforms.ToTensor(),
            "standard": transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))]),
            "raw": transforms.PILToTensor(),
        }[scale]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor | int]:
        label: Tensor | int = self.labels[index]
        if self.labels.dim() == 1 and not self.labels.is_floating_point():
            label = int(label)
        if self.images.dim() != 3 or self.images.dtype is not torch.uint8:
            return scale(self.images[index : index + 1], self.scale)[0], label
        from PIL import Image

        image = Image.fromarray(self.images[index].numpy())
        return self.transform(image).float(), label


class LessonEngine(Engine):
    """For every batch: to the device, forward, loss, loss kept on the CPU, zero_grad, backward, step."""

    automatic = False
    # PyTorch's defaults.
    flushes_denormals = fused = False

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload)
        self.device, self.loss, self.num_workers = workload.device, workload.loss, workload.num_workers
        self.rates = ScaledRates(self.optimizer)
        self.dataset = TransformedDigits(workload.images, workload.labels, workload.scale)

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
            loss = self.loss(self.model(images), labels)
            losses.append(loss.item())
            self.optimizer.zero_grad()
            loss.backward()
            if rates is not None:
                self.rates.set(rates[len(losses) - 1])
            self.optimizer.step()
        return torch.tensor(losses)
