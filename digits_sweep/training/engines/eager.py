"""The engines that any network can have: the lesson's own loop, and PyTorch's steps on data in memory."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.utils.data import DataLoader, Dataset

from digits_sweep.config.schema import OptimizerConfig
from digits_sweep.data.digits import scale
from digits_sweep.errors import MismatchedTorchvision
from digits_sweep.training.device import frozen
from digits_sweep.training.engines.protocol import Workload
from digits_sweep.training.optimizers import build_optimizer, fused_kernel, unknown_step
from digits_sweep.training.schedule import ScaledRates

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
# Multiplications of a step's forward pass in all convolutions. With AVX-512 and one thread, a step of `model=cnn` takes
# 0.7 times as long without oneDNN at 0.24 million of them, 0.8 times at 1 million in 5 images, as long at 1 million in
# 20 images, and longer above.
MOST_MULTIPLICATIONS = 500_000


def are_small(model: nn.Module, images: Tensor, batch_size: int) -> bool:
    """Return whether all convolutions of `model` together are small for a batch of `images` (n, ...) float32, on a CPU.

    The model sees two images for that, in evaluation mode and without gradients. Grouped convolutions never are:
    PyTorch's own code computes them group by group. The answer depends on shapes alone, so that it is the same in every
    run and after a resume.
    """
    convolutions = [module for module in model.modules() if isinstance(module, Convolution)]
    known = all(type(each) in (nn.Conv1d, nn.Conv2d, nn.Conv3d) and each.groups == 1 for each in convolutions)
    if not convolutions or not known or images.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    counted: list[int] = []

    def count(module: Any, _: object, output: Tensor) -> None:
        counted.append(output[0].numel() * module.weight[0].numel())

    hooks = [each.register_forward_hook(count) for each in convolutions]
    try:
        with torch.no_grad(), frozen(model, images.device):
            model(images[:2])
    finally:
        for hook in hooks:
            hook.remove()
    return sum(counted) * min(batch_size, len(images)) <= MOST_MULTIPLICATIONS


@contextmanager
def without_onednn(wanted: bool) -> Iterator[None]:
    """Let PyTorch compute by its own code in the block, if that is `wanted`."""
    before = torch.backends.mkldnn.enabled
    try:
        if wanted:
            torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
        yield
    finally:
        torch.backends.mkldnn.enabled = before


# Called with the gradients, one a parameter.
Kernel = Callable[[list[Tensor]], object]


class DirectStep:
    """`optimizer.step()` as a call of the fused kernel that it ends in: the same bits.

    Call it after the gradients are computed. An optimizer that is not plain Adam, AdamW or SGD with `fused=True` on the
    CPU steps by itself, and so does any while a parameter has no gradient. The state must not be replaced meanwhile.
    `optimizer.step()` imports PyTorch's compiler besides, which takes over a second and 120 MB.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.parameters: list[Tensor] = [each for group in optimizer.param_groups for each in group["params"]]
        self.is_direct = all(
            (
                unknown_step(optimizer) is None,
                all(group.get("fused") for group in optimizer.param_groups),
                all(each.device.type == "cpu" and each.dtype == torch.float32 for each in self.parameters),
            )
        )
        self.kernel: Kernel | None = None

    def drop_gradients(self) -> None:
        """Do what `optimizer.zero_grad()` does."""
        for parameter in self.parameters:
            parameter.grad = None

    def __call__(self) -> None:
        gradients = [each.grad for each in self.parameters if each.grad is not None]
        has_all = len(gradients) == len(self.parameters)
        if not (self.is_direct and has_all):
            self.optimizer.step()
            return
        if self.kernel is None:
            self.kernel = KERNELS[type(self.optimizer)](self.optimizer, self.parameters)
        with torch.no_grad():
            self.kernel(gradients)


def _adam(optimizer: Optimizer, parameters: list[Tensor]) -> Kernel:
    """Step as Adam or, if that is what `optimizer` is, as AdamW, which differs in the kernel alone."""
    (group,) = optimizer.param_groups
    for each in parameters:
        if not optimizer.state[each]:
            zeros = (torch.zeros(()), torch.zeros_like(each), torch.zeros_like(each))
            optimizer.state[each] = dict(zip(ADAM_STATE, zeros, strict=True))
    steps, means, squares = ([optimizer.state[each][name] for each in parameters] for name in ADAM_STATE)
    kernel = fused_kernel(optimizer)

    def step(gradients: list[Tensor]) -> None:
        torch._foreach_add_(steps, 1)
        # A schedule changes the rate between two steps.
        kernel(parameters, gradients, means, squares, [], steps, lr=group["lr"])

    return step


ADAM_STATE = ("step", "exp_avg", "exp_avg_sq")


def _sgd(optimizer: Optimizer, parameters: list[Tensor]) -> Kernel:
    (group,) = optimizer.param_groups
    for each in parameters if group["momentum"] else ():
        # The buffer of a first step is zeros: see `fused_kernel`.
        if optimizer.state[each].get("momentum_buffer") is None:
            optimizer.state[each]["momentum_buffer"] = torch.zeros_like(each)
    momenta = [optimizer.state[each]["momentum_buffer"] for each in parameters] if group["momentum"] else []

    kernel = fused_kernel(optimizer)

    def step(gradients: list[Tensor]) -> None:
        kernel(parameters, gradients, momenta, lr=group["lr"])

    return step


KERNELS: dict[type[Optimizer], Callable[[Any, list[Tensor]], Kernel]] = {Adam: _adam, AdamW: _adam, SGD: _sgd}


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
    """Images one by one: a (1, height, width) float32 image and its label.

    Those of (height, width) uint8 go through torchvision's transforms as PIL images, others are scaled as tensors.
    """

    def __init__(self, images: Tensor, labels: Tensor, scale: str) -> None:
        self.scale = scale
        transforms = import_transforms()
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
