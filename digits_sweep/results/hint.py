"""The hint of one run: its critical batch size, guessed from the noise of its gradients, and how far to trust it.

It is the noise scale in the optimizer's own metric (`training/gradient_noise.py`), as the geometric mean over the last
doubling of the run's iterations: the noise scale grows while the loss falls, and a single reading is rough.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from digits_sweep.results.record import EvaluationRow

# They divide every coordinate of a gradient, or of its running mean, by the root of its mean square.
DIVIDE_BY_THE_ROOT = ("adam", "adamw", "rmsprop", "nadam", "radam")


@dataclass(frozen=True)
class Trust:
    """In which share of the comparisons a hint lay within a factor of 1.5, and of 2, of the critical batch size."""

    within_1_5: float
    within_2: float


# The critical batch sizes are those of full studies (`benchmarks/estimators.py`, December 1, 2026): eight settings of
# data and network with Adam, 102 runs to a goal; two with SGD, 24 runs.
IN_ITS_METRIC, PLAIN = Trust(0.42, 0.78), Trust(0.46, 0.67)


def divides_by_the_root(optimizer: Mapping[str, Any]) -> bool:
    """Return whether the optimizer of a run's configuration has a metric of its own: Adam and its kin do.

    The metric of every other one is taken for plain. One of the user's goes by the name of its class.
    """
    target = str(optimizer.get("target") or "").rpartition(":")[2].rpartition(".")[2]
    name = target if optimizer.get("name") == "own" and target else str(optimizer.get("name"))
    return name.lower() in DIVIDE_BY_THE_ROOT


def trust_in(optimizer: Mapping[str, Any]) -> Trust:
    """Return how far to trust the hint of a run with this optimizer, a section of its configuration."""
    return IN_ITS_METRIC if divides_by_the_root(optimizer) else PLAIN


def hint_of(rows: Sequence[EvaluationRow]) -> float | None:
    """Return the hint, in examples, from a run's evaluations; None if none of its last doubling has a finite reading.

    A reading before the first step says nothing of the training.
    """
    measured = [row for row in rows if row.optimizer_noise_scale is not None and row.iterations]
    last = measured[-1].iterations if measured else 0
    scales = [row.optimizer_noise_scale or 0 for row in measured if 2 * row.iterations >= last]
    logs = [math.log(scale) for scale in scales if 0 < scale < math.inf]
    return math.exp(math.fsum(logs) / len(logs)) if logs else None
