"""The networks. A new one is its code with a line in `MODELS`, and a YAML in `conf/model`."""

from collections.abc import Callable
from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from digits_sweep.config.schema import MLPConfig, ModelConfig

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
}


def build_head(name: str) -> nn.Module:
    """Build what follows a network's last layer: a softmax over the classes, or nothing (`logits`).

    Cross-entropy applies a softmax of its own. After a softmax head, with C classes, the loss starts at ln C and never
    falls below -ln(e / (e + C - 1)).
    """
    return nn.Softmax(dim=1) if name == "softmax" else nn.Identity()


class MLP(nn.Module):
    """A multilayer perceptron: Linear + activation pairs (`features`), a Linear layer (`output`) and a `head`."""

    def __init__(
        self, in_features: int, hidden_size: int, hidden_layers: int, num_classes: int, activation: str, head: str
    ) -> None:
        super().__init__()
        sizes = [in_features] + [hidden_size] * hidden_layers
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[activation]()]
        self.features = nn.Sequential(*layers)
        self.output: nn.Linear = nn.Linear(hidden_size, num_classes)
        self.head = build_head(head)

    @property
    def hidden_layers(self) -> list[nn.Linear]:
        """The Linear layers of `features`, the one next to the images first."""
        return [layer for layer in self.features if isinstance(layer, nn.Linear)]

    @property
    def activations(self) -> list[nn.Module]:
        """The activation after every hidden layer."""
        return list(self.features[1::2])

    def forward(self, images: Tensor) -> Tensor:
        """Map `images` (batch, 1, 28, 28) float32 to scores (batch, num_classes): probabilities or logits."""
        return self.head(self.output(self.features(images.flatten(1))))


def _mlp(config: MLPConfig, image_shape: tuple[int, ...]) -> nn.Module:
    return MLP(
        prod(image_shape),
        config.hidden_size,
        config.hidden_layers,
        config.num_classes,
        config.activation,
        config.head,
    )


# From the model's section of the configuration, each model with its own dataclass, and the shape of one image
# (channels, height, width). Initial weights come from PyTorch's global random numbers, which are seeded before.
ModelBuilder = Callable[[Any, tuple[int, ...]], nn.Module]

MODELS: dict[str, ModelBuilder] = {"mlp": _mlp}


def build_model(config: ModelConfig, seed: int, image_shape: tuple[int, ...] = (1, 28, 28)) -> nn.Module:
    """Build the model that `config.name` names, in float32, its initial weights a function of `seed` alone.

    It lies on PyTorch's default device, the CPU unless the caller says otherwise. Raises KeyError if `MODELS` has no
    such name.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS[config.name](config, image_shape)
