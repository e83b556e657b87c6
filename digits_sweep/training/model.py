"""The lesson's network: a multilayer perceptron (MLP) with a softmax, or without it."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from digits_sweep.config.schema import ModelConfig

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
}


class MLP(nn.Module):
    """Linear + activation pairs (`features`), a Linear layer (`output`) and a `head`.

    The head is a softmax, as in the lesson, or nothing (`logits`). Cross-entropy on a softmax's output squashes
    twice: with C classes the loss starts at ln C and never falls below -ln(e / (e + C - 1)).
    """

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
        self.head = nn.Softmax(dim=1) if head == "softmax" else nn.Identity()

    @property
    def hidden_layers(self) -> list[nn.Linear]:
        """The Linear layers of `features`, from the images on."""
        return [layer for layer in self.features if isinstance(layer, nn.Linear)]

    def forward(self, images: Tensor) -> Tensor:
        """Scores for `images` (batch, 1, 28, 28) float32 -> (batch, num_classes): probabilities or logits."""
        return self.head(self.output(self.features(images.view(images.shape[0], -1))))


def build_model(config: ModelConfig, seed: int, in_features: int = 28 * 28) -> MLP:
    """The model on the CPU in float32, its initial weights a function of `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MLP(
            in_features,
            config.hidden_size,
            config.hidden_layers,
            config.num_classes,
            config.activation,
            config.head,
        )
