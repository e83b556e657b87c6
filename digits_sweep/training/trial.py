"""Which engine trains a network fastest on this machine, and on how many threads: known for small ones, else tried."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from digits_sweep.config.schema import Config
from digits_sweep.data.digits import Digits
from digits_sweep.training.device import random_numbers_kept
from digits_sweep.training.engines import ENGINES, engines_for
from digits_sweep.training.engines.eager import EagerEngine
from digits_sweep.training.engines.protocol import Engine, Workload
from digits_sweep.training.model import MLP, build_model

# Up to so many weights (4 layers of 128 have 170,000) the first engine is the fastest at every batch size.
SMALL_NETWORK = 200_000
# Multiplications of a step of such a network that is over before a second thread pays: the lesson's at batch size 100
# has 12 million, most of them by pixels that are 0, which `native` leaves out.
SMALL_STEP, SMALL_DENSE_STEP = 2**24, 2**20
# Rounds in which the options take turns, so that other load on the machine falls on all alike, and seconds of a turn.
ROUNDS, TURN_SECONDS, MOST_EXAMPLES = 6, 0.025, 4_000
# An option that is later in the list must be faster by so much: what is measured again gives the same answer then.
MARGIN = 0.9


@dataclass(frozen=True)
class Option:
    """An engine on so many threads."""

    engine: str
    num_threads: int

    def __str__(self) -> str:
        return f"{self.engine} on {self.num_threads} thread{'s' if self.num_threads > 1 else ''}"


def options_for(config: Config, workload: Workload, most_threads: int) -> tuple[list[Option], str]:
    """Return what to try, the likeliest first, and in a few words why; a single option needs no trial.

    The answer for a network of the lesson's kind is the same on every machine, and so are its results: other engines
    and, but for `native`, other numbers of threads round otherwise. Raises `EngineRefused` if no engine can train it.
    """
    names, reason = engines_for(config.engine.name, workload)
    if config.num_threads != "auto":
        threads = [int(config.num_threads)]
    elif workload.device.type != "cpu" or names == ["lesson"]:
        threads = [1]
    else:
        threads = [number for number in map(partial(pow, 2), range(20)) if number < most_threads] + [most_threads]
    is_mlp, weights = type(workload.model) is MLP, sum(each.numel() for each in workload.model.parameters())
    is_small = is_mlp and weights <= SMALL_NETWORK
    if not is_mlp or is_small or workload.device.type != "cpu":
        names = names[:1]
    # Autograd's graph around the same products is slower than they are alone.
    elif len(names) > 1:
        names = [name for name in names if ENGINES[name] is not EagerEngine]
    # The other engines round otherwise on other numbers of threads: they are tried only where much is to be had.
    most = SMALL_DENSE_STEP if names == ["native"] and config.data.scale != "unit" else SMALL_STEP
    if is_small and weights * workload.batch_size <= most and config.num_threads == "auto":
        threads = threads[:1]
    return [Option(name, number) for name in names for number in threads], reason


def fastest(config: Config, digits: Digits, workload: Workload, options: Sequence[Option]) -> tuple[Option, str]:
    """Return the option that trains `config` fastest, and what was measured; the first if none can be tried."""
    best = options[0]
    # The network may be the user's, or too large for this machine: its run meets the same error, and says it.
    try:
        seconds = measured(config, digits, workload, options)
    except (Exception, SystemExit) as error:
        return best, f"the likeliest; nothing could be tried ({type(error).__name__})"
    for option in options[1:]:
        best = option if seconds[option] < MARGIN * seconds[best] else best
    tried = ", ".join(f"{option} {1e6 * seconds[option]:.3g}" for option in options)
    return best, f"the fastest tried at batch size {config.data.batch_size}, in microseconds an example: {tried}"


def measured(
    config: Config, digits: Digits, workload: Workload, options: Sequence[Option], rounds: int = ROUNDS
) -> dict[Option, float]:
    """Train some steps of `config` with every option, on the CPU, and return the seconds that an example took at best.

    Nothing of it is kept, and PyTorch's random numbers stay as they are.
    """
    size = config.data.batch_size
    count = max(1, min(len(digits.train_images), MOST_EXAMPLES) // size)
    part = replace(workload, images=digits.train_images[: count * size], labels=digits.train_labels[: count * size])
    engines: dict[str, Engine] = {}
    seconds: dict[Option, float] = {}
    with random_numbers_kept(workload.device):
        for _round in range(rounds):
            for option in options:
                torch.set_num_threads(option.num_threads)
                if option.engine not in engines:
                    model = build_model(config.model, config.seed, digits.image_shape, digits.train_images.dtype)
                    engines[option.engine] = ENGINES[option.engine](replace(part, model=model))
                engine = engines[option.engine]
                torch.set_flush_denormal(engine.flushes_denormals)
                seconds[option] = min(seconds.get(option, math.inf), seconds_per_example(engine.train, size, count))
    return seconds


def seconds_per_example(train: Callable[[Tensor], object], size: int, count: int) -> float:
    """Train a batch, then as many of `count` as fit in a turn, and return what an example of these took."""
    started = time.perf_counter()
    train(torch.arange(size))
    first = time.perf_counter() - started
    batches = max(1, min(count, int(TURN_SECONDS / max(first, 1e-9))))
    started = time.perf_counter()
    train(torch.arange(batches * size))
    return (time.perf_counter() - started) / (batches * size)
