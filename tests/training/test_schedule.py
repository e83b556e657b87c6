"""Functions of the examples so far: when a run pauses, and the learning rate of every step."""

import math
from dataclasses import replace
from itertools import chain, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from digits_sweep.config.schema import ScheduleConfig, TrainerConfig
from digits_sweep.results.record import EvaluationRow
from digits_sweep.training.schedule import (
    LearningRate,
    NoiseGrowth,
    ScaledRates,
    Schedule,
    is_constant,
    learning_rate_of,
)

EVERY = st.one_of(st.none(), st.integers(1, 400))
DOUBLING = st.one_of(st.none(), st.floats(0.1, 50))


@st.composite
def schedules(draw, every=EVERY, doubling=DOUBLING) -> Schedule:
    """Half of them have a batch that grows, or changes anyhow."""
    num_samples = draw(st.integers(1, 300))
    sizes = st.integers(1, num_samples)
    borders = draw(st.one_of(st.just([]), st.lists(st.integers(1, 800), max_size=4, unique=True).map(sorted)))
    growth = tuple((border, draw(sizes)) for border in borders)
    return Schedule(num_samples, draw(sizes), draw(every), draw(doubling), growth)


def by_hand(schedule: Schedule, iterations: int) -> list[int]:
    """The examples after every iteration, counted one by one."""
    examples, after = 0, [0]
    while len(after) <= iterations:
        left = schedule.num_samples - examples % schedule.num_samples
        examples += min(left, size_at(schedule, examples))
        after.append(examples)
    return after


def size_at(schedule: Schedule, examples: int) -> int:
    """The batch size after so many examples: a batch is whole, however many borders lie in it."""
    return [schedule.batch_size, *(size for border, size in schedule.growth if border <= examples)][-1]


@given(schedule=schedules(), iterations=st.integers(0, 900))
def test_examples_are_counted_with_every_epochs_smaller_last_batch(schedule, iterations):
    assert schedule.examples_after(iterations) == by_hand(schedule, iterations)[-1]


@given(schedule=schedules(), examples=st.integers(0, 900))
def test_so_many_examples_are_reached_at_the_first_iteration_that_has_trained_on_as_many(schedule, examples):
    iteration = schedule.iteration_at(examples)
    assert schedule.examples_after(iteration) >= examples
    assert iteration == 0 or schedule.examples_after(iteration - 1) < examples


@given(schedule=schedules(), after=st.integers(0, 300), steps=st.integers(1, 300))
def test_a_part_between_two_changes_has_batches_of_one_size_and_a_smaller_one_only_at_an_epochs_end(
    schedule, after, steps
):
    expected = by_hand(schedule, after + steps)
    assert schedule.sizes(after, after + steps) == [end - start for start, end in pairwise(expected[after:])]
    edges = [after, *schedule.changes(after, after + steps), after + steps]
    for start, end in pairwise(edges):
        size = schedule.size_after(start)
        assert {size_at(schedule, examples) for examples in expected[start:end]} == {size}


def test_the_batch_that_a_border_lies_in_is_whole_and_the_next_one_has_the_new_size():
    schedule = Schedule(100, 20, growth=((50, 30), (120, 5)))
    assert schedule.sizes(0, 9) == [20, 20, 20, 30, 10, 30, 5, 5, 5]


def test_borders_within_one_batch_are_one_change():
    assert Schedule(100, 20, growth=((42, 10), (45, 5))).changes(0, 10) == [3]


@given(schedule=schedules(every=st.integers(1, 400), doubling=st.none()), epochs=st.integers(1, 4))
def test_a_run_pauses_at_the_first_iteration_at_or_after_every_multiple(schedule, epochs):
    until = schedule.iteration_at(epochs * schedule.num_samples)
    multiples = [examples // schedule.every_examples for examples in by_hand(schedule, until)]
    expected = [number for number, (one, next_one) in enumerate(pairwise(multiples), start=1) if next_one > one]
    assert schedule.between(0, until) == expected


@given(schedule=schedules(every=st.none(), doubling=st.floats(0.1, 50)), until=st.integers(1, 900))
def test_a_run_pauses_at_every_power_rounded_up(schedule, until):
    powers = (math.ceil(2 ** (k / schedule.per_doubling)) for k in range(math.ceil(schedule.per_doubling * 12) + 1))
    assert schedule.between(0, until) == sorted({power for power in powers if power <= until})


def test_six_pauses_a_doubling_are_twelve_percent_apart():
    points = Schedule(60_000, 100, per_doubling=6).between(0, 128)
    assert points == [
        1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15, 16, 18, 21, 23, 26, 29, 32, 36, 41, 46, 51, 58, 64, 72, 81, 91, 102,
        115, 128,
    ]  # fmt: skip


@given(schedule=schedules(), epochs=st.lists(st.integers(0, 6), min_size=1, max_size=4).map(sorted))
def test_the_pauses_are_the_same_wherever_a_run_is_resumed(schedule, epochs):
    edges = [schedule.iteration_at(epoch * schedule.num_samples) for epoch in (0, *epochs)]
    parts = [schedule.between(start, end) for start, end in pairwise(edges)]
    whole = schedule.between(0, edges[-1])
    assert [*chain(*parts)] == whole
    assert whole == sorted(set(whole))


@given(schedule=schedules(), until=st.integers(1, 900))
def test_both_kinds_of_pauses_are_those_of_the_one_and_of_the_other(schedule, until):
    multiples = replace(schedule, per_doubling=None).between(0, until)
    doublings = replace(schedule, every_examples=None).between(0, until)
    assert schedule.between(0, until) == sorted({*multiples, *doublings})


@pytest.mark.parametrize("keys", [{}, {"every_examples": 3_000}, {"per_doubling": 6.0}])
def test_a_run_pauses_only_with_one_of_the_keys(keys):
    assert Schedule(60_000, 100, **keys).pauses == bool(keys)
    assert bool(Schedule(60_000, 100, **keys).between(0, 600)) == bool(keys)


# The learning rate: in examples, so that it means the same at every batch size


def rate(total: int = 1_000, **schedule: object) -> LearningRate:
    return LearningRate(ScheduleConfig(**schedule), total)


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        ({"decay": "linear"}, {0: 1, 250: 0.75, 500: 0.5, 1_000: 0}),
        ({"decay": "linear", "final": 0.2}, {0: 1, 500: 0.6, 1_000: 0.2, 5_000: 0.2}),
        ({"decay": "cosine"}, {0: 1, 250: (1 + math.sqrt(0.5)) / 2, 500: 0.5, 1_000: 0}),
        ({"decay": "cosine", "final": 0.2}, {0: 1, 500: 0.6, 1_000: 0.2}),
        ({"warmup_examples": 200}, {0: 0, 50: 0.25, 200: 1, 1_000: 1}),
        ({"decay": "linear", "warmup_examples": 200}, {100: 0.5, 200: 1, 600: 0.5, 1_000: 0}),
        ({"decay": "cosine", "warmup_examples": 200}, {100: 0.5, 200: 1, 600: 0.5, 1_000: 0}),
        ({"decay": "linear", "warmup_examples": 2_000}, {1_000: 0.5}),
    ],
)
def test_the_rate_rises_during_the_warm_up_falls_until_the_last_example_and_stays_there(schedule, shares):
    assert {examples: rate(**schedule).at(examples) for examples in shares} == pytest.approx(shares)


def test_a_step_has_the_rate_of_the_middle_of_its_batch_and_the_smaller_last_batch_of_its_own():
    steps = rate(total=100, decay="linear").of_steps(Schedule(50, 20), 0, 6)
    assert steps == pytest.approx([0.9, 0.7, 0.55, 0.4, 0.2, 0.05])


@given(batch_size=st.integers(1, 100), warmup=st.integers(0, 3).map(lambda number: number * 100))
def test_every_batch_size_trains_its_examples_with_one_rate_on_average(batch_size, warmup):
    """The sum of batch size x rate is the same, as long as no batch spans the end of the warm-up."""
    iterations = Schedule(100, batch_size)
    last = 10 * iterations.iteration_at(100)
    shares = rate(total=1_000, decay="linear", warmup_examples=warmup).of_steps(iterations, 0, last)
    sizes = [end - start for start, end in pairwise(by_hand(iterations, last))]
    assert math.fsum(map(math.prod, zip(sizes, shares, strict=True))) == pytest.approx(500)


@given(cut=st.integers(0, 60), decay=st.sampled_from(["linear", "cosine", None]))
def test_the_rates_of_a_part_are_those_of_the_whole(cut, decay):
    schedule, iterations = rate(decay=decay, warmup_examples=77), Schedule(50, 7)
    whole = schedule.of_steps(iterations, 0, 60)
    assert schedule.of_steps(iterations, 0, cut) + schedule.of_steps(iterations, cut, 60) == whole


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        ({"batch": "{0:10,20:40}"}, [1, 1, 1, 1]),
        ({"batch": "{0:10,20:40}", "batch_lr": "sqrt"}, [1, 1, 2, 2]),
        ({"batch": "{0:10,20:40}", "batch_lr": "linear"}, [1, 1, 4, 4]),
        ({"batch": "grow"}, [1, 1, 2, 2]),
        ({"batch": "grow", "batch_lr": "fixed"}, [1, 1, 1, 1]),
        ({"batch": "grow", "decay": "linear"}, [0.95, 0.85, 2 * 0.6, 2 * 0.2]),
    ],
)
def test_the_rate_follows_a_batch_that_grows_by_the_square_root_only_if_the_schedule_says_so(schedule, shares):
    iterations = Schedule(100, 10, growth=((20, 40),))
    assert rate(total=100, **schedule).of_steps(iterations, 0, 4) == pytest.approx(shares)
    assert is_constant(ScheduleConfig(**schedule)) == (len(set(shares)) == 1)


@pytest.mark.parametrize(("max_examples", "total"), [(None, 300), (250, 250), (999, 300)])
def test_the_last_example_is_that_of_the_last_epoch_or_the_most_that_a_run_trains_on(max_examples, total):
    trainer = TrainerConfig(3, 1.6, False, max_examples)
    assert learning_rate_of(ScheduleConfig(decay="cosine"), trainer, 100).total_examples == total
    assert learning_rate_of(ScheduleConfig(decay="cosine", decay_examples=77), trainer, 100).total_examples == 77
    assert learning_rate_of(ScheduleConfig(), trainer, 100) is None


def test_rates_are_shares_of_the_first_ones_even_after_a_state_was_loaded():
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))]}, {"params": [], "lr": 0.5}], lr=0.1)
    rates = ScaledRates(optimizer)
    rates.set(0.5)
    optimizer.load_state_dict(optimizer.state_dict())
    rates.set(0.2)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.02, 0.1])


# A batch that follows the gradient noise scale


def grown(noise: list[float | None], batch_size: int = 10, largest: int = 1_000) -> list[int]:
    """The batch size after evaluations at 0, 10, 20, ... iterations."""
    growth, sizes = NoiseGrowth(batch_size, largest), []
    for number, scale in enumerate(noise):
        row = EvaluationRow(number * 10, number * 100, 0.0, None, None, None, None, None, optimizer_noise_scale=scale)
        growth.follow(row)
        sizes.append(growth.sizes[-1][1])
    return sizes


@pytest.mark.parametrize(
    ("noise", "sizes"),
    [
        # Doubled once an evaluation, and not before a step was taken.
        ([500, 500, 500, 500], [10, 20, 40, 80]),
        # As soon as twice the batch is reached, and it never shrinks.
        ([9, 19, 24, 19, 19, 1], [10, 10, 20, 20, 20, 20]),
        # The geometric mean of the last doubling: of 10 and 40 at 20 iterations, of 40 and 10 at 30, of 10 at 40.
        ([None, 10, 40, 10, 10], [10, 10, 20, 20, 20]),
        # What was not measured, or cannot be told from noise, says nothing.
        ([None, None, math.inf, math.nan, -1], [10, 10, 10, 10, 10]),
    ],
)
def test_a_batch_doubles_when_the_noise_scale_of_the_last_doubling_is_twice_as_large(noise, sizes):
    assert grown(noise) == sizes


def test_a_batch_that_grows_ends_at_the_largest():
    assert grown([1e9] * 9, largest=159) == [10, 20, 40, 80, 80, 80, 80, 80, 80]
