"""Two floors under the seconds of an epoch: torch's kernels without anything around them, and the bare arithmetic."""

import ctypes
import math
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from digits_sweep.config.schema import Config
from digits_sweep.data.digits import Digits, scale
from digits_sweep.errors import EngineRefused
from digits_sweep.training.engines.closed_form import FlatParameters, FusedUpdate
from digits_sweep.training.engines.compiler import load_library
from digits_sweep.training.model import MLP, build_model


class BareKernels:
    """The kernels that a step of an MLP with two hidden layers cannot do without, and nothing else.

    Eight matrix products (three forward, three for the weights' gradients, two for the hidden layers' gradients) and
    one fused Adam step over all parameters, on fixed tensors: no shuffle, no batch, no activation, no bias, no loss.
    """

    def __init__(self, model: MLP, images: Tensor) -> None:
        """Take `images` (batch, features) float32 as the input of every iteration."""
        self.images = images
        self.weights = [layer.weight.detach().clone() for layer in [*model.hidden_layers, model.output]]
        self.gradients = [torch.empty_like(weight) for weight in self.weights]
        self.outputs = [torch.rand(len(images), len(weight)) for weight in self.weights]
        self.deltas = [torch.empty_like(output) for output in self.outputs]
        adam = torch.optim.Adam(model.parameters(), lr=1e-4, weight_decay=5e-4)
        flat = FlatParameters(model)
        flat.gradients.normal_(std=1e-3)
        self.update = FusedUpdate(adam, flat)

    @torch.inference_mode()
    def run(self, iterations: int) -> None:
        """Run the kernels `iterations` times."""
        mm, images, update = torch.mm, self.images, self.update.steps(iterations)
        w1, w2, w3 = self.weights
        g1, g2, g3 = self.gradients
        h1, h2, out = self.outputs
        d1, d2, _ = self.deltas
        w1_t, w2_t, w3_t, out_t, h2_t, h1_t = w1.t(), w2.t(), w3.t(), out.t(), h2.t(), h1.t()
        for _ in range(iterations):
            mm(images, w1_t, out=h1)
            mm(h1, w2_t, out=h2)
            mm(h2, w3_t, out=out)
            mm(out_t, h2, out=g3)
            mm(out, w3, out=d2)
            mm(h2_t, h1, out=g2)
            mm(h2, w2, out=d1)
            mm(h1_t, images, out=g1)
            update()


def bare_kernels(config: Config, digits: Digits) -> BareKernels | None:
    """Return the kernels of a step of `config`, or None if its model is not an MLP with two hidden layers."""
    model = build_model(config.model, config.seed, digits.image_shape)
    images = scale(digits.train_images[: config.data.batch_size], config.data.scale).flatten(1)
    return BareKernels(model, images) if type(model) is MLP and len(model.hidden_layers) == 2 else None


SOURCE = Path(__file__).with_name("arithmetic.c")
# Calls of each function of the C source: a few milliseconds.
REPETITIONS = {"root_and_division": 3_000, "multiply_add": 500_000}
ROUNDS = 5


class Throughput(NamedTuple):
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
    seconds = {}
    for name, repetitions in REPETITIONS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = [ctypes.c_long], ctypes.c_double
        seconds[name] = min(float(function(repetitions)) for _ in range(ROUNDS))
    return Throughput(**seconds)


def arithmetic_seconds(config: Config, digits: Digits, rates: Throughput | None) -> float:
    """Return the least seconds of an epoch of `config` on one thread with these rates.

    Every parameter needs one root and one division an iteration, and every image its products. A processor does both at
    once, so the longer of the two counts. NaN without rates, or if the model is no MLP or the optimizer is not Adam.
    """
    model = build_model(config.model, config.seed, digits.image_shape)
    if rates is None or not isinstance(model, MLP) or not config.optimizer.name.startswith("adam"):
        return math.nan
    images = len(digits.train_images)
    iterations = math.ceil(images / config.data.batch_size)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    share = 1.0 if config.data.scale == "standard" else float((digits.train_images > 0).float().mean())
    return max(iterations * parameters * rates.root_and_division, images * products(model, share) * rates.multiply_add)


def products(model: MLP, share: float) -> float:
    """Return the products of one image's forward and backward pass if `share` of its pixels are not 0.

    A layer needs its products forward, for the gradient of its weights, and, but for the first one, for the gradient of
    what goes into it. If a pixel is 0 the first layer needs no product for it.
    """
    first, *others = (layer.weight.numel() for layer in [*model.hidden_layers, model.output])
    return 2 * share * first + 3 * sum(others)
