"""The learning rate of every step: in examples, so that it means the same at every batch size."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from digits_sweep.config.schema import ScheduleConfig, TrainerConfig
from digits_sweep.training.epochs import train
from digits_sweep.training.schedule import LearningRate, ScaledRates, Schedule, is_constant, learning_rate_of
from digits_sweep.training.stopwatch import Stopwatch


def trainer(num_epochs: int = 3, max_examples: int | None = None) -> TrainerConfig:
    return TrainerConfig(num_epochs, 1.6, False, max_examples)


def rate(total: int = 1_000, **schedule: object) -> LearningRate:
    return LearningRate(ScheduleConfig(**schedule), total)


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        ({"decay": "linear"}, {0: 1, 250: 0.75, 500: 0.5, 1_000: 0}),
        ({"decay": "linear", "final": 0.2}, {0: 1, 500: 0.6, 1_000: 0.2}),
        ({"decay": "cosine"}, {0: 1, 250: (1 + math.sqrt(0.5)) / 2, 500: 0.5, 1_000: 0}),
        ({"decay": "cosine", "final": 0.2}, {0: 1, 500: 0.6, 1_000: 0.2}),
        ({"warmup_examples": 200}, {0: 0, 50: 0.25, 200: 1, 1_000: 1}),
        ({"decay": "linear", "warmup_examples": 200}, {100: 0.5, 200: 1, 600: 0.5, 1_000: 0}),
        ({"decay": "cosine", "warmup_examples": 200}, {100: 0.5, 200: 1, 600: 0.5, 1_000: 0}),
    ],
)
def test_the_rate_rises_during_the_warm_up_and_falls_until_the_last_example(schedule, shares):
    assert {examples: rate(**schedule).at(examples) for examples in shares} == pytest.approx(shares)


def test_beyond_the_last_example_the_rate_stays_where_it_ends_even_if_the_warm_up_is_longer_than_the_run():
    assert rate(decay="linear", final=0.1).at(5_000) == pytest.approx(0.1)
    assert rate(decay="linear", warmup_examples=2_000).at(1_000) == 0.5


def test_a_step_has_the_rate_of_the_middle_of_its_batch_and_the_smaller_last_batch_of_its_own():
    steps = rate(total=100, decay="linear").of_steps(Schedule(50, 20), 0, 6)
    assert steps == pytest.approx([0.9, 0.7, 0.55, 0.4, 0.2, 0.05])


@given(batch_size=st.integers(1, 100), warmup=st.integers(0, 3).map(lambda number: number * 100))
def test_every_batch_size_trains_its_examples_with_one_rate_on_average(batch_size, warmup):
    """The sum of batch size x rate is the same, as long as no batch spans the end of the warm-up."""
    iterations = Schedule(100, batch_size)
    shares = rate(total=1_000, decay="linear", warmup_examples=warmup).of_steps(
        iterations, 0, 10 * iterations.iterations_per_epoch
    )
    sizes = [iterations.examples_after(number + 1) - iterations.examples_after(number) for number in range(len(shares))]
    assert math.fsum(map(math.prod, zip(sizes, shares, strict=True))) == pytest.approx(500)


@given(cut=st.integers(0, 60), decay=st.sampled_from(["linear", "cosine", None]))
def test_the_rates_of_a_part_are_those_of_the_whole(cut, decay):
    schedule, iterations = rate(decay=decay, warmup_examples=77), Schedule(50, 7)
    whole = schedule.of_steps(iterations, 0, 60)
    assert schedule.of_steps(iterations, 0, cut) + schedule.of_steps(iterations, cut, 60) == whole


def test_the_last_example_is_that_of_the_last_epoch_or_the_most_that_a_run_trains_on():
    cosine = ScheduleConfig(decay="cosine")
    assert learning_rate_of(cosine, trainer(), 100).total_examples == 300
    assert learning_rate_of(cosine, trainer(max_examples=250), 100).total_examples == 250
    assert learning_rate_of(cosine, trainer(max_examples=999), 100).total_examples == 300


def test_a_constant_rate_is_no_schedule():
    assert is_constant(ScheduleConfig())
    assert learning_rate_of(ScheduleConfig(), trainer(), 100) is None
    assert not is_constant(ScheduleConfig(warmup_examples=1))


class Recorder:
    """An engine that notes what it is called with."""

    batch_size = 20

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def train(self, order, *rates):
        self.calls.append(rates)
        return torch.ones(-(-len(order) // self.batch_size))


def test_an_engine_gets_rates_only_if_they_change():
    for learning_rate in (None, rate(total=150, decay="linear")):
        engine = Recorder()
        list(train(engine, trainer(), 0, 50, Stopwatch(torch.device("cpu")), learning_rate=learning_rate))
        expected = (
            [(learning_rate.of_steps(Schedule(50, 20), n, n + 3),) for n in (0, 3, 6)] if learning_rate else [()] * 3
        )
        assert engine.calls == expected


def test_a_run_that_is_resumed_has_the_rates_of_its_later_epochs():
    whole, resumed, learning_rate = Recorder(), Recorder(), rate(total=150, decay="cosine")
    for engine, first in ((whole, 1), (resumed, 3)):
        list(train(engine, trainer(), 0, 50, Stopwatch(torch.device("cpu")), first, learning_rate=learning_rate))
    assert resumed.calls == whole.calls[2:]


def test_rates_are_shares_of_the_first_ones_even_after_a_state_was_loaded():
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))]}, {"params": [], "lr": 0.5}], lr=0.1)
    rates = ScaledRates(optimizer)
    rates.set(0.5)
    optimizer.load_state_dict(optimizer.state_dict())
    rates.set(0.2)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.02, 0.1])
