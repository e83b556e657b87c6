"""The order of an epoch, the epoch loop and its pauses, with engines that compute nothing and a clock moved by hand."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import accumulate, chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from digits_sweep.config.schema import EvaluationConfig, ScheduleConfig, TrainerConfig
from digits_sweep.data.digits import scale
from digits_sweep.training.engines import ENGINES
from digits_sweep.training.epochs import Epoch, Stopwatch, epoch_order, train
from digits_sweep.training.evaluation import evaluate
from digits_sweep.training.schedule import LearningRate, Schedule
from tests.workloads import settings, workload

CPU = torch.device("cpu")
SEEDS, EPOCHS = st.integers(0, 2**63 - 1), st.integers(1, 1_000)
# From 20 samples on, two orders drawn independently are the same once in 2e18.
ENOUGH = st.integers(20, 300)


# The order of an epoch


@given(seed=SEEDS, epoch=EPOCHS, num_samples=st.integers(0, 300), drawn_before=st.integers(0, 9))
def test_an_epoch_sees_every_sample_once_in_an_order_that_is_the_same_whatever_was_drawn_before(
    seed, epoch, num_samples, drawn_before
):
    order = epoch_order(seed, epoch, num_samples)
    assert (order.dtype, order.device.type) == (torch.int64, "cpu")
    assert torch.equal(order.sort().values, torch.arange(num_samples))
    torch.rand(drawn_before)
    for earlier in range(1, 1 + drawn_before):
        epoch_order(seed, earlier, num_samples)
    assert torch.equal(epoch_order(seed, epoch, num_samples), order)


@given(seed=SEEDS, other=SEEDS, epoch=EPOCHS, num_samples=ENOUGH)
def test_every_seed_and_every_epoch_has_its_own_order(seed, other, epoch, num_samples):
    """Neighbors above all: if the two numbers were added, seed 2 would start with the second epoch of seed 1."""
    several = {(seed, epoch), (seed, epoch + 1), (seed + 1, epoch), (other, epoch)}
    assert len({tuple(epoch_order(*each, num_samples).tolist()) for each in several}) == len(several)


def test_the_first_epoch_of_seed_42_is_the_same_in_every_version():
    assert epoch_order(42, 1, 10).tolist() == [1, 3, 6, 5, 7, 9, 0, 2, 4, 8]


# The epoch loop

SAMPLES, BATCH = 25, 4
# 4, 4, 4, 4, 4, 4 and 1 examples.
PER_EPOCH = 7


class Clock:
    """A clock that advances by one second whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


class Counting:
    """An engine whose loss is a function of the number of the iteration; it keeps the parts and rates that it gets."""

    batch_size = BATCH

    def __init__(self, loss_of: Callable[[int], float] = float) -> None:
        self.loss_of, self.parts, self.rates, self.iterations = loss_of, [], [], 0

    def train(self, order: Tensor, rates: list[float] | None) -> Tensor:
        self.parts.append(order.tolist())
        self.rates.append(rates)
        before, self.iterations = self.iterations, self.iterations - -len(order) // BATCH
        return torch.tensor([self.loss_of(number) for number in range(before, self.iterations)])


class Pauses:
    """A callback that keeps what it is called with, and ends the run at `last`."""

    def __init__(self, last: int | None = None) -> None:
        self.last, self.calls = last, []

    def __call__(self, iterations: int, examples: int, seconds: float) -> bool:
        self.calls.append((iterations, examples, seconds))
        return iterations == self.last

    @property
    def points(self) -> list[tuple[int, int]]:
        return [(iterations, examples) for iterations, examples, _ in self.calls]


def evaluated(every_examples: int | None = 10, per_doubling: float | None = None) -> EvaluationConfig:
    return replace(settings("evaluation=fine").evaluation, every_examples=every_examples, per_doubling=per_doubling)


def trainer(num_epochs: int = 2, max_examples: int | None = None, stop_at_threshold: bool = False) -> TrainerConfig:
    return TrainerConfig(num_epochs, 1.6, stop_at_threshold, max_examples)


def loop(pause=None, evaluation=None, config=None, engine=None, clock=None, **options) -> Iterator[Epoch]:
    stopwatch, evaluation = Stopwatch(CPU, clock or Clock()), evaluation or evaluated()
    start = partial(train, engine or Counting(), config or trainer(), 0, SAMPLES, stopwatch)
    return start(evaluation=evaluation, pause=pause, **options)


def run(*arguments, **options) -> list[Epoch]:
    return list(loop(*arguments, **options))


def test_an_epoch_is_timed_from_one_tick_to_the_next_and_what_happens_between_epochs_is_not():
    clock = Clock()
    epochs = loop(clock=clock)
    first = next(epochs)
    clock.now += 100
    assert [(epoch.seconds, epoch.examples, epoch.complete) for epoch in (first, *epochs)] == [(1.0, 25, True)] * 2


def test_a_stopwatch_counts_while_it_runs_and_stands_still_in_a_pause():
    stopwatch = Stopwatch(CPU, Clock())
    stopwatch.stop()
    assert stopwatch.seconds == 0
    stopwatch.start()
    stopwatch.stop()
    stopwatch.clock.now += 100
    with stopwatch.running():
        stopwatch.clock.now += 2
    stopwatch.stop()
    assert stopwatch.seconds == 1 + 3


def test_mean_and_deviation_weigh_every_iteration_alike():
    epoch = Epoch(1, 1.0, torch.tensor([1.0, 2.0, 6.0]), examples=3)
    assert (epoch.loss_mean, epoch.loss_std) == (3.0, pytest.approx(math.sqrt(14 / 3)))
    assert Epoch(1, 1.0, torch.tensor([2.0]), examples=1).loss_std == 0.0


@pytest.mark.parametrize(("stop_at_threshold", "epochs"), [(False, 3), (True, 2)])
def test_training_stops_below_the_threshold_only_if_asked_to(stop_at_threshold, epochs):
    assert torch.tensor(1.6).double() > 1.6, "in float32, 1.6 is not below the threshold"
    falling = Counting(lambda number: 1.6 - 0.1 * (number // PER_EPOCH))
    assert len(run(config=trainer(3, stop_at_threshold=stop_at_threshold), engine=falling)) == epochs


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_training_stops_after_an_epoch_that_diverged(loss):
    epochs = run(config=trainer(3), engine=Counting(lambda number: loss if number == 9 else 1.7))
    assert [math.isfinite(epoch.loss_mean) for epoch in epochs] == [True, False]


# Its pauses: when it calls, with what, and how they end a run


def test_it_pauses_before_the_first_step_and_at_or_after_every_multiple():
    pauses = Pauses()
    run(pauses)
    assert pauses.points == [(0, 0), (3, 12), (5, 20), (9, 33), (11, 41), (14, 50)]


def test_the_parts_of_an_epoch_are_its_order():
    engine = Counting()
    epochs = run(Pauses(), engine=engine)
    assert [len(part) for part in engine.parts] == [12, 8, 5, 8, 8, 9]
    assert [*chain(*engine.parts[:3])] == epoch_order(0, 1, SAMPLES).tolist()
    assert [*chain(*engine.parts[3:])] == epoch_order(0, 2, SAMPLES).tolist()
    assert [epoch.losses.tolist() for epoch in epochs] == [list(range(7)), list(range(7, 14))]
    assert [(epoch.number, epoch.examples, epoch.complete) for epoch in epochs] == [(1, 25, True), (2, 25, True)]


def test_without_evaluations_an_epoch_is_one_part_and_nothing_is_called():
    engine, pauses = Counting(), Pauses()
    run(pauses, evaluation=evaluated(None), engine=engine)
    assert [len(part) for part in engine.parts] == [25, 25]
    assert pauses.calls == []


def test_an_epochs_seconds_are_the_sum_of_its_parts_and_a_pause_gets_those_of_the_run_so_far():
    clock, calls = Clock(), []

    def pause(iterations: int, examples: int, seconds: float) -> bool:
        clock.now += 1_000
        calls.append(seconds)
        return False

    epochs = run(pause, clock=clock, seconds_before=0.5)
    assert [epoch.seconds for epoch in epochs] == [3.0, 3.0]
    # A part takes one second, from one tick of the clock to the next.
    assert calls == [0.5, 1.5, 2.5, 4.5, 5.5, 6.5]


def test_an_epoch_that_ends_with_a_pause_is_yielded_after_it():
    pauses = Pauses()
    next(loop(pauses, evaluated(25)))
    assert pauses.points == [(0, 0), (7, 25)]


RATE = LearningRate(ScheduleConfig(decay="cosine"), 100)


def test_a_resumed_run_has_the_orders_the_pauses_and_the_rates_of_the_whole_run():
    (whole, pauses), (resumed, later) = ((Counting(), Pauses()) for _ in range(2))
    run(pauses, evaluated(10, 6.0), trainer(4), whole, learning_rate=RATE)
    epochs = run(later, evaluated(10, 6.0), trainer(4), resumed, learning_rate=RATE, first_epoch=3)
    assert [epoch.number for epoch in epochs] == [3, 4]
    assert later.points == [point for point in pauses.points if point[0] > 2 * PER_EPOCH]
    assert 0 < len(later.points) < len(pauses.points)
    assert (resumed.parts, resumed.rates) == tuple(each[-len(resumed.parts) :] for each in (whole.parts, whole.rates))


def test_an_engine_gets_rates_only_if_they_change():
    constant, scheduled = Counting(), Counting()
    run(engine=constant)
    run(engine=scheduled, learning_rate=RATE)
    assert constant.rates == [None, None]
    assert scheduled.rates == [RATE.of_steps(Schedule(SAMPLES, 4), start, start + 7) for start in (0, 7)]


@pytest.mark.parametrize(
    ("last", "every", "numbers", "last_epoch"),
    [
        (9, 10, [1, 2], (8, False)),  # in the middle of an epoch
        (7, 25, [1], (25, True)),  # at the end of one
        (0, 10, [], None),  # before the first step
    ],
)
def test_a_pause_that_returns_true_ends_the_run_there(last, every, numbers, last_epoch):
    engine, pauses = Counting(), Pauses(last)
    epochs = run(pauses, evaluated(every), engine=engine)
    assert [epoch.number for epoch in epochs] == numbers
    assert (engine.iterations, pauses.calls[-1][0]) == (last, last)
    assert [*chain(*(epoch.losses.tolist() for epoch in epochs))] == list(range(last))
    assert [(epoch.examples, epoch.complete) for epoch in epochs[-1:]] == [last_epoch][: len(numbers)]


@given(max_examples=st.integers(1, 60))
def test_a_run_ends_with_the_iteration_that_reaches_the_most_examples(max_examples):
    engine = Counting()
    epochs = run(config=trainer(2, max_examples), engine=engine)
    examples = [0, *accumulate([4, 4, 4, 4, 4, 4, 1] * 2)]
    expected = next((number for number, each in enumerate(examples) if each >= max_examples), 14)
    assert engine.iterations == expected
    assert sum(epoch.examples for epoch in epochs) == examples[expected]
    assert [epoch.complete for epoch in epochs] == [True] * (expected // 7) + [False] * (expected % 7 > 0)


def test_a_run_pauses_up_to_its_last_iteration_and_trains_nothing_if_it_is_resumed_after_that():
    pauses = Pauses()
    run(pauses, config=trainer(4, max_examples=31))
    assert [iterations for iterations, _ in pauses.points] == [0, 3, 5, 9]
    assert run(Pauses(), config=trainer(4, max_examples=25), first_epoch=2) == []


# What a pause changes: nothing


def trained(name: str, pause=None, first_epoch: int = 1, engine=None, num_epochs: int = 3):
    """The losses of an engine with a network that draws random numbers, and the engine."""
    engine = engine or ENGINES[name](workload(model=dropping_out()))
    evaluation = evaluated(50) if pause else None
    epochs = train(engine, trainer(num_epochs), 0, 203, Stopwatch(CPU), first_epoch, evaluation=evaluation, pause=pause)
    return torch.cat([epoch.losses for epoch in epochs]), engine


def dropping_out() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 10))


def same_weights(one, other) -> bool:
    return all(map(torch.equal, one.model.state_dict().values(), other.model.state_dict().values()))


@pytest.mark.parametrize("name", ["eager", "lesson"])
def test_random_layers_draw_the_same_with_and_without_evaluations(name):
    given, engine = workload(), ENGINES[name](workload(model=dropping_out()))

    def evaluating(*_: float) -> bool:
        torch.rand(3)
        return evaluate(engine.model, scale(given.images, "unit"), given.labels).loss < 0

    expected, undisturbed = trained(name)
    losses, _ = trained(name, evaluating, engine=engine)
    assert torch.equal(losses, expected)
    assert same_weights(engine, undisturbed)


def test_random_layers_draw_the_same_in_a_run_that_is_resumed():
    expected, undisturbed = trained("eager")
    first, engine = trained("eager", num_epochs=1)
    torch.rand(100)
    rest, _ = trained("eager", first_epoch=2, engine=engine)
    assert torch.equal(torch.cat([first, rest]), expected)
    assert same_weights(engine, undisturbed)


def test_random_layers_draw_other_numbers_in_every_epoch_and_with_every_seed():
    def draws(seed: int) -> list[float]:
        drawing = Counting(lambda number: torch.rand(()).item())
        return [epoch.losses[0].item() for epoch in train(drawing, trainer(3), seed, SAMPLES, Stopwatch(CPU))]

    assert len({*draws(0), *draws(1)}) == 6
    assert draws(0) == draws(0)


def test_training_leaves_the_random_numbers_of_others_alone():
    before = torch.get_rng_state()
    epoch_order(7, 1, 100)
    trained("eager", pause=lambda *_: False)
    assert torch.equal(torch.get_rng_state(), before)
