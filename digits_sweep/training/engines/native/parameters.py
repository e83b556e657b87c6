"""All parameters of an MLP in one vector, each row of weights padded to whole vectors of a processor."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from digits_sweep.training.model import MLP


class PaddedParameters:
    """Move the weights and biases of `model` into one vector, `values`, that they become views of.

    A layer's block in it is (inputs + 1, width): the width is the number of outputs, and beyond the first layer the
    inputs are the number of inputs, both rounded up to a multiple of `lanes`. The last row is the bias; what is padding
    is 0 and stays 0.
    """

    def __init__(self, model: MLP, lanes: int) -> None:
        self.layers: list[nn.Linear] = [*model.hidden_layers, model.output]
        padded = [self.layers[0].in_features, *(-(-layer.out_features // lanes) * lanes for layer in self.layers)]
        self.shapes = [(inputs + 1, width) for inputs, width in pairwise(padded)]
        self.values = self.new_vector()
        for parameter, view in self.views_of(self.values).items():
            parameter.data = view.copy_(parameter.data)

    def new_vector(self) -> Tensor:
        """Return a vector of zeros with a place for every weight."""
        return torch.zeros(sum(rows * width for rows, width in self.shapes), dtype=torch.float32)

    def blocks_of(self, vector: Tensor) -> list[Tensor]:
        """Return every layer's part of `vector`, (inputs + 1, width), the one next to the images first."""
        parts = vector.split([rows * width for rows, width in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def views_of(self, vector: Tensor) -> dict[Tensor, Tensor]:
        """Return every parameter's part of `vector`, in the parameter's shape."""
        views: dict[Tensor, Tensor] = {}
        for layer, block in zip(self.layers, self.blocks_of(vector), strict=True):
            used = block[:, : layer.out_features]
            views |= {layer.weight: used[: layer.in_features].t(), layer.bias: used[-1]}
        return views
