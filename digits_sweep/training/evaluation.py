"""How far a model is at frozen weights: loss, error and gradient noise on fixed digits.

Evaluating changes no weight, no optimizer state, no mode of a layer and no random number of the training.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from digits_sweep.config.schema import EvaluationConfig
from digits_sweep.data.digits import Digits, scale
from digits_sweep.errors import reason_of
from digits_sweep.training.device import frozen
from digits_sweep.training.gradient_noise import GradientNoise, gradient_noise

# Images at a time: few enough for a processor's cache; and of larger ones, few enough for its memory.
PORTION, PIXELS = 1_000, 4_000_000


@dataclass(frozen=True)
class Evaluation:
    """The mean loss, the number of images predicted correctly, and how often each class is predicted and occurs."""

    loss: float
    correct: int
    predictions_per_class: list[int]
    labels_per_class: list[int]

    @property
    def count(self) -> int:
        """The number of images."""
        return sum(self.predictions_per_class)

    @property
    def accuracy(self) -> float:
        """The share of the images predicted correctly, 0 to 1."""
        return self.correct / self.count

    @property
    def error(self) -> float:
        """The share of the images predicted wrongly, 0 to 1."""
        return (self.count - self.correct) / self.count

    @property
    def classes_never_predicted(self) -> int:
        """The classes among the labels that are never predicted; of ten, each keeps the loss about 0.1 higher."""
        pairs = zip(self.predictions_per_class, self.labels_per_class, strict=True)
        return sum(predictions == 0 < labels for predictions, labels in pairs)


@torch.no_grad()
def evaluate(model: nn.Module, images: Tensor, labels: Tensor, how: str | None = None) -> Evaluation:
    """Evaluate on `images` (n, channels, height, width) float32 and `labels` (n,) int64, both on the model's device.

    If `how` is given, `images` are as in `Digits`, on any device: they are scaled as it says (see `scale`) and moved a
    portion at a time, because all of a test set in float32 would take four times its memory.

    Layers that behave differently in training, such as dropout, are in evaluation mode meanwhile.
    """
    portion = max(1, min(PORTION, PIXELS // images[0].numel()))
    losses, correct, predicted = [], 0, torch.zeros(0, dtype=torch.int64)
    with frozen(model, labels.device):
        for some, answers in zip(images.split(portion), labels.split(portion), strict=True):
            scores = model(some if how is None else scale(some, how).to(labels.device))
            # Summed in float64, which not every device has.
            losses.append(cross_entropy(scores, answers, reduction="none").cpu().double().sum().item())
            predictions = scores.argmax(dim=1)
            correct += int((predictions == answers).sum())
            counts = torch.bincount(predictions.cpu(), minlength=scores.shape[1])
            predicted = counts + predicted if len(predicted) else counts
    present = torch.bincount(labels.cpu(), minlength=len(predicted))[: len(predicted)]
    return Evaluation(math.fsum(losses) / len(labels), correct, predicted.tolist(), present.tolist())


@dataclass(frozen=True)
class Measurements:
    """A model on its evaluator's digits.

    `noise` is None if the configuration does not ask for it, and if it cannot be measured: `no_noise` says why then.
    """

    train: Evaluation
    test: Evaluation
    noise: GradientNoise | None
    no_noise: str | None = None


class Evaluator:
    """Measure models on fixed digits of a data set, the same for every run of a sweep.

    The digits are held in float32 on the device: 3 kB for an image of 28 x 28.
    """

    def __init__(self, config: EvaluationConfig, digits: Digits, how: str, device: torch.device) -> None:
        """Take the digits that `config` asks for, scaled as `how` says (see `scale`), to `device`.

        Raises ValueError if there are fewer.
        """
        train = evaluated(len(digits.train_labels), config.train_samples)
        test = evaluated(len(digits.test_labels), config.test_samples)
        self.train = scale(digits.train_images[train], how).to(device), digits.train_labels[train].to(device)
        self.test = scale(digits.test_images[test], how).to(device), digits.test_labels[test].to(device)
        self.measures_noise = config.noise_scale

    def measure(self, model: nn.Module) -> Measurements:
        """Measure `model`, which lies on the evaluator's device."""
        noise = no_noise = None
        # What can be evaluated may still have no gradient in evaluation mode.
        try:
            noise = gradient_noise(model, *self.train) if self.measures_noise else None
        except Exception as error:
            no_noise = reason_of(error)
        return Measurements(evaluate(model, *self.train), evaluate(model, *self.test), noise, no_noise)


# Any number would do; it must never change, or two sweeps would be evaluated on other digits.
SEED_OF_THE_CHOICE = 0


def evaluated(num_samples: int, wanted: int | None) -> Tensor:
    """Choose `wanted` of `num_samples` digits: their numbers in rising order, (wanted,) int64; None chooses all.

    A pure function of the two: no seed of a run is in it. A choice of more holds every choice of fewer. Raises
    ValueError if there are fewer than `wanted`.
    """
    if wanted is not None and wanted > num_samples:
        raise ValueError(f"cannot evaluate on {wanted} of {num_samples} digits")
    random = torch.Generator().manual_seed(SEED_OF_THE_CHOICE)
    return torch.randperm(num_samples, generator=random)[:wanted].sort().values
