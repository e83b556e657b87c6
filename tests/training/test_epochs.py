"""The order of an epoch, and the epoch loop, with an engine of prescribed losses and a clock that is moved by hand.

The pauses of the loop are tested in test_pauses.py.
"""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from digits_sweep.config.schema import TrainerConfig
from digits_sweep.training.epochs import Epoch, epoch_order, train
from digits_sweep.training.stopwatch import Stopwatch

CPU = torch.device("cpu")
SEEDS = st.integers(0, 2**63 - 1)
EPOCHS = st.integers(1, 1_000)
# From 20 samples on, two orders drawn independently are the same once in 2e18.
ENOUGH = st.integers(20, 300)


# The order of an epoch


@given(seed=SEEDS, epoch=EPOCHS, num_samples=st.integers(0, 300))
def test_an_epoch_sees_every_sample_once(seed, epoch, num_samples):
    order = epoch_order(seed, epoch, num_samples)
    assert order.dtype == torch.int64
    assert order.device.type == "cpu"
    assert torch.equal(order.sort().values, torch.arange(num_samples))


@given(seed=SEEDS, epoch=EPOCHS, num_samples=ENOUGH, drawn_before=st.integers(0, 9))
def test_the_order_is_the_same_whatever_was_drawn_before(seed, epoch, num_samples, drawn_before):
    expected = epoch_order(seed, epoch, num_samples)
    torch.rand(drawn_before)
    for earlier in range(1, 1 + drawn_before):
        epoch_order(seed, earlier, num_samples)
    assert torch.equal(epoch_order(seed, epoch, num_samples), expected)


@given(seed=SEEDS, epochs=st.lists(EPOCHS, min_size=2, max_size=2, unique=True), num_samples=ENOUGH)
def test_two_epochs_of_a_run_have_different_orders(seed, epochs, num_samples):
    one, other = (epoch_order(seed, epoch, num_samples) for epoch in epochs)
    assert not torch.equal(one, other)


@given(seeds=st.lists(SEEDS, min_size=2, max_size=2, unique=True), epoch=EPOCHS, num_samples=ENOUGH)
def test_two_seeds_have_different_orders(seeds, epoch, num_samples):
    one, other = (epoch_order(seed, epoch, num_samples) for seed in seeds)
    assert not torch.equal(one, other)


def test_no_seed_repeats_in_a_later_epoch_what_its_neighbor_did_in_an_earlier_one():
    orders = {tuple(epoch_order(seed, epoch, 50).tolist()) for seed in range(30) for epoch in range(1, 31)}
    assert len(orders) == 900


def test_the_first_epoch_of_seed_42_is_the_same_in_every_version():
    assert epoch_order(42, 1, 10).tolist() == [1, 3, 6, 5, 7, 9, 0, 2, 4, 8]


def test_drawing_an_order_leaves_other_random_numbers_as_they_were():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    epoch_order(7, 1, 100)
    assert torch.equal(torch.rand(3), expected)


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="non-negative"):
        epoch_order(-1, 1, 10)


# The epoch loop


class Prescribed:
    """An engine that returns the losses it was given, and keeps the orders that it saw."""

    batch_size = 10

    def __init__(self, *epochs: list[float]) -> None:
        self.epochs = list(epochs)
        self.orders: list[list[int]] = []

    def train(self, order):
        self.orders.append(order.tolist())
        return torch.tensor(self.epochs.pop(0))


class Clock:
    """A clock that advances by one second whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def trainer(num_epochs: int = 3, stop_at_threshold: bool = False) -> TrainerConfig:
    return TrainerConfig(num_epochs=num_epochs, loss_threshold=1.6, stop_at_threshold=stop_at_threshold)


def run(engine, trainer_config, first_epoch=1):
    return list(train(engine, trainer_config, 0, 10, Stopwatch(CPU, Clock()), first_epoch))


def test_every_epoch_sees_its_own_order_of_all_digits():
    engine = Prescribed([2.0], [2.0], [2.0])
    run(engine, trainer())
    assert engine.orders == [epoch_order(0, epoch, 10).tolist() for epoch in (1, 2, 3)]


def test_a_run_resumed_at_epoch_3_sees_the_order_of_epoch_3():
    engine = Prescribed([2.0])
    (epoch,) = run(engine, trainer(), first_epoch=3)
    assert epoch.number == 3
    assert engine.orders == [epoch_order(0, 3, 10).tolist()]


def test_an_epoch_is_timed_from_one_tick_to_the_next():
    assert [epoch.seconds for epoch in run(Prescribed([2.0], [2.0], [2.0]), trainer())] == [1.0, 1.0, 1.0]


def test_an_epoch_is_complete_and_counts_its_examples():
    assert [(epoch.examples, epoch.complete) for epoch in run(Prescribed([2.0], [2.0]), trainer(2))] == [(10, True)] * 2


def test_what_happens_between_epochs_is_not_timed():
    clock = Clock()
    epochs = train(Prescribed([2.0], [2.0]), trainer(2), 0, 10, Stopwatch(CPU, clock))
    next(epochs)
    clock.now += 100
    assert next(epochs).seconds == 1.0


def test_mean_and_deviation_weigh_every_iteration_alike():
    epoch = Epoch(1, 1.0, torch.tensor([1.0, 2.0, 6.0]), examples=3)
    assert epoch.loss_mean == 3.0
    assert epoch.loss_std == pytest.approx(math.sqrt(14 / 3))


def test_a_single_iteration_deviates_by_nothing():
    assert Epoch(1, 1.0, torch.tensor([2.0]), examples=1).loss_std == 0.0


def test_training_stops_at_the_threshold_only_when_asked():
    losses = ([1.7], [1.5], [1.4])
    assert len(run(Prescribed(*losses), trainer())) == 3
    assert len(run(Prescribed(*losses), trainer(stop_at_threshold=True))) == 2


def test_a_loss_equal_to_the_threshold_is_not_below_it():
    assert len(run(Prescribed([1.6], [1.5]), trainer(2, stop_at_threshold=True))) == 1 + (
        torch.tensor(1.6).double().item() >= 1.6
    )


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_training_stops_after_an_epoch_that_diverged(loss):
    epochs = run(Prescribed([1.7], [1.7, loss], [1.7]), trainer())
    assert len(epochs) == 2
    assert not math.isfinite(epochs[-1].loss_mean)
