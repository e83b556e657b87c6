"""Small convolutions on the CPU without oneDNN, whose preparations for every call take longer than their arithmetic."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from digits_sweep.training.device import frozen

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
