"""When a run pauses: at which iterations, whatever epoch it is resumed after."""

import math
from itertools import chain, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digits_sweep.training.schedule import Schedule

EVERY = st.one_of(st.none(), st.integers(1, 400))
DOUBLING = st.one_of(st.none(), st.floats(0.1, 50))


@st.composite
def schedules(draw, every=EVERY, doubling=DOUBLING) -> Schedule:
    num_samples = draw(st.integers(1, 300))
    return Schedule(num_samples, draw(st.integers(1, num_samples)), draw(every), draw(doubling))


def by_hand(schedule: Schedule, iterations: int) -> list[int]:
    """The examples after every iteration, counted one by one."""
    examples, after = 0, [0]
    while len(after) <= iterations:
        left = schedule.num_samples - examples % schedule.num_samples
        examples += min(left, schedule.batch_size)
        after.append(examples)
    return after


@given(schedule=schedules(), iterations=st.integers(0, 900))
def test_examples_are_counted_with_every_epochs_smaller_last_batch(schedule, iterations):
    assert schedule.examples_after(iterations) == by_hand(schedule, iterations)[-1]


@given(schedule=schedules(), examples=st.integers(0, 900))
def test_so_many_examples_are_reached_at_the_first_iteration_that_has_trained_on_as_many(schedule, examples):
    iteration = schedule.iteration_at(examples)
    assert schedule.examples_after(iteration) >= examples
    assert iteration == 0 or schedule.examples_after(iteration - 1) < examples


@given(schedule=schedules(every=st.integers(1, 400), doubling=st.none()), epochs=st.integers(1, 4))
def test_a_run_pauses_at_the_first_iteration_at_or_after_every_multiple(schedule, epochs):
    until = epochs * schedule.iterations_per_epoch
    examples = by_hand(schedule, until)
    expected = [
        iteration
        for iteration in range(1, until + 1)
        if examples[iteration] // schedule.every_examples > examples[iteration - 1] // schedule.every_examples
    ]
    assert schedule.between(0, until) == expected
    for point in expected:
        assert examples[point] % schedule.every_examples < schedule.batch_size


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
    edges = [epoch * schedule.iterations_per_epoch for epoch in (0, *epochs)]
    parts = [schedule.between(start, end) for start, end in pairwise(edges)]
    whole = schedule.between(0, edges[-1])
    assert [*chain(*parts)] == whole
    assert whole == sorted(set(whole))


@given(schedule=schedules(), until=st.integers(1, 900))
def test_both_kinds_of_pauses_are_those_of_the_one_and_of_the_other(schedule, until):
    sizes = schedule.num_samples, schedule.batch_size
    multiples = Schedule(*sizes, every_examples=schedule.every_examples).between(0, until)
    doublings = Schedule(*sizes, per_doubling=schedule.per_doubling).between(0, until)
    assert schedule.between(0, until) == sorted({*multiples, *doublings})


def test_without_a_key_there_is_no_pause():
    assert not Schedule(60_000, 100).pauses
    assert Schedule(60_000, 100).between(0, 10**6) == []


@pytest.mark.parametrize("keys", [{"every_examples": 3_000}, {"per_doubling": 6.0}])
def test_with_one_there_are_some(keys):
    assert Schedule(60_000, 100, **keys).pauses
    assert Schedule(60_000, 100, **keys).between(0, 600)
