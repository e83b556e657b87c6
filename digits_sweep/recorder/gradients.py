"""The noise of the gradients of somebody else's loop, from two gradients at a time: of few examples, and of more.

The mean gradient over b examples has the expected square |G|^2 + tr(Sigma) / b. Two batch sizes b < B at the same
weights give both unknowns (McCandlish et al. 2018, "An Empirical Model of Large-Batch Training", appendix A.1):
|G|^2 = (B |g_B|^2 - b |g_b|^2) / (B - b) and tr(Sigma) = (|g_b|^2 - |g_B|^2) / (1/b - 1/B), each without bias, also if
the b examples are some of the B. The same holds for every coordinate, and so in any metric P that does not depend on
the two: P is that of the steps before (`training/gradient_noise.py`). One pair is rough; means over many are not.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from digits_sweep.errors import CannotRecord
from digits_sweep.training.gradient_noise import GradientNoise

# A reading is a mean over so many times the iterations of all before it: two for every doubling of the iterations.
LONGER = math.sqrt(2)
# The end of a run counts if it is this share of its iterations.
LAST_SHARE = 0.1


class TwoBatches:
    """Adds up the noise of pairs of gradients until enough iterations have passed for a reading.

    Sums stay on the gradients' device, which is waited for when a reading is taken: twice while the number of
    iterations doubles.
    """

    def __init__(self, batch_size: int, has_metric: bool) -> None:
        """Take pairs of a run with this batch size; with a metric of its own its optimizer divides by the root."""
        self.batch_size, self.has_metric = batch_size, has_metric
        self.since = 0
        # How many pairs, the sums of |G|^2 and tr(Sigma), and the same three in the metric.
        self._sums: Tensor | None = None
        # Mean squares of the gradients of a step, a tensor for every parameter, and over how many pairs.
        self._moments: list[Tensor] = []
        self._pairs = 0

    def add(self, small: Any, large: Any, few: int, many: int) -> None:
        """Add a pair: the mean gradients over `few` and over `many` examples.

        Raises `CannotRecord` if they are none, or of other parameters than before.
        """
        pairs = _pairs_of(small, large)
        if self._moments and [len(each) for each in self._moments] != [one.numel() for one, _other in pairs]:
            raise CannotRecord("gradients: of other parameters than before; must be those of the same in every call")
        plain, in_metric = [], []
        # The share of the small gradient's square in the mean square of a step on `batch_size` examples.
        share = min(1.0, max(0.0, (1 / self.batch_size - 1 / many) / (1 / few - 1 / many)))
        self._pairs += 1
        for index, (one, other) in enumerate(pairs):
            squares = torch.stack([one.square(), other.square()]).flatten(1)
            plain.append(squares.sum(1))
            if not self.has_metric:
                continue
            moment = (squares[1] + share * (squares[0] - squares[1])).nan_to_num(0, 0, 0)
            if self._pairs == 1:
                self._moments.append(moment)
                continue
            known = self._moments[index]
            in_metric.append((squares * torch.where(known > 0, known, torch.inf).rsqrt()).sum(1))
            # The weights of a mean that follows a run: the later half of the pairs has three quarters of it.
            known.lerp_(moment, 2 / (self._pairs + 1))
        parts = [_estimates(part, few, many) if part else torch.zeros(3) for part in (plain, in_metric)]
        device = parts[0].device
        new = torch.cat([part.to(device) for part in parts])
        self._sums = new if self._sums is None else self._sums.to(device) + new

    def is_over(self, iterations: int) -> bool:
        """Return whether so many iterations make a reading."""
        return self._sums is not None and iterations >= max(self.since + 1, LONGER * self.since)

    def is_worth_it(self, iterations: int) -> bool:
        """Return whether a reading at the end of a run, after so many iterations, is over enough of them."""
        return self._sums is not None and iterations - self.since >= max(1, LAST_SHARE * iterations)

    def take(self, iterations: int) -> tuple[GradientNoise, GradientNoise] | None:
        """Return the noise since the last reading, plain and in the optimizer's metric; None if no pair was a number.

        The next reading begins. Without a metric of its own the plain one serves.
        """
        count, norm, trace, count_in_metric, *metric = self._sums.tolist() if self._sums is not None else [0.0] * 6
        self._sums, self.since = None, iterations
        if not count:
            return None
        plain = GradientNoise(norm / count, trace / count)
        if not self.has_metric:
            return plain, plain
        return plain, GradientNoise(*(total / max(1, count_in_metric) for total in metric))

    def state(self) -> dict[str, Any]:
        """Return the sums as numbers; the mean squares begin anew when a run continues."""
        return {"since": self.since, "sums": None if self._sums is None else self._sums.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.since = state["since"]
        self._sums = None if state["sums"] is None else torch.tensor(state["sums"])


def _estimates(squares: Sequence[Tensor], few: int, many: int) -> Tensor:
    """Return (3,): 1, |G|^2 and tr(Sigma) from (2,) squared norms of every parameter; zeros if one is no number."""
    small, large = torch.stack([each.to(squares[0].device) for each in squares]).sum(0).unbind()
    norm = (many * large - few * small) / (many - few)
    trace = (small - large) / (1 / few - 1 / many)
    estimates = torch.stack([torch.ones_like(norm), norm, trace])
    return torch.where(estimates.isfinite().all(), estimates, torch.zeros_like(estimates))


def _pairs_of(small: Any, large: Any) -> list[tuple[Tensor, Tensor]]:
    """Return the two gradients of every parameter that has both, as float32. Raises `CannotRecord` if they differ."""
    ones, others = ([each] if isinstance(each, Tensor) else list(each) for each in (small, large))
    shapes = [[tuple(each.shape) if isinstance(each, Tensor) else None for each in part] for part in (ones, others)]
    if shapes[0] != shapes[1] or not any(shape is not None for shape in shapes[0]):
        right = "must be two tensors, or two lists of tensors, of the same shapes"
        raise CannotRecord(f"gradients: {_shown(shapes[0])} and {_shown(shapes[1])}; {right}")
    return [
        (one.detach().float(), other.detach().float())
        for one, other in zip(ones, others, strict=True)
        if one is not None and other is not None
    ]


def _shown(shapes: Iterable[Any]) -> str:
    text = ", ".join(map(str, shapes)) or "nothing"
    return text if len(text) <= 60 else f"{text[:60]}..."
