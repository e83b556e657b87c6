"""Sweeps of few and of many configurations, with losses as a network's: for tests of how they are shown."""

import math
import random
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from digits_sweep.config.schema import softmax_floor
from digits_sweep.report.study import Study
from tests.studies import add_run, finished

EPOCHS = 30
GRIDS = {
    3: ((5, 20, 100), (1e-4,), (128,)),
    24: ((5, 20, 100, 500), (1e-4, 3e-4, 1e-3), (32, 128)),
    40: ((1, 5, 20, 100, 500), (3e-5, 1e-4, 3e-4, 1e-3), (32, 128)),
    300: (
        (1, 5, 20, 100, 500),
        (1e-5, 3e-5, 1e-4, 2e-4, 3e-4, 5e-4, 1e-3, 2e-3, 3e-3, 1e-2),
        (16, 32, 64, 128, 256, 512),
    ),
}  # fmt: skip


def sweep_of(folder: Path, count: int, seeds: int = 1) -> Study:
    """Record a sweep of 3, 24, 40 or 300 configurations: batch sizes, rates and widths."""
    numbers = random.Random(0)
    for place, ((size, lr, width), seed) in enumerate(product(product(*GRIDS[count]), range(seeds))):
        needed = _epochs_needed(size, lr, width) * math.exp(numbers.gauss(0, 0.08))
        losses = list(_losses(needed))
        reached = next((epoch for epoch, loss in enumerate(losses, 1) if loss < 1.6), None)
        examples = max(int(60_000 * (reached - 0.5)), size) if reached else None
        seconds = 60_000 / size * (80e-6 + width * 3e-7) + 60_000 * 6e-6 * width / 128
        add_run(
            folder, f"{place:03}_batch_size={size},lr={lr:g},width={width},seed={seed}", losses,
            seconds * math.exp(numbers.gauss(0, 0.01)), batch_size=size, lr=lr, hidden_size=width, seed=seed,
            test_answers=[100] * 9 + [100 if reached else 0], examples_to_threshold=examples,
            iterations_to_threshold=examples and -(-examples // size),
        )  # fmt: skip
    return finished(folder)


def _epochs_needed(size: int, lr: float, width: int) -> float:
    best = 4e-4 * math.sqrt(size / 5)
    return (0.35 + 0.35 * math.log(lr / best) ** 2) * (1 + size / 150) * (128 / width) ** 0.15


def _losses(needed: float) -> Iterator[float]:
    floor = softmax_floor(10)
    for epoch in range(1, EPOCHS + 1):
        yield floor + 0.84 * math.exp(-1.8 * epoch / needed) if needed < EPOCHS else 1.68 + 0.3 * math.exp(-epoch / 6)
