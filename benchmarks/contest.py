"""Engines at one batch size take turns, an epoch each, so that other load on the machine falls on all of them alike."""

import math
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from statistics import median

from benchmarks.floor import arithmetic_seconds, bare_kernels, throughput
from digits_sweep.config.schema import Config, EngineConfig
from digits_sweep.data.digits import Digits
from digits_sweep.errors import not_installed
from digits_sweep.training.building import BuiltEngine, build_engine, model_on_meta, workload_of
from digits_sweep.training.device import resolve_device
from digits_sweep.training.engines import ENGINES
from digits_sweep.training.epochs import Stopwatch, train
from digits_sweep.training.schedule import learning_rate_of

BASELINE = "lesson"
ROUNDS = 3


def contest(config: Config, digits: Digits) -> list[dict[str, object]]:
    """Let every engine that can train `config` take its turns; return a row for each, the baseline's first."""
    contestants = [Contestant(config, digits, built) for built in build_engines(config, digits)]
    for round_number in range(ROUNDS):
        for contestant in contestants:
            if round_number < contestant.rounds:
                contestant.take_turn()
                seconds = contestant.seconds[-1]
                print(f"  batch size {config.data.batch_size}, {contestant.built.name}: {seconds:.2f} s", flush=True)
    baseline = typical(next(each for each in contestants if each.built.name == BASELINE).seconds)
    return [each.row(baseline) for each in contestants]


def build_engines(config: Config, digits: Digits) -> Iterator[BuiltEngine]:
    """Yield the engines that can train `config` here, the slowest first and JAX last; print why the others cannot."""
    model, device, batch_size = model_on_meta(config), resolve_device(config.device), config.data.batch_size
    workload = workload_of(config, digits.train_images, digits.train_labels, model, device)
    for name in reversed(ENGINES):
        if reason := ENGINES[name].refusal(workload):
            print(f"  batch size {batch_size}, {name}: left out, {reason}")
        else:
            yield build_engine(replace(config, engine=EngineConfig(name)), digits)
    if find_spec("jax") is None:
        print(f"  batch size {batch_size}, jax: left out, {not_installed('jax', 'bench')}")
        return
    # Takes a second to import.
    from benchmarks.jax_engine import JaxEngine, build_jax

    if reason := JaxEngine.refusal(workload):
        print(f"  batch size {batch_size}, jax: left out, {reason}")
    else:
        yield build_jax(config, digits)


class Contestant:
    """An engine at one batch size: it trains a run with the epoch loop of a sweep, an epoch at a time.

    On the CPU the bare kernels run after every epoch, on as many threads. The baseline is compared with no floor.
    """

    def __init__(self, config: Config, digits: Digits, built: BuiltEngine) -> None:
        self.batch_size, self.built, self.num_samples = config.data.batch_size, built, len(digits.train_labels)
        # The lesson's loop takes minutes where others take seconds, and starts its workers in every epoch alike.
        self.rounds = ROUNDS if built.name != BASELINE else 2 if self.batch_size >= 100 else 1
        self.epochs = train(
            built.engine, config.trainer, config.seed, self.num_samples, Stopwatch(built.device),
            learning_rate=learning_rate_of(config.schedule, config.trainer, self.num_samples),
        )  # fmt: skip
        on_cpu = built.device.type == "cpu"
        self.kernels = bare_kernels(config, digits) if on_cpu and built.name != BASELINE else None
        self.arithmetic_seconds = arithmetic_seconds(config, digits, throughput()) if on_cpu else math.nan
        self.seconds: list[float] = []
        self.floor_seconds: list[float] = []

    def take_turn(self) -> None:
        """Train one epoch, and run one of the bare kernels right after it."""
        self.built.configure_threads()
        self.seconds.append(next(self.epochs).seconds)
        if self.kernels is not None:
            stopwatch = Stopwatch(self.built.device)
            with stopwatch.running():
                self.kernels.run(math.ceil(self.num_samples / self.batch_size))
            self.floor_seconds.append(stopwatch.seconds)

    def row(self, baseline_seconds: float) -> dict[str, object]:
        """Return this engine's row of the table."""
        seconds, floor = typical(self.seconds), typical(self.floor_seconds)
        return {
            "batch_size": self.batch_size,
            "engine": self.built.name,
            "num_threads": self.built.num_threads,
            "seconds_per_epoch": seconds,
            "times_faster_than_lesson": baseline_seconds / seconds,
            "floor_seconds": floor,
            "multiple_of_floor": seconds / floor,
            "arithmetic_seconds": self.arithmetic_seconds,
            "multiple_of_arithmetic": seconds / self.arithmetic_seconds,
            "seconds_setup": self.built.seconds_setup,
            "epochs_measured": len(counted(self.seconds)),
        }


def counted(seconds: list[float]) -> list[float]:
    """Leave out the first epoch, unless there are no more than two."""
    return seconds[1:] if len(seconds) > 2 else seconds


def typical(seconds: list[float]) -> float:
    """Return the median of the epochs that count; NaN if there are none."""
    return median(counted(seconds)) if seconds else math.nan
