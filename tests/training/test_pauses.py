"""The pauses of the epoch loop: when it calls, with what, what they change (nothing), and how they end a run."""

from dataclasses import replace
from itertools import accumulate, chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from digits_sweep.config.schema import EvaluationConfig, TrainerConfig
from digits_sweep.data.digits import scale
from digits_sweep.training.engines import ENGINES
from digits_sweep.training.epochs import Epoch, epoch_order, train
from digits_sweep.training.evaluation import evaluate
from digits_sweep.training.stopwatch import Stopwatch
from tests.training.test_epochs import Clock
from tests.workloads import settings, workload

CPU = torch.device("cpu")
SAMPLES, BATCH = 25, 4
# 4, 4, 4, 4, 4, 4 and 1 examples.
PER_EPOCH = 7


class Counting:
    """An engine whose loss is the number of the iteration, and that keeps the parts that it was given."""

    batch_size = BATCH

    def __init__(self) -> None:
        self.parts: list[list[int]] = []
        self.iterations = 0

    def train(self, order: Tensor) -> Tensor:
        self.parts.append(order.tolist())
        count = -(-len(order) // self.batch_size)
        self.iterations += count
        return torch.arange(self.iterations - count, self.iterations, dtype=torch.float32)


class Pauses:
    """A callback that keeps what it is called with, and ends the run at `last`."""

    def __init__(self, last: int | None = None) -> None:
        self.last, self.calls = last, []

    def __call__(self, iterations: int, examples: int, seconds: float) -> bool:
        self.calls.append((iterations, examples, seconds))
        return iterations == self.last


def evaluated(every_examples: int | None = None, per_doubling: float | None = None) -> EvaluationConfig:
    return replace(settings("evaluation=fine").evaluation, every_examples=every_examples, per_doubling=per_doubling)


def trainer(num_epochs: int = 2, max_examples: int | None = None) -> TrainerConfig:
    return TrainerConfig(num_epochs, loss_threshold=1.6, stop_at_threshold=False, max_examples=max_examples)


def run(pause, evaluation=None, config=None, engine=None, clock=None, **resumed) -> list[Epoch]:
    stopwatch = Stopwatch(CPU, clock or Clock())
    return list(
        train(engine or Counting(), config or trainer(), 0, SAMPLES, stopwatch,
              evaluation=evaluation or evaluated(every_examples=10), pause=pause, **resumed)
    )  # fmt: skip


def test_it_pauses_before_the_first_step_and_at_or_after_every_multiple():
    pauses = Pauses()
    run(pauses)
    assert [(iterations, examples) for iterations, examples, _ in pauses.calls] == [
        (0, 0), (3, 12), (5, 20), (9, 33), (11, 41), (14, 50),
    ]  # fmt: skip


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
    run(pauses, evaluation=evaluated(), engine=engine)
    assert [len(part) for part in engine.parts] == [25, 25]
    assert pauses.calls == []


def test_an_epochs_seconds_are_the_sum_of_its_parts_and_a_pause_gets_those_of_the_run_so_far():
    clock, calls = Clock(), []

    def pause(iterations: int, examples: int, seconds: float) -> bool:
        clock.now += 1_000
        calls.append(seconds)
        return False

    epochs = run(pause, clock=clock, seconds_before=0.5)
    # A part takes one second, from one tick of the clock to the next.
    assert calls == [0.5, 1.5, 2.5, 4.5, 5.5, 6.5]
    assert [epoch.seconds for epoch in epochs] == [3.0, 3.0]


def test_an_epoch_that_ends_with_a_pause_is_yielded_after_it():
    pauses = Pauses()
    epochs = train(Counting(), trainer(), 0, SAMPLES, Stopwatch(CPU, Clock()),
                   evaluation=evaluated(every_examples=25), pause=pauses)  # fmt: skip
    next(epochs)
    assert [iterations for iterations, *_ in pauses.calls] == [0, 7]


def test_a_resumed_run_pauses_where_the_whole_run_does():
    whole, resumed = Pauses(), Pauses()
    run(whole, evaluated(10, 6.0), trainer(4))
    run(resumed, evaluated(10, 6.0), trainer(4), first_epoch=3, seconds_before=whole.calls[-1][2])
    points = [(iterations, examples) for iterations, examples, _ in whole.calls]
    after_two = [(iterations, examples) for iterations, examples, _ in resumed.calls]
    assert after_two == [point for point in points if point[0] > 2 * PER_EPOCH]
    assert 0 < len(after_two) < len(points)


# The end of a run


def test_a_pause_that_returns_true_ends_the_run_in_the_middle_of_an_epoch():
    engine, pauses = Counting(), Pauses(last=9)
    first, last = run(pauses, engine=engine)
    assert (first.complete, first.examples) == (True, 25)
    assert (last.number, last.complete, last.examples, last.losses.tolist()) == (2, False, 8, [7, 8])
    assert engine.iterations == 9
    assert pauses.calls[-1][:2] == (9, 33)


def test_a_pause_at_the_end_of_an_epoch_ends_the_run_with_a_complete_one():
    (only,) = run(Pauses(last=7), evaluated(every_examples=25))
    assert (only.number, only.complete, only.examples) == (1, True, 25)


def test_a_pause_before_the_first_step_ends_a_run_without_an_epoch():
    engine = Counting()
    assert run(Pauses(last=0), engine=engine) == []
    assert engine.iterations == 0


@given(max_examples=st.integers(1, 60))
def test_a_run_ends_with_the_iteration_that_reaches_the_most_examples(max_examples):
    engine = Counting()
    epochs = run(None, config=trainer(2, max_examples), engine=engine)
    examples = [0, *accumulate([4, 4, 4, 4, 4, 4, 1] * 2)]
    expected = next((number for number, each in enumerate(examples) if each >= max_examples), 14)
    assert engine.iterations == expected
    assert sum(epoch.examples for epoch in epochs) == examples[expected]
    assert [epoch.complete for epoch in epochs] == [True] * (expected // 7) + [False] * (expected % 7 > 0)


def test_a_run_that_has_reached_its_most_examples_before_it_is_resumed_trains_nothing():
    assert run(Pauses(), config=trainer(4, max_examples=25), first_epoch=2) == []


def test_a_run_pauses_up_to_its_last_iteration():
    pauses = Pauses()
    run(pauses, evaluated(every_examples=10), trainer(4, max_examples=31))
    assert [iterations for iterations, *_ in pauses.calls] == [0, 3, 5, 9]


# What a pause changes: nothing


def dropping_out() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 10))


def trained(name: str, pause=None, first_epoch: int = 1, engine=None, num_epochs: int = 3):
    engine = engine or ENGINES[name](workload(model=dropping_out()))
    evaluation = evaluated(every_examples=50) if pause else None
    epochs = list(train(engine, trainer(num_epochs), 0, 203, Stopwatch(CPU), first_epoch,
                        evaluation=evaluation, pause=pause))  # fmt: skip
    return torch.cat([epoch.losses for epoch in epochs]), engine


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
        class Drawing(Counting):
            def train(self, order):
                return super().train(order) + torch.rand(())

        config = trainer(3)
        return [epoch.losses[0].item() % 1 for epoch in train(Drawing(), config, seed, SAMPLES, Stopwatch(CPU))]

    assert len({*draws(0), *draws(1)}) == 6
    assert draws(0) == draws(0)


def test_training_leaves_the_random_numbers_of_others_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    trained("eager", pause=lambda *_: False)
    assert torch.equal(torch.rand(3), expected)
