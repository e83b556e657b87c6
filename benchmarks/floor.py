"""The floor: the kernels that a step cannot do without, and nothing else.

Eight matrix products (three forward, three for the weights' gradients, two for the hidden layers' gradients) and one
fused Adam step over all parameters, on fixed tensors: no shuffle, no batch, no activation, no bias, no loss.
"""

import torch
from torch import Tensor, nn

from digits_sweep.training.engines.closed_form import FlatParameters, FusedUpdate
from digits_sweep.training.model import MLP


class BareKernels:
    """The kernels of one step of an MLP with two hidden layers, at one batch size."""

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
        mm = torch.mm
        w1, w2, w3 = self.weights
        g1, g2, g3 = self.gradients
        h1, h2, out = self.outputs
        d1, d2, _ = self.deltas
        w1_t, w2_t, w3_t, out_t, h2_t, h1_t = w1.t(), w2.t(), w3.t(), out.t(), h2.t(), h1.t()
        images, update = self.images, self.update.steps(iterations)
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


def bare_kernels(model: nn.Module, images: Tensor) -> BareKernels | None:
    """Return the kernels of a step of `model` on `images`, or None if it is not an MLP with two hidden layers."""
    if type(model) is MLP and len(model.hidden_layers) == 2:
        return BareKernels(model, images)
    return None
