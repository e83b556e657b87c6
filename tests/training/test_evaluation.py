"""What a model predicts at frozen weights, on which digits, and that looking at it changes nothing."""

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from digits_sweep.config.schema import EvaluationConfig
from digits_sweep.data.digits import Digits, scale
from digits_sweep.training.engines import ENGINES
from digits_sweep.training.engines.protocol import Engine
from digits_sweep.training.epochs import epoch_order
from digits_sweep.training.evaluation import Evaluator, evaluate, evaluated
from digits_sweep.training.model import build_model
from tests.workloads import GPU_ENGINES, mlp, settings, small_convolution, workload

CPU = torch.device("cpu")


def digits(train: int = 60, test: int = 20) -> Digits:
    random = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (train + test, 28, 28), dtype=torch.uint8, generator=random)
    labels = torch.randint(0, 10, (train + test,), generator=random)
    return Digits.of("noise", images[:train], labels[:train], images[train:], labels[train:])


def engine_of(model: nn.Module) -> Engine:
    """Stand in for an engine that has no faster way than its model."""
    return cast(Engine, SimpleNamespace(model=model, outputs=lambda images, chosen: None))


def requested(**keys: object) -> EvaluationConfig:
    """What `evaluation=fine` asks for, on every digit there is, but for these keys."""
    return replace(settings("evaluation=fine", "evaluation.train_samples=null").evaluation, **keys)


class AlwaysThree(nn.Module):
    def forward(self, images):
        return torch.eye(10)[torch.full((len(images),), 3)]


def test_accuracy_and_the_classes_that_are_never_predicted_are_counted():
    evaluation = evaluate(AlwaysThree(), torch.rand(20, 1, 28, 28), torch.arange(20) % 10)
    assert (evaluation.accuracy, evaluation.error) == (0.1, 0.9)
    assert evaluation.classes_never_predicted == 9
    assert evaluation.predictions_per_class == [0, 0, 0, 20, 0, 0, 0, 0, 0, 0]
    # A class without a label is not missed.
    assert evaluate(AlwaysThree(), torch.rand(20, 1, 28, 28), torch.arange(20) % 5).classes_never_predicted == 4


def test_the_loss_is_the_mean_over_the_images_whatever_the_size_of_the_portions(monkeypatch):
    given = workload(num_samples=57)
    images = scale(given.images, "unit")
    whole = evaluate(given.model, images, given.labels)
    assert whole.loss == pytest.approx(cross_entropy(given.model(images), given.labels).item(), rel=1e-6)
    monkeypatch.setattr("digits_sweep.training.evaluation.PORTION", 3)
    portions = evaluate(given.model, given.images, given.labels, how="unit")
    assert portions.loss == pytest.approx(whole.loss, rel=1e-6)
    assert replace(portions, loss=whole.loss) == whole


def test_layers_for_training_alone_are_off_meanwhile_and_nothing_is_left_changed():
    """A layer that the model keeps in evaluation mode stays in it."""
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Dropout(), nn.BatchNorm1d(784).eval(), nn.Linear(784, 10))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images, labels = torch.rand(20, 1, 28, 28), torch.arange(20) % 10
    assert evaluate(model, images, labels) == evaluate(model, images, labels)
    assert model.training
    assert [module.training for module in model] == [True, True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class AlwaysDropsOut(nn.Module):
    """Draws random numbers in evaluation mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(784, 10)

    def forward(self, images):
        return self.layer(nn.functional.dropout(images.flatten(1), training=True))


@pytest.mark.parametrize("model", [AlwaysDropsOut(), build_model(mlp(), 0), small_convolution()])
def test_measuring_takes_none_of_the_random_numbers_of_the_training(model):
    before = torch.get_rng_state()
    Evaluator(requested(noise_scale=True), digits(), "unit", CPU).measure(engine_of(model))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", [name for name in ENGINES if name not in GPU_ENGINES])
def test_an_engine_that_is_measured_between_iterations_trains_bit_for_bit_as_one_that_is_not(name):
    order = epoch_order(0, 1, 203)
    undisturbed, measured = (ENGINES[name](workload()) for _ in range(2))
    expected = undisturbed.train(order)
    evaluator = Evaluator(requested(noise_scale=True), digits(), "unit", CPU)
    losses, threads = [], torch.get_num_threads()
    for part in order.split(40):
        evaluator.measure(measured)
        losses.append(measured.train(part))
    assert torch.equal(torch.cat(losses), expected)
    assert torch.get_num_threads() == threads
    for one, other in zip(measured.model.parameters(), undisturbed.model.parameters(), strict=True):
        assert torch.equal(one, other)
        state, expected_state = measured.optimizer.state[one], undisturbed.optimizer.state[other]
        assert all(torch.equal(state[key], expected_state[key]) for key in expected_state)


@pytest.mark.parametrize("flushes", [True, False])
def test_measuring_leaves_denormals_as_they_are(flushes):
    torch.set_flush_denormal(flushes)
    Evaluator(requested(noise_scale=True), digits(), "unit", CPU).measure(engine_of(build_model(mlp(), 0)))
    assert ((torch.tensor(2e-38) / 10).item() == 0) == flushes


# On which digits


def test_a_model_is_measured_on_its_training_digits_and_on_test_digits():
    model, data = build_model(mlp(), 0), digits()
    measured = Evaluator(requested(test_samples=7), data, "unit", CPU).measure(engine_of(model))
    assert measured.train == evaluate(model, scale(data.train_images, "unit"), data.train_labels)
    assert (measured.train.count, measured.test.count, measured.noise) == (60, 7, None)


def test_digits_are_scaled_as_they_are_for_training():
    model, data = build_model(mlp(), 0), digits()
    measured = {
        how: Evaluator(requested(), data, how, CPU).measure(engine_of(model)).train
        for how in ("unit", "standard", "raw")
    }
    assert len({evaluation.loss for evaluation in measured.values()}) == 3
    assert measured["standard"] == evaluate(model, scale(data.train_images, "standard"), data.train_labels)


@given(sizes=st.tuples(st.integers(1, 500), st.integers(1, 500)).map(sorted), drawn_before=st.integers(0, 9))
def test_the_digits_are_a_function_of_how_many_there_are_and_how_many_are_wanted(sizes, drawn_before):
    """More digits are the same ones and others."""
    wanted, num_samples = sizes
    chosen = evaluated(num_samples, wanted)
    torch.rand(drawn_before)
    assert torch.equal(evaluated(num_samples, wanted), chosen)
    assert chosen.tolist() == sorted({*range(num_samples)} & {*chosen.tolist()})
    assert len(chosen) == wanted
    assert {*evaluated(num_samples, max(1, wanted // 2)).tolist()} <= {*chosen.tolist()}


def test_the_digits_are_the_same_in_every_version():
    assert evaluated(1_000, 5).tolist() == [37, 44, 675, 775, 947]
    assert torch.equal(evaluated(50, None), torch.arange(50))


def test_of_fewer_digits_than_there_are_to_be_all_are_evaluated():
    assert len(Evaluator(requested(train_samples=61), digits(), "unit", CPU).train.labels) == 60
