"""The epoch loop, with an engine whose losses are written down and a clock that is wound by hand."""

import math

import pytest
import torch

from digits_sweep.config.schema import TrainerConfig
from digits_sweep.training.epoch_order import epoch_order
from digits_sweep.training.epochs import Epoch, train
from digits_sweep.training.stopwatch import Stopwatch

CPU = torch.device("cpu")


class WrittenDown:
    """An engine that gives the losses that it was handed, and keeps the orders that it saw."""

    def __init__(self, *epochs: list[float]) -> None:
        self.epochs = list(epochs)
        self.orders: list[list[int]] = []

    def run_epoch(self, order):
        self.orders.append(order.tolist())
        return torch.tensor(self.epochs.pop(0))


class Clock:
    """A clock that goes on by one second whenever it is read."""

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
    engine = WrittenDown([2.0], [2.0], [2.0])
    run(engine, trainer())
    assert engine.orders == [epoch_order(0, epoch, 10).tolist() for epoch in (1, 2, 3)]


def test_a_run_taken_up_at_epoch_3_sees_the_order_of_epoch_3():
    engine = WrittenDown([2.0])
    (epoch,) = run(engine, trainer(), first_epoch=3)
    assert epoch.number == 3
    assert engine.orders == [epoch_order(0, 3, 10).tolist()]


def test_an_epoch_is_timed_from_one_tick_to_the_next():
    assert [epoch.seconds for epoch in run(WrittenDown([2.0], [2.0], [2.0]), trainer())] == [1.0, 1.0, 1.0]


def test_what_happens_between_epochs_is_not_timed():
    clock = Clock()
    epochs = train(WrittenDown([2.0], [2.0]), trainer(2), 0, 10, Stopwatch(CPU, clock))
    next(epochs)
    clock.now += 100
    assert next(epochs).seconds == 1.0


def test_mean_and_deviation_weigh_every_iteration_alike():
    epoch = Epoch(1, 1.0, torch.tensor([1.0, 2.0, 6.0]))
    assert epoch.loss_mean == 3.0
    assert epoch.loss_std == pytest.approx(math.sqrt(14 / 3))


def test_a_single_iteration_deviates_by_nothing():
    assert Epoch(1, 1.0, torch.tensor([2.0])).loss_std == 0.0


def test_training_stops_at_the_threshold_only_when_asked():
    losses = ([1.7], [1.5], [1.4])
    assert len(run(WrittenDown(*losses), trainer())) == 3
    assert len(run(WrittenDown(*losses), trainer(stop_at_threshold=True))) == 2


def test_a_loss_equal_to_the_threshold_is_not_below_it():
    assert len(run(WrittenDown([1.6], [1.5]), trainer(2, stop_at_threshold=True))) == 1 + (
        torch.tensor(1.6).double().item() >= 1.6
    )


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_training_stops_after_an_epoch_that_diverged(loss):
    epochs = run(WrittenDown([1.7], [1.7, loss], [1.7]), trainer())
    assert len(epochs) == 2
    assert not math.isfinite(epochs[-1].loss_mean)
