"""The epoch loop: order, time, losses, when to pause, and when to stop; and the clock, which stands still in pauses."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from digits_sweep.config.scaling import Sizes
from digits_sweep.config.schema import EvaluationConfig, TrainerConfig
from digits_sweep.training.device import RandomNumbers
from digits_sweep.training.engines.protocol import Engine
from digits_sweep.training.schedule import LearningRate, Schedule


def synchronize(device: torch.device) -> None:
    """Wait until everything queued on `device` is done. The CPU queues nothing."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class Stopwatch:
    """Counts, in `seconds`, the time between its starts and its stops.

    `clock` returns seconds and never goes back; tests inject their own.
    """

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.perf_counter) -> None:
        self.device, self.clock = device, clock
        self.seconds = 0.0
        self._started: float | None = None

    def start(self) -> None:
        """Let it run; nothing happens if it runs already."""
        if self._started is None:
            synchronize(self.device)
            self._started = self.clock()

    def stop(self) -> None:
        """Let it stand; nothing happens if it stands already."""
        synchronize(self.device)
        if self._started is not None:
            self.seconds += self.clock() - self._started
        self._started = None

    def reset(self) -> None:
        """Set it to 0, and let it stand."""
        self.seconds, self._started = 0.0, None

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        return self._started is not None

    @property
    def running_seconds(self) -> float:
        """The seconds since it was started, without waiting for the device; 0 while it stands."""
        return 0.0 if self._started is None else self.clock() - self._started

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let it run while the block does."""
        self.start()
        yield
        self.stop()


# Called between iterations with the iterations, the examples and the seconds that the run has trained so far; true ends
# the run there.
Pause = Callable[[int, int, float], bool]


@dataclass(frozen=True)
class Epoch:
    """An epoch: its number (from 1), the seconds it took, and (iterations,) float32 losses on the CPU.

    `examples` counts those that it trained on. If the run ended within it, it is not `complete`. With a batch that
    grows, `sizes` has the (iterations,) examples of every iteration.
    """

    number: int
    seconds: float
    losses: Tensor
    examples: int
    complete: bool = True
    sizes: list[int] | None = None

    @property
    def loss_mean(self) -> float:
        """The mean over iterations: a smaller last batch counts as one iteration, like every other."""
        return self.losses.double().mean().item()

    @property
    def loss_std(self) -> float:
        """The standard deviation over iterations (dividing by their number; 0 if there is only one)."""
        return self.losses.double().std(correction=0).item()


def epoch_order(seed: int, epoch: int, num_samples: int) -> Tensor:
    """Return the order of epoch `epoch` (from 1): a permutation of 0 .. num_samples - 1, (num_samples,) int64, CPU.

    A pure function of `seed` (0 or more) and `epoch`, so every engine, every device and every resumed run sees the
    same batches. Raises ValueError if one of them is negative.
    """
    of_order, _ = _seeds(seed, epoch)
    return torch.randperm(num_samples, generator=torch.Generator().manual_seed(of_order))


def _seeds(seed: int, epoch: int) -> tuple[int, int]:
    """Return the seeds of an epoch's order and of its random layers, such as dropout.

    SeedSequence mixes the two numbers: if they were added, seed 2 would start with the second epoch of seed 1.
    """
    of_order, of_layers = np.random.SeedSequence([seed, epoch]).generate_state(2, np.uint64)
    return int(of_order), int(of_layers)


def train(
    engine: Engine,
    trainer: TrainerConfig,
    seed: int,
    num_samples: int,
    stopwatch: Stopwatch,
    first_epoch: int = 1,
    *,
    evaluation: EvaluationConfig | None = None,
    pause: Pause | None = None,
    seconds_before: float = 0.0,
    learning_rate: LearningRate | None = None,
    of_samples: int | None = None,
    batch_sizes: Callable[[], Sizes] | None = None,
) -> Iterator[Epoch]:
    """Yield every epoch from `first_epoch` to `trainer.num_epochs` as soon as it is finished.

    Stops early after an epoch that `is_last`, with the first iteration that reaches `trainer.max_examples`, and if
    `pause` returns true: then the last epoch may be incomplete. `pause` is called before the first step of the run, and
    between iterations if `evaluation` asks for it, each time before the epoch is yielded that ends there. An epoch's
    seconds run from before its shuffle to after its last step, without its pauses; `stopwatch` counts those of the run,
    from the `seconds_before` of the epochs before `first_epoch` on. Without a `learning_rate` every step has the
    optimizer's. An epoch trains on `num_samples`, of the data set's `of_samples` if it has more: others every epoch.
    Without `batch_sizes` all batches have the engine's size; they are asked for at the start and after every pause,
    which may have changed them from there on.
    """
    schedule = Schedule(num_samples, engine.batch_size)
    if evaluation and pause:
        schedule = replace(schedule, every_examples=evaluation.every_examples, per_doubling=evaluation.per_doubling)
    stopwatch.seconds = seconds_before
    loop = _Loop(engine, seed, stopwatch, schedule, pause, learning_rate, of_samples or num_samples, batch_sizes)
    loop.look_at_sizes()
    total = trainer.num_epochs * num_samples
    total = min(total, trainer.max_examples or total)
    if first_epoch == 1 and schedule.pauses and loop.pauses_at(0):
        return
    for number in range(first_epoch, math.ceil(total / num_samples) + 1):
        epoch = loop.train(number, total)
        yield epoch
        if loop.ended or is_last(epoch.loss_mean, trainer):
            return


@dataclass
class _Loop:
    """Trains an epoch in parts, of one batch size each, and pauses between them.

    Random layers draw from a stream of random numbers. It starts anew with every epoch, so that a resumed run draws the
    same, and stands still in a pause.
    """

    engine: Engine
    seed: int
    stopwatch: Stopwatch
    schedule: Schedule
    pause: Pause | None
    learning_rate: LearningRate | None
    of_samples: int
    batch_sizes: Callable[[], Sizes] | None
    ended: bool = False

    def look_at_sizes(self) -> bool:
        """Take over the batch sizes as they are now; return whether they have changed."""
        if self.batch_sizes is None:
            return False
        (_, first), *growth = self.batch_sizes()
        before, self.schedule = self.schedule, replace(self.schedule, batch_size=first, growth=tuple(growth))
        return self.schedule != before

    def train(self, number: int, total: int) -> Epoch:
        """Train epoch `number`, at most up to example `total` of the run."""
        seconds_before, num_samples = self.stopwatch.seconds, self.schedule.num_samples
        first, random = (number - 1) * num_samples, RandomNumbers(self.stopwatch.device, _seeds(self.seed, number)[1])
        total, order, losses = min(total, first + num_samples), None, []
        start = done = self.schedule.iteration_at(first)
        stops = self._stops(done, total)
        while stops and not self.ended:
            until, pauses = stops.pop(0)
            self._resize(done, first + num_samples)
            with random.drawn_from(), self.stopwatch.running():
                if order is None:
                    order = epoch_order(self.seed, number, self.of_samples)[:num_samples]
                part = slice(*(self.schedule.examples_after(iteration) - first for iteration in (done, until)))
                rates = self.learning_rate.of_steps(self.schedule, done, until) if self.learning_rate else None
                losses.append(self.engine.train(order[part], rates))
            done = until
            if pauses and not self.pauses_at(until) and self.look_at_sizes():
                stops = self._stops(done, total)
        seconds = self.stopwatch.seconds - seconds_before
        examples = self.schedule.examples_after(done) - first
        sizes = None if self.batch_sizes is None else self.schedule.sizes(start, done)
        return Epoch(number, seconds, torch.cat(losses).cpu(), examples, examples == num_samples, sizes)

    def _stops(self, done: int, total: int) -> list[tuple[int, bool]]:
        """Return the iterations up to example `total` that end a part, and whether the run pauses there."""
        last = self.schedule.iteration_at(total)
        stops = dict.fromkeys([*self.schedule.changes(done, last), *([last] if done < last else [])], False)
        return sorted((stops | dict.fromkeys(self.schedule.between(done, last), True)).items())

    def _resize(self, done: int, end: int) -> None:
        """Let a batch that grows have its size after so many iterations; its epoch ends with example `end`."""
        if self.batch_sizes is not None:
            size, rest = self.schedule.size_after(done), end - self.schedule.examples_after(done)
            if size != self.engine.batch_size or rest == self.schedule.num_samples:
                self.engine.resize(size, rest)

    def pauses_at(self, iterations: int) -> bool:
        """Pause after so many iterations of the run, and return whether the run ends there."""
        assert self.pause is not None, "without one, the schedule has no pauses"
        self.ended = self.pause(iterations, self.schedule.examples_after(iterations), self.stopwatch.seconds)
        return self.ended


def is_last(loss_mean: float, trainer: TrainerConfig) -> bool:
    """Return whether an epoch with this mean loss ends the run: it diverged, or it passed the threshold if asked to."""
    threshold = trainer.loss_threshold
    return not math.isfinite(loss_mean) or (
        trainer.stop_at_threshold and threshold is not None and loss_mean < threshold
    )
