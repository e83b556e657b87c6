"""How far a model is at frozen weights: loss, error and gradient noise on fixed digits.

Evaluating changes no weight, no optimizer state, no mode of a layer and no random number of the training.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from digits_sweep.config.schema import EvaluationConfig
from digits_sweep.data.digits import IGNORED, Digits, scale
from digits_sweep.errors import reason_of
from digits_sweep.training.device import frozen
from digits_sweep.training.engines.protocol import Engine
from digits_sweep.training.gradient_noise import GradientNoise, gradient_sums
from digits_sweep.training.losses import PLAIN, Loss, tensor_of

# Images at a time: few enough for a processor's cache; and of larger ones, few enough for its memory.
PORTION, PIXELS = 1_000, 4_000_000


@dataclass(frozen=True)
class Evaluation:
    """The mean loss, the number of labels predicted correctly, and how often each class is predicted and occurs.

    Without classes, as in a regression, there is the loss alone, and the lists are empty.
    """

    loss: float
    correct: int
    predictions_per_class: list[int]
    labels_per_class: list[int]

    @property
    def count(self) -> int:
        """The number of predictions."""
        return sum(self.predictions_per_class)

    @property
    def accuracy(self) -> float | None:
        """The share of the labels predicted correctly, 0 to 1; None without classes."""
        return self.correct / self.count if self.count else None

    @property
    def error(self) -> float | None:
        """The share of the labels predicted wrongly, 0 to 1; None without classes."""
        return (self.count - self.correct) / self.count if self.count else None

    @property
    def classes_never_predicted(self) -> int | None:
        """The classes among the labels that are never predicted; of ten, each keeps the loss about 0.1 higher."""
        pairs = zip(self.predictions_per_class, self.labels_per_class, strict=True)
        return sum(predictions == 0 < labels for predictions, labels in pairs) if self.count else None


@torch.no_grad()
def evaluate(
    model: nn.Module, images: Tensor, labels: Tensor, how: str | None = None, loss: Loss = PLAIN
) -> Evaluation:
    """Evaluate on `images` (n, channels, height, width) float32 and `labels` (n,) int64, both on the model's device.

    If `how` is given, `images` are as in `Digits`, on any device: they are scaled as it says (see `scale`) and moved a
    portion at a time, because all of a test set in float32 would take four times its memory.

    Layers that behave differently in training, such as dropout, are in evaluation mode meanwhile.
    """
    portion = max(1, min(PORTION, PIXELS // images[0].numel()))

    def outputs() -> Iterator[Tensor]:
        for some in images.split(portion):
            yield tensor_of(model(some if how is None else scale(some, how).to(labels.device)))

    with frozen(model, labels.device):
        return _compare(outputs(), labels.split(portion), loss)


@torch.no_grad()
def _compare(outputs: Iterable[Tensor], labels: Iterable[Tensor], loss: Loss) -> Evaluation:
    """Evaluate what a model gave for some images after the other, by their labels."""
    losses, count, correct = [], 0, 0
    predicted = present = torch.zeros((), dtype=torch.int64)
    for given, answers in zip(outputs, labels, strict=True):
        values = loss(given, answers, reduction="none")
        # Summed in float64, which not every device has.
        losses.append(values.cpu().double().sum().item())
        count += values.numel() - int((answers == IGNORED).sum())
        if (classes := loss.classify(given, answers)) is not None:
            predictions, right, num_classes = classes
            correct += int((predictions == right).sum())
            predicted = predicted + torch.bincount(predictions.cpu(), minlength=num_classes)
            present = present + torch.bincount(right.cpu(), minlength=num_classes)
    counts = [part.tolist() if part.dim() else [] for part in (predicted, present)]
    return Evaluation(math.fsum(losses) / max(1, count), correct, *counts)


def evaluate_by(
    engine: Engine, images: Tensor, chosen: Tensor, labels: Tensor, loss: Loss = PLAIN
) -> Evaluation | None:
    """Evaluate on `images[chosen]`, as in `Engine.outputs`; None if the engine has no faster way than its model."""
    outputs = engine.outputs(images, chosen)
    return None if outputs is None else _compare([outputs], [labels], loss)


@dataclass(frozen=True)
class Measurements:
    """A model on its evaluator's digits.

    `noise`, and that in the optimizer's metric, are None if the configuration does not ask for them, and if they cannot
    be measured: `no_noise` says why then.
    """

    train: Evaluation
    test: Evaluation
    noise: GradientNoise | None = None
    noise_in_metric: GradientNoise | None = None
    no_noise: str | None = None


@dataclass(frozen=True)
class Part:
    """Digits that models are evaluated on: `images[chosen]`, to be scaled as `how` says, and their labels."""

    images: Tensor
    chosen: Tensor
    labels: Tensor
    how: str

    @cached_property
    def scaled(self) -> Tensor:
        """The images in float32 on the labels' device: 3 kB for an image of 28 x 28."""
        return scale(self.images[self.chosen], self.how).to(self.labels.device)

    def evaluate(self, engine: Engine, loss: Loss = PLAIN) -> Evaluation:
        """Evaluate the engine's model, by the engine itself if it has a faster way."""
        fast = evaluate_by(engine, self.images, self.chosen, self.labels, loss)
        return fast or evaluate(engine.model, self.scaled, self.labels, loss=loss)


class Evaluator:
    """Measure models on fixed digits of a data set, the same for every run of a sweep."""

    def __init__(
        self, config: EvaluationConfig, digits: Digits, how: str, device: torch.device, loss: Loss = PLAIN
    ) -> None:
        """Take the digits that `config` asks for, or all if there are fewer, scaled as `how` says, to `device`."""
        train = evaluated(len(digits.train_labels), config.train_samples)
        test = evaluated(len(digits.test_labels), config.test_samples)
        self.train = Part(digits.train_images, train, digits.train_labels[train].to(device), how)
        self.test = Part(digits.test_images, test, digits.test_labels[test].to(device), how)
        self.measures_noise, self.loss, self.population = config.noise_scale, loss, len(digits.train_labels)

    def measure(self, engine: Engine, metric_at: int | None = None) -> Measurements:
        """Measure the model of `engine`, which lies on the evaluator's device.

        `metric_at` is the batch size of the steps if the optimizer has a metric of its own (see `GradientSums`).
        """
        noise = in_metric = no_noise = None
        # What can be evaluated may still have no gradient in evaluation mode.
        try:
            if self.measures_noise:
                sums = gradient_sums(engine.model, self.train.scaled, self.train.labels, loss=self.loss)
                noise, in_metric = sums.noise(), sums.noise_in_metric(metric_at)
        except Exception as error:
            no_noise = reason_of(error)
        train, test = (part.evaluate(engine, self.loss) for part in (self.train, self.test))
        noise, in_metric = (each and each.of_population(self.population) for each in (noise, in_metric))
        return Measurements(train, test, noise, in_metric, no_noise)


# Any number would do; it must never change, or two sweeps would be evaluated on other digits.
SEED_OF_THE_CHOICE = 0


def evaluated(num_samples: int, wanted: int | None) -> Tensor:
    """Choose `wanted` of `num_samples` digits: their numbers in rising order, (wanted,) int64; None chooses all.

    All of them if there are fewer. A pure function of the two: no seed of a run is in it. A choice of more holds every
    choice of fewer.
    """
    random = torch.Generator().manual_seed(SEED_OF_THE_CHOICE)
    return torch.randperm(num_samples, generator=random)[:wanted].sort().values
