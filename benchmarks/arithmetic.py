"""The arithmetic floor: what one thread's divider and multipliers take for a step, whatever the program around them."""

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import nn

from digits_sweep.errors import EngineRefused
from digits_sweep.training.engines.compiler import load_library
from digits_sweep.training.model import MLP

SOURCE = Path(__file__).with_name("arithmetic.c")
# A few milliseconds each.
REPETITIONS = {"root_and_division": 3_000, "multiply_add": 500_000}
ROUNDS = 5


@dataclass(frozen=True)
class Throughput:
    """Seconds of one thread for a root with a division, and for a product that is added to a sum."""

    root_and_division: float
    multiply_add: float


@cache
def throughput() -> Throughput | None:
    """Measure this processor, the best of a few rounds; None without a C compiler."""
    try:
        library = load_library(SOURCE)
    except EngineRefused:
        return None

    def best(name: str) -> float:
        function = getattr(library, name)
        function.argtypes, function.restype = [ctypes.c_long], ctypes.c_double
        return min(float(function(REPETITIONS[name])) for _ in range(ROUNDS))

    return Throughput(best("root_and_division"), best("multiply_add"))


def products(model: MLP, share: float) -> float:
    """Return the products of one image's forward and backward pass if `share` of its pixels are not 0.

    A layer needs its products forward, for the gradient of its weights, and, but for the first one, for the gradient of
    what goes into it. Where a pixel is 0 the first layer needs none.
    """
    layers = [*model.hidden_layers, model.output]
    first, *others = (layer.weight.numel() for layer in layers if isinstance(layer, nn.Linear))
    return 2 * share * first + 3 * sum(others)


def arithmetic_seconds(model: nn.Module, images: torch.Tensor, scale: str, batch_size: int, found: Throughput) -> float:
    """Return the least seconds of an epoch over `images`, (n, ...) uint8, with Adam on one thread.

    Every parameter needs one root and one division an iteration, and the images their products; a processor does both
    at once, so the longer of the two counts. Raises TypeError for a model that is no MLP.
    """
    if type(model) is not MLP:
        raise TypeError("the products of an MLP are counted only")
    share = 1.0 if scale == "standard" else float((images > 0).float().mean())
    iterations = -(-len(images) // batch_size)
    parameters = sum(each.numel() for each in model.parameters())
    steps = iterations * parameters * found.root_and_division
    return max(steps, len(images) * products(model, share) * found.multiply_add)
