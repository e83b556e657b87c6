"""How many seconds a step takes at several batch sizes on this machine: engines take turns, so that other load falls on
all batch sizes alike.
"""

import time
from collections.abc import Mapping

import numpy as np

from digits_sweep.config.schema import Config
from digits_sweep.data.digits import Digits
from digits_sweep.results.cost import StepCost
from digits_sweep.training.building import build_engine
from digits_sweep.training.device import random_numbers_kept, resolve_device
from digits_sweep.training.epochs import epoch_order
from digits_sweep.training.stopwatch import Stopwatch

# Seconds of a whole measurement; rounds that there are at least, and at most.
SECONDS, LEAST_ROUNDS, ROUNDS = 20.0, 3, 10


def measured_steps(configs: Mapping[int, Config], digits: Digits, seconds: float = SECONDS) -> list[StepCost]:
    """Train some steps of every configuration, in turns, and return what a step takes; `configs` are by batch size.

    Takes about so many `seconds`, or as long as three rounds if that is more. A turn is at most an epoch. Nothing that
    is trained is kept. Raises what `build_engine` raises.
    """
    count, started, taken = len(digits.train_labels), time.perf_counter(), {size: list[float]() for size in configs}
    built = {size: build_engine(config, digits) for size, config in configs.items()}
    orders = {size: epoch_order(config.seed, 1, count) for size, config in configs.items()}
    steps = dict.fromkeys(configs, 1)

    def turn(size: int) -> float:
        built[size].configure_threads()
        stopwatch = Stopwatch(built[size].device)
        with stopwatch.running():
            built[size].engine.train(orders[size][: steps[size] * size])
        return stopwatch.seconds / steps[size]

    with random_numbers_kept(resolve_device(next(iter(configs.values())).device)):
        for size in configs:
            # The first step also allocates, or compiles.
            turn(size)
            in_a_turn = int(seconds / len(configs) / (ROUNDS + 1) / max(turn(size), 1e-9))
            steps[size] = max(1, min(count // size, in_a_turn))
        rounds = 0
        while rounds < LEAST_ROUNDS or (rounds < ROUNDS and time.perf_counter() - started < seconds):
            for size in configs:
                taken[size].append(turn(size))
            rounds += 1
    rows = []
    for size, each in taken.items():
        low, middle, high = map(float, np.percentile(each, [25, 50, 75]))
        engine, threads = built[size].name, built[size].num_threads
        rows.append(StepCost(batch_size=size, seconds=middle, low=low, high=high, engine=engine, num_threads=threads))
    return rows
