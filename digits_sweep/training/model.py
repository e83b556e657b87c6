"""The networks. A new one is its code with a line in `MODELS`, and a YAML in `conf/model`."""

from collections.abc import Callable
from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from digits_sweep.config.own_code import called, mistake
from digits_sweep.config.process_state import changes_taken_back
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

    def __init__(self, config: MLPConfig, image_shape: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise([prod(image_shape)] + [config.hidden_size] * config.hidden_layers):
            layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[config.activation]()]
        self.features = nn.Sequential(*layers)
        self.output: nn.Linear = nn.Linear(config.hidden_size, config.num_classes)
        self.head = build_head(config.head)

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

    def __init__(self, config: CNNConfig, image_shape: tuple[int, ...]) -> None:
        """Raise `InvalidConfig` if there is nothing left of an image after the last convolution."""
        super().__init__()
        size, halvings = " x ".join(map(str, image_shape)), len(config.channels)
        if len(image_shape) != 3:
            raise InvalidConfig(f"model=cnn: needs images of channels x height x width, not {size}")
        colors, height, width = image_shape
        most = min(height, width).bit_length() - 1
        if halvings > most:
            right = f"must be at most {most}, because each halves images of {size}"
            raise InvalidConfig(f"model.channels={to_text(config.channels)}: {right}")
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise([colors, *config.channels]):
            layers.append(nn.Conv2d(fan_in, fan_out, config.kernel_size, padding=config.kernel_size // 2))
            layers += [ACTIVATIONS[config.activation](), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        left = config.channels[-1] * (height >> halvings) * (width >> halvings)
        self.hidden = nn.Sequential(nn.Linear(left, config.hidden_size), ACTIVATIONS[config.activation]())
        self.output: nn.Linear = nn.Linear(config.hidden_size, config.num_classes)
        self.head = build_head(config.head)

    def forward(self, images: Tensor) -> Tensor:
        """Map `images` (batch, channels, height, width) float32 to scores (batch, num_classes)."""
        return self.head(self.output(self.hidden(self.features(images).flatten(1))))


def _linear(config: ModelConfig, image_shape: tuple[int, ...]) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(image_shape), config.num_classes), build_head(config.head))


def _own(config: OwnModelConfig, image_shape: tuple[int, ...]) -> nn.Module:
    """Raise `InvalidConfig` if it makes no network, or one without a score for every class."""
    target = str(config.target)
    network = called("model", target, config.arguments, num_classes=config.num_classes, image_shape=image_shape)
    if not isinstance(network, nn.Module):
        raise InvalidConfig(f"model.target={target}: makes {type(network).__name__}, must make a torch.nn.Module")
    try:
        with changes_taken_back(f"model.target={target}"), torch.no_grad():
            shape = tuple(network.eval()(torch.zeros(2, *image_shape)).shape)
    except (Exception, SystemExit) as error:
        raise mistake("model", target, f"fails on images of {' x '.join(map(str, image_shape))}", error) from error
    if shape != (2, config.num_classes):
        scores, right = (" x ".join(map(str, sizes)) for sizes in (shape, (2, config.num_classes)))
        raise InvalidConfig(f"model.target={target}: gives {scores} scores for 2 images, must be {right}")
    network.train()
    return network if config.head == "logits" else nn.Sequential(network, build_head(config.head))


# From the model's section of the configuration, each model with its own dataclass, and the shape of one image
# (channels, height, width). Initial weights come from PyTorch's global random numbers, which are seeded before.
ModelBuilder = Callable[[Any, tuple[int, ...]], nn.Module]

MODELS: dict[str, ModelBuilder] = {"mlp": MLP, "cnn": CNN, "linear": _linear, "own": _own}


def build_model(config: ModelConfig, seed: int, image_shape: tuple[int, ...] = (1, 28, 28)) -> nn.Module:
    """Build the model that `config.name` names, in float32, its initial weights a function of `seed` alone.

    It lies on PyTorch's default device, the CPU unless the caller says otherwise. Raises KeyError if `MODELS` has no
    such name, `InvalidConfig` if the model is not for images of this shape.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS[config.name](config, image_shape)
