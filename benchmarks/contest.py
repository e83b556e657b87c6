"""Engines at one batch size, an epoch each in turn, so that other load on the machine falls on all of them alike.

Every engine trains a run of its own with the epoch loop of a sweep.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from statistics import median

from benchmarks.arithmetic import arithmetic_seconds, throughput
from benchmarks.floor import BareKernels, bare_kernels
from digits_sweep.config.schema import Config, EngineConfig
from digits_sweep.data.digits import Digits, scale
from digits_sweep.errors import not_installed
from digits_sweep.training.building import BuiltEngine, build_engine, model_on_meta, workload_of
from digits_sweep.training.device import resolve_device
from digits_sweep.training.engines import ENGINES
from digits_sweep.training.engines.protocol import Workload
from digits_sweep.training.epochs import Epoch, train
from digits_sweep.training.model import MLP, build_model
from digits_sweep.training.schedule import learning_rate_of
from digits_sweep.training.stopwatch import Stopwatch

BASELINE = "lesson"
ROUNDS = 3


class Contestant:
    """One engine at one batch size, an epoch at a time, and the bare kernels with as many threads."""

    def __init__(self, config: Config, digits: Digits, built: BuiltEngine) -> None:
        self.config, self.built = config, built
        self.num_samples = len(digits.train_labels)
        self.rounds = _rounds(self.built.name, config.data.batch_size)
        self.epochs: Iterator[Epoch] = train(
            self.built.engine, config.trainer, config.seed, self.num_samples, Stopwatch(self.built.device),
            learning_rate=learning_rate_of(config.schedule, config.trainer, self.num_samples),
        )  # fmt: skip
        self.kernels, self.arithmetic = self._kernels(digits), self._arithmetic(digits)
        self.seconds: list[float] = []
        self.floor_seconds: list[float] = []

    def _kernels(self, digits: Digits) -> BareKernels | None:
        """Return the bare kernels to compare with: on the CPU only, and not for the baseline."""
        if self.built.device.type != "cpu" or self.built.name == BASELINE:
            return None
        batch = scale(digits.train_images[: self.config.data.batch_size], self.config.data.scale)
        return bare_kernels(build_model(self.config.model, self.config.seed, tuple(batch.shape[1:])), batch.flatten(1))

    def _arithmetic(self, digits: Digits) -> float:
        """Return the seconds of an epoch's arithmetic on one thread; NaN if it is not counted or cannot be measured."""
        found, model, adam = throughput(), self.built.engine.model, self.config.optimizer.name.startswith("adam")
        if found is None or not isinstance(model, MLP) or not adam or self.built.device.type != "cpu":
            return math.nan
        data = self.config.data
        return arithmetic_seconds(model, digits.train_images, data.scale, data.batch_size, found)

    def take_turn(self) -> None:
        """Train one epoch, and run one of the bare kernels right after it."""
        self.built.configure_threads()
        self.seconds.append(next(self.epochs).seconds)
        if self.kernels is not None:
            stopwatch = Stopwatch(self.built.device)
            with stopwatch.running():
                self.kernels.run(math.ceil(self.num_samples / self.config.data.batch_size))
            self.floor_seconds.append(stopwatch.seconds)

    def row(self, baseline: "Contestant") -> dict[str, object]:
        """Return this engine's line of the table. First epochs count only if there are no more than two."""
        seconds, floor = _typical(self.seconds), _typical(self.floor_seconds)
        return {
            "batch_size": self.config.data.batch_size,
            "engine": self.built.name,
            "num_threads": self.built.num_threads,
            "seconds_per_epoch": seconds,
            "times_faster_than_lesson": _typical(baseline.seconds) / seconds,
            "floor_seconds": floor,
            "multiple_of_floor": seconds / floor,
            "arithmetic_seconds": self.arithmetic,
            "multiple_of_arithmetic": seconds / self.arithmetic,
            "seconds_setup": self.built.seconds_setup,
            "epochs_measured": len(_counted(self.seconds)),
        }


def _rounds(engine: str, batch_size: int) -> int:
    """The baseline takes minutes where the others take seconds, and starts its workers in every epoch alike."""
    if engine == BASELINE:
        return 2 if batch_size >= 100 else 1
    return ROUNDS


def _counted(seconds: list[float]) -> list[float]:
    return seconds[1:] if len(seconds) > 2 else seconds


def _typical(seconds: list[float]) -> float:
    return median(_counted(seconds)) if seconds else math.nan


def _jax(config: Config, digits: Digits, workload: Workload, report: Callable[[str], None]) -> Contestant | None:
    """Return JAX as a contestant, if it is installed and computes what is asked for."""
    if find_spec("jax") is None:
        report(f"  batch size {config.data.batch_size}, jax: left out, {not_installed('jax', 'bench')}")
        return None
    # Takes a second to import.
    from benchmarks.jax_engine import JaxEngine, build_jax

    if reason := JaxEngine.refusal(workload):
        report(f"  batch size {config.data.batch_size}, jax: left out, {reason}")
        return None
    return Contestant(config, digits, build_jax(config, digits))


def contest(config: Config, digits: Digits, report: Callable[[str], None]) -> list[dict[str, object]]:
    """Let every engine that can train `config` take its turns; return a row for each, the baseline's first."""
    model, device, contestants = model_on_meta(config), resolve_device(config.device), []
    workload = workload_of(config, digits.train_images, digits.train_labels, model, device)
    batch_size = config.data.batch_size
    for name in reversed(ENGINES):
        if reason := ENGINES[name].refusal(workload):
            report(f"  batch size {batch_size}, {name}: left out, {reason}")
        else:
            own = replace(config, engine=EngineConfig(name))
            contestants.append(Contestant(own, digits, build_engine(own, digits)))
    if peer := _jax(config, digits, workload, report):
        contestants.append(peer)
    for number in range(ROUNDS):
        for each in contestants:
            if number < each.rounds:
                each.take_turn()
                report(f"  batch size {batch_size}, {each.built.name}: {each.seconds[-1]:.2f} s")
    baseline = next(each for each in contestants if each.built.name == BASELINE)
    return [each.row(baseline) for each in contestants]
