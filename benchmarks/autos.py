"""`python -m benchmarks.autos [key=value ...]`: is `auto` as fast as the best engine and number of threads?

A row for every network, batch size and scale: the best that there is, what `engine=auto num_threads=auto` takes, and
how many times as long that takes. At the end `model=cnn` beside a plain loop of PyTorch's, on PyTorch's own number of
threads. Values of a sweep's keys replace those that are measured: `model.hidden_size=128 data.batch_size=100`.
"""

import sys
from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.quiet import warn_if_busy
from digits_sweep.config.plan import plan
from digits_sweep.config.schema import Config
from digits_sweep.config.text import key_of
from digits_sweep.data.digits import Digits, scale
from digits_sweep.data.loading import make_ready
from digits_sweep.errors import DigitsSweepError
from digits_sweep.machine import usable_cores
from digits_sweep.training.building import model_on_meta, workload_of
from digits_sweep.training.device import flush_denormals_from_now_on
from digits_sweep.training.engines import engines_for
from digits_sweep.training.model import build_model
from digits_sweep.training.optimizers import build_optimizer
from digits_sweep.training.trial import (
    MOST_EXAMPLES,
    ROUNDS,
    Option,
    fastest,
    measured,
    options_for,
    seconds_per_example,
)

MLPS = (
    "device=cpu", "scaling=none", "model.hidden_size=32,128,512,1024", "model.hidden_layers=2,4",
    "data.batch_size=5,20,100,1000", "data.scale=unit,standard",
)  # fmt: skip
CNNS = ("device=cpu", "model=cnn", "optimizer=adam", "scaling=none", "data.batch_size=100,20,5")
# More than a trial has: what is compared with it must not be its own noise.
CAREFUL = 3 * ROUNDS


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure with these overrides, `sys.argv`'s if None; SystemExit has the reason if something cannot be used."""
    overrides = sys.argv[1:] if arguments is None else list(arguments)
    flush_denormals_from_now_on()
    warn_if_busy()
    try:
        for defaults, compare in ((MLPS, against_the_best), (CNNS, against_a_plain_loop)):
            typed = {key_of(each) for each in overrides}
            kept = [each for each in defaults if key_of(each) not in typed]
            own = [each for each in overrides if defaults is MLPS or not each.startswith("model")]
            configs = [run.config for run in plan(["-m", *kept, *own]).runs]
            digits, _ = make_ready(configs[0].data, print)
            table = pd.DataFrame([compare(config, digits) for config in configs])
            print(f"\n{table.to_string(index=False)}", flush=True)
            print(f"at most {table['times'].max():.2f} times, in the middle {table['times'].median():.2f} times")
    except (DigitsSweepError, OSError) as error:
        sys.exit(str(error))


def against_the_best(config: Config, digits: Digits) -> dict[str, object]:
    """Return a row: what `auto` takes for an MLP, beside the best of all engines and powers of two of threads."""
    workload = workload_of(config, digits.train_images, digits.train_labels, model_on_meta(config), torch.device("cpu"))
    options, _ = options_for(config, workload, usable_cores())
    taken = fastest(config, digits, workload, options)[0] if len(options) > 1 else options[0]
    threads = dict.fromkeys([1, *(2**power for power in range(1, 9) if 2**power <= usable_cores()), usable_cores()])
    every = [Option(name, number) for name in engines_for("auto", workload)[0] for number in threads]
    seconds = measured(config, digits, workload, every, CAREFUL)
    best = min(seconds, key=lambda option: seconds[option])
    return {
        "hidden": config.model.hidden_size, "layers": config.model.hidden_layers, "scale": config.data.scale,  # type: ignore[attr-defined]
        "batch size": config.data.batch_size, "best": str(best), "us": round(1e6 * seconds[best], 2),
        "auto": str(taken), "auto us": round(1e6 * seconds[taken], 2),
        "times": round(seconds[taken] / seconds[best], 2),
    }  # fmt: skip


def against_a_plain_loop(config: Config, digits: Digits) -> dict[str, object]:
    """Return a row: what `auto` takes for a network, beside the loop that a user of PyTorch writes."""
    workload = workload_of(config, digits.train_images, digits.train_labels, model_on_meta(config), torch.device("cpu"))
    taken, _ = fastest(config, digits, workload, options_for(config, workload, usable_cores())[0])
    size = config.data.batch_size
    count = max(1, min(len(digits.train_images), MOST_EXAMPLES) // size)
    plain, loop = float("inf"), plain_loop(config, digits, count * size)
    seconds = float("inf")
    # In turns, so that other load on the machine falls on both alike.
    for _round in range(CAREFUL):
        torch.set_num_threads(usable_cores())
        plain = min(plain, seconds_per_example(loop, size, count))
        seconds = min(seconds, measured(config, digits, workload, [taken], rounds=1)[taken])
    return {
        "batch size": size, "plain us": round(1e6 * plain, 2), "auto": str(taken), "auto us": round(1e6 * seconds, 2),
        "times": round(seconds / plain, 2),
    }  # fmt: skip


def plain_loop(config: Config, digits: Digits, count: int):  # type: ignore[no-untyped-def]
    """Return a function that trains on images by their numbers, as the tutorials of PyTorch do, from one tensor."""
    model = build_model(config.model, config.seed, digits.image_shape, digits.train_images.dtype)
    optimizer = build_optimizer(config.optimizer, model.parameters(), fused=False)
    images, labels = scale(digits.train_images[:count], config.data.scale), digits.train_labels[:count]

    def train(order: Tensor) -> None:
        for batch in order.split(config.data.batch_size):
            loss = cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return train


if __name__ == "__main__":
    main()
