"""What a trained model answers on digits that it has not seen."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Evaluation:
    """`accuracy` from 0 to 1, and how often each class is the answer, a list as long as there are classes."""

    accuracy: float
    answers_per_class: list[int]

    @property
    def classes_never_predicted(self) -> int:
        """How many classes are never the answer: the plateaus where the loss stays near 1.56, 1.66, 1.76 ..."""
        return self.answers_per_class.count(0)


@torch.no_grad()
def evaluate(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int = 2_000) -> Evaluation:
    """Evaluate on `images` (n, 1, 28, 28) float32 and `labels` (n,) int64, both on the model's device."""
    scores = torch.cat([model(batch) for batch in images.split(batch_size)])
    answers = scores.argmax(dim=1).cpu()
    return Evaluation(
        accuracy=(answers == labels.cpu()).double().mean().item(),
        answers_per_class=torch.bincount(answers, minlength=scores.shape[1]).tolist(),
    )
