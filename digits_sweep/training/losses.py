"""The losses: of a network's outputs and the labels of a batch. A new one is a line in `LOSSES`, and a YAML.

Outputs are what a network makes of a batch: scores (n, classes), (n, classes, ...) or (n, ..., classes) for labels with
places, such as masks (n, height, width) or next tokens (n, t), or numbers (n, k). Whether there are classes, and so
errors, follows from the loss and its labels.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from digits_sweep.config.own_code import errors_as_a_line, imported
from digits_sweep.config.schema import CrossEntropyConfig, LossConfig, OwnLossConfig
from digits_sweep.data.digits import IGNORED
from digits_sweep.errors import InvalidConfig

# Of outputs and labels with `reduction` `mean`, `sum` or `none`, as PyTorch's own losses have it.
Criterion = Callable[..., Tensor]
# Predicted and right classes, and how many classes there are.
Classes = tuple[Tensor, Tensor, int]


@dataclass(frozen=True)
class Loss:
    """What is minimized: `mean` of a batch, and what it means for the outputs of a network.

    `is_plain` says that it is PyTorch's cross-entropy of classes (n,) and nothing else, which some engines have written
    out, `counts_labels` that its mean is over the labels that are not `IGNORED`. `classify` returns the predicted and
    the right class of everything that counts, both (m,) int64, and how many classes there are; or None if there are
    none.
    """

    criterion: Criterion
    is_plain: bool = False
    counts_labels: bool = False
    classify: Callable[[Tensor, Tensor], Classes | None] = lambda outputs, labels: None

    def __call__(self, outputs: Any, labels: Tensor, reduction: str = "mean") -> Tensor:
        """Return the mean loss of a batch, its sum, or the loss of everything that counts."""
        return self.criterion(tensor_of(outputs), labels, reduction=reduction)

    def part(self, outputs: Any, labels: Tensor, whole: Tensor) -> Tensor:
        """Return what some examples of a batch add to its mean loss; `whole` are the labels of all of it."""
        if self.counts_labels and not whole.is_floating_point():
            return self(outputs, labels, "sum") / (whole != IGNORED).sum()
        return self(outputs, labels) * (len(labels) / len(whole))


def tensor_of(outputs: Any) -> Tensor:
    """Return the scores among whatever a network returns: a tensor, an object or dictionary with `logits`, a tuple."""
    if isinstance(outputs, Tensor):
        return outputs
    for name in ("logits", "out", "scores"):
        if isinstance(outputs, Mapping) and isinstance(outputs.get(name), Tensor):
            return outputs[name]
        if isinstance(getattr(outputs, name, None), Tensor):
            return getattr(outputs, name)
    if isinstance(outputs, tuple | list) and outputs and isinstance(outputs[0], Tensor):
        return outputs[0]
    raise TypeError(f"outputs are {type(outputs).__name__}, must be a tensor, or have one that is called logits")


def build_loss(config: LossConfig, labels: Tensor, num_classes: int | None = None) -> Loss:
    """Build the loss that `config` names for training labels `labels`, as `for_loss` gives them.

    Raises `InvalidConfig` if it does not go with them, or cannot be had.
    """
    return LOSSES[config.name](config, labels, num_classes or 0)


def _classified(scores: Tensor, labels: Tensor) -> Classes:
    if labels.is_floating_point():
        labels = labels.argmax(1)
    scores, labels = in_rows(scores, labels)
    counts = labels != IGNORED
    return scores.argmax(1)[counts], labels[counts], scores.shape[1]


PLAIN = Loss(functional.cross_entropy, is_plain=True, counts_labels=True, classify=_classified)


def _cross_entropy(config: LossConfig, labels: Tensor, num_classes: int) -> Loss:
    smoothing, weights = 0.0, None
    if isinstance(config, CrossEntropyConfig):
        smoothing = config.label_smoothing
        weights = balanced(labels, num_classes) if config.class_weights else None
    if not smoothing and weights is None and labels.dim() == 1:
        return PLAIN
    return Loss(partial(_of_classes, smoothing, weights), counts_labels=True, classify=_classified)


def _of_classes(
    smoothing: float, weights: Tensor | None, scores: Tensor, labels: Tensor, reduction: str = "mean"
) -> Tensor:
    if weights is not None:
        weights = weights.to(scores.device)
    scores, labels = in_rows(scores, labels)
    keywords = {"weight": weights, "label_smoothing": smoothing}
    if weights is None or reduction != "mean":
        return functional.cross_entropy(scores, labels, reduction=reduction, **keywords)  # type: ignore[arg-type]
    # Divided by the number of labels, not by the sum of their weights: the weights of a small batch would change its
    # gradient's size, and with it what a batch size is worth.
    total = functional.cross_entropy(scores, labels, reduction="sum", **keywords)  # type: ignore[arg-type]
    return total / (labels != IGNORED).sum().clamp(min=1)


def in_rows(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return scores (m, classes) and labels (m,) of all places; scores have the classes last, or behind the examples.

    Soft labels (n, classes) stay as they are. Raises ValueError if the shapes do not belong together.
    """
    if labels.is_floating_point() or labels.dim() == 1:
        return scores, labels
    if scores.shape[:-1] == labels.shape:
        return scores.flatten(0, -2), labels.flatten()
    if scores.dim() == labels.dim() + 1 and (scores.shape[0], *scores.shape[2:]) == labels.shape:
        return scores.movedim(1, -1).flatten(0, -2), labels.flatten()
    raise ValueError(f"scores {tuple(scores.shape)} do not have the classes of labels {tuple(labels.shape)}")


def balanced(labels: Tensor, num_classes: int) -> Tensor:
    """Return the weight of every class, (classes,) float32, so that all classes that occur weigh the same together.

    The mean weight of an example is 1, as in scikit-learn's `class_weight="balanced"`. Raises `InvalidConfig` for soft
    labels.
    """
    if labels.is_floating_point():
        raise InvalidConfig("loss.class_weights=balanced: needs labels that are classes, not shares of them")
    counts = torch.bincount(labels[labels != IGNORED].flatten(), minlength=num_classes).float()
    occurring = int((counts > 0).sum())
    return torch.where(counts > 0, counts.sum() / (occurring * counts.clamp(min=1)), torch.zeros(()))


def _bce(config: LossConfig, labels: Tensor, num_classes: int) -> Loss:
    def classify(outputs: Tensor, labels: Tensor) -> Classes:
        return (_as(outputs, labels) > 0).long().flatten(), (labels > 0.5).long().flatten(), 2

    return Loss(_like_labels(functional.binary_cross_entropy_with_logits), classify=classify)


def _like_labels(criterion: Criterion) -> Criterion:
    """Return `criterion` for outputs and labels of one shape: a column (n, 1) is (n,), and nothing is broadcast."""
    return lambda outputs, labels, reduction="mean": criterion(_as(outputs, labels), labels, reduction=reduction)


def _as(outputs: Tensor, labels: Tensor) -> Tensor:
    if outputs.shape == labels.shape:
        return outputs
    if outputs.numel() == labels.numel() and len(outputs) == len(labels):
        return outputs.reshape(labels.shape)
    raise ValueError(f"outputs {tuple(outputs.shape)} do not fit labels {tuple(labels.shape)}")


def _own(config: LossConfig, labels: Tensor, num_classes: int) -> Loss:
    """A function of outputs and labels that returns their mean, or a class that makes one, such as `torch.nn`'s."""
    assert isinstance(config, OwnLossConfig)
    function = imported("loss", str(config.target))
    with errors_as_a_line("loss", str(config.target), "cannot be built"):
        of_batch: Any = (
            function(**config.arguments) if inspect.isclass(function) else partial(function, **config.arguments)
        )

    def criterion(outputs: Tensor, labels: Tensor, reduction: str = "mean") -> Tensor:
        mean = of_batch(outputs, labels)
        if not isinstance(mean, Tensor) or mean.dim():
            what = f"a tensor of {tuple(mean.shape)}" if isinstance(mean, Tensor) else type(mean).__name__
            raise TypeError(f"the loss is {what}, must be the mean over the batch, a tensor with one number")
        return {"mean": mean, "sum": mean * len(labels), "none": mean.expand(len(labels))}[reduction]

    def classify(outputs: Tensor, labels: Tensor) -> Classes | None:
        has_classes = not labels.is_floating_point() and outputs.dim() == labels.dim() + 1 and outputs.numel()
        return _classified(outputs, labels) if has_classes else None

    return Loss(criterion, classify=classify)


# From the configuration, the training labels and the number of classes.
LOSSES: dict[str, Callable[[Any, Tensor, int], Loss]] = {
    "cross_entropy": _cross_entropy,
    "mse": lambda *_: Loss(_like_labels(functional.mse_loss)),
    "bce": _bce,
    "own": _own,
}
