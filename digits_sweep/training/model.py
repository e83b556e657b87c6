"""The networks. A new one is its code with a line in `MODELS`, and a YAML in `conf/model`."""

from collections.abc import Callable
from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from digits_sweep.config.own_code import called, changes_taken_back, errors_as_a_line
from digits_sweep.config.schema import CNNConfig, MLPConfig, ModelConfig, OwnModelConfig
from digits_sweep.config.text import to_text
from digits_sweep.data.digits import in_words
from digits_sweep.errors import InvalidConfig
from digits_sweep.training.losses import tensor_of

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


def outputs_of(config: ModelConfig) -> int:
    """Return the number of outputs of a network. Raises `InvalidConfig` if no data have decided it."""
    if config.num_classes is None:
        raise InvalidConfig("model.num_classes=null: must be a whole number; only data=own says how many there are")
    return config.num_classes


class MLP(nn.Module):
    """A multilayer perceptron: Linear + activation pairs (`features`), a Linear layer (`output`) and a `head`."""

    def __init__(self, config: MLPConfig, image_shape: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise([prod(image_shape)] + [config.hidden_size] * config.hidden_layers):
            layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[config.activation]()]
        self.features = nn.Sequential(*layers)
        self.output: nn.Linear = nn.Linear(config.hidden_size, outputs_of(config))
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
        size, halvings = in_words(image_shape), len(config.channels)
        if len(image_shape) not in (2, 3):
            raise InvalidConfig(f"model=cnn: needs images of channels x height x width, not {size}")
        self.image_shape = colors, height, width = (1, *image_shape)[-3:]
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
        self.output: nn.Linear = nn.Linear(config.hidden_size, outputs_of(config))
        self.head = build_head(config.head)

    def forward(self, images: Tensor) -> Tensor:
        """Map `images` (batch, [channels,] height, width) float32 to scores (batch, num_classes)."""
        features = self.features(images.reshape(-1, *self.image_shape))
        return self.head(self.output(self.hidden(features.flatten(1))))


def _linear(config: ModelConfig, image_shape: tuple[int, ...]) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(image_shape), outputs_of(config)), build_head(config.head))


class Scores(nn.Module):
    """What a network returns, as a tensor."""

    def forward(self, outputs: Any) -> Tensor:
        """Return the scores among `outputs`, see `tensor_of`."""
        return tensor_of(outputs)


def _own(config: OwnModelConfig, image_shape: tuple[int, ...], images: torch.dtype) -> nn.Module:
    """Raise `InvalidConfig` if it makes no network, or one that fails. Lazy layers get their shapes."""
    target = str(config.target)
    network = called("model", target, config.arguments, num_classes=config.num_classes, image_shape=image_shape)
    if not isinstance(network, nn.Module):
        raise InvalidConfig(f"model.target={target}: makes {type(network).__name__}, must make a torch.nn.Module")
    kind = "sequences" if images is torch.int64 else "images" if len(image_shape) == 3 else "inputs"
    what = f"{kind} of {in_words(image_shape)}"
    if kind == "inputs" and len(image_shape) == 2:
        what += f" without a channel, (n, 1, {image_shape[0]}, {image_shape[1]}) has one"
    taken_back = changes_taken_back(f"model.target={target}")
    # Only tokens are whole numbers for a network.
    seen_as = torch.int64 if images is torch.int64 else torch.float32
    with errors_as_a_line("model", target, f"fails on {what}"), taken_back, torch.no_grad():
        tensor_of(network.eval()(torch.zeros(2, *image_shape, dtype=seen_as)))
    network.train()
    return network if config.head == "logits" else nn.Sequential(network, Scores(), build_head(config.head))


# From the model's section of the configuration, each model with its own dataclass, and the shape of one image
# (channels, height, width). Initial weights come from PyTorch's global random numbers, which are seeded before.
MODELS: dict[str, Callable[..., nn.Module]] = {"mlp": MLP, "cnn": CNN, "linear": _linear, "own": _own}


def build_model(
    config: ModelConfig, seed: int, image_shape: tuple[int, ...] = (1, 28, 28), images: torch.dtype = torch.uint8
) -> nn.Module:
    """Build the model that `config.name` names, in float32, its initial weights a function of `seed` alone.

    `images` is the type of the images before they are scaled, int64 if they are tokens. The model lies on PyTorch's
    default device, the CPU unless the caller says otherwise. Raises KeyError if `MODELS` has no
    such name, `InvalidConfig` if the model is not for images of this shape or type.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(config, OwnModelConfig):
            return _own(config, image_shape, images)
        if images is torch.int64:
            raise InvalidConfig(f"model={config.name}: takes images, not tokens; model=own can embed them")
        return MODELS[config.name](config, image_shape)
