"""The networks. A new one is its code with a line in `MODELS`, and a YAML in `conf/model`."""

from collections.abc import Callable
from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from digits_sweep.config.own_code import called, mistake
from digits_sweep.config.schema import CNNConfig, MLPConfig, ModelConfig, OwnModelConfig
from digits_sweep.config.text import to_text
from digits_sweep.errors import InvalidConfig

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


class CNN(nn.Module):
    """A convolutional network: convolutions, each halved in height and width, then two Linear layers and a `head`."""

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        channels: list[int],
        kernel_size: int,
        hidden_size: int,
        num_classes: int,
        activation: str,
        head: str,
    ) -> None:
        super().__init__()
        colors, height, width = image_shape
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise([colors, *channels]):
            layers += [nn.Conv2d(fan_in, fan_out, kernel_size, padding=kernel_size // 2), ACTIVATIONS[activation]()]
            layers.append(nn.MaxPool2d(2))
        left = (height >> len(channels)) * (width >> len(channels))
        self.features = nn.Sequential(*layers)
        self.hidden = nn.Sequential(nn.Linear(channels[-1] * left, hidden_size), ACTIVATIONS[activation]())
        self.output: nn.Linear = nn.Linear(hidden_size, num_classes)
        self.head = build_head(head)

    def forward(self, images: Tensor) -> Tensor:
        """Map `images` (batch, channels, height, width) float32 to scores (batch, num_classes)."""
        return self.head(self.output(self.hidden(self.features(images).flatten(1))))


def _mlp(config: MLPConfig, image_shape: tuple[int, ...]) -> nn.Module:
    return MLP(
        prod(image_shape),
        config.hidden_size,
        config.hidden_layers,
        config.num_classes,
        config.activation,
        config.head,
    )


def _cnn(config: CNNConfig, image_shape: tuple[int, ...]) -> nn.Module:
    """Raise `InvalidConfig` if there is nothing left of an image after the last convolution."""
    found = " x ".join(map(str, image_shape))
    if len(image_shape) != 3:
        raise InvalidConfig(f"model=cnn: needs images of channels x height x width, not {found}")
    channels, height, width = image_shape
    most = min(height, width).bit_length() - 1
    if len(config.channels) > most:
        right = f"must be at most {most}, because each halves images of {found}"
        raise InvalidConfig(f"model.channels={to_text(config.channels)}: {right}")
    return CNN(
        (channels, height, width),
        config.channels,
        config.kernel_size,
        config.hidden_size,
        config.num_classes,
        config.activation,
        config.head,
    )


def _linear(config: ModelConfig, image_shape: tuple[int, ...]) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(image_shape), config.num_classes), build_head(config.head))


def _own(config: OwnModelConfig, image_shape: tuple[int, ...]) -> nn.Module:
    """Raise `InvalidConfig` if it makes no network, or one without a score for every class."""
    target = str(config.target)
    offered = {"num_classes": config.num_classes, "image_shape": image_shape}
    network = called("model", target, config.arguments, **offered)
    if not isinstance(network, nn.Module):
        raise InvalidConfig(f"model.target={target}: makes {type(network).__name__}, must make a torch.nn.Module")
    try:
        with torch.no_grad():
            shape = tuple(network.eval()(torch.zeros(2, *image_shape)).shape)
    except Exception as error:
        raise mistake("model", target, f"fails on images of {' x '.join(map(str, image_shape))}", error) from error
    if shape != (2, config.num_classes):
        found, right = (" x ".join(map(str, each)) for each in (shape, (2, config.num_classes)))
        raise InvalidConfig(f"model.target={target}: gives {found} scores for 2 images, must be {right}")
    network.train()
    return network if config.head == "logits" else nn.Sequential(network, build_head(config.head))


# From the model's section of the configuration, each model with its own dataclass, and the shape of one image
# (channels, height, width). Initial weights come from PyTorch's global random numbers, which are seeded before.
ModelBuilder = Callable[[Any, tuple[int, ...]], nn.Module]

MODELS: dict[str, ModelBuilder] = {"mlp": _mlp, "cnn": _cnn, "linear": _linear, "own": _own}


def build_model(config: ModelConfig, seed: int, image_shape: tuple[int, ...] = (1, 28, 28)) -> nn.Module:
    """Build the model that `config.name` names, in float32, its initial weights a function of `seed` alone.

    It lies on PyTorch's default device, the CPU unless the caller says otherwise. Raises KeyError if `MODELS` has no
    such name, `InvalidConfig` if the model is not for images of this shape.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS[config.name](config, image_shape)
