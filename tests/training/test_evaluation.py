"""What a model predicts at frozen weights, on which digits, and that looking at it changes nothing."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from digits_sweep.config.schema import EvaluationConfig
from digits_sweep.data.digits import Digits, scale
from digits_sweep.training.engines import ENGINES
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


def asked(**keys: object) -> EvaluationConfig:
    """What `evaluation=fine` asks for, on every digit there is, but for these keys."""
    return replace(settings("evaluation=fine", "evaluation.train_samples=null").evaluation, **keys)


class AlwaysThree(nn.Module):
    def forward(self, images):
        return torch.eye(10)[torch.full((len(images),), 3)]


def test_accuracy_and_the_classes_that_are_never_predicted_are_counted():
    found = evaluate(AlwaysThree(), torch.rand(20, 1, 28, 28), torch.arange(20) % 10)
    assert (found.accuracy, found.error) == (0.1, 0.9)
    assert found.classes_never_predicted == 9
    assert found.predictions_per_class == [0, 0, 0, 20, 0, 0, 0, 0, 0, 0]


def test_the_loss_is_the_mean_over_the_images():
    given = workload(num_samples=57)
    images = scale(given.images, "unit")
    expected = cross_entropy(given.model(images), given.labels).item()
    assert evaluate(given.model, images, given.labels).loss == pytest.approx(expected, rel=1e-6)


def test_the_size_of_the_portions_changes_nothing_but_a_rounding():
    images, labels = torch.rand(20, 1, 28, 28), torch.arange(20) % 10
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    portions, whole = evaluate(model, images, labels, batch_size=3), evaluate(model, images, labels)
    assert (portions.correct, portions.predictions_per_class) == (whole.correct, whole.predictions_per_class)
    assert portions.loss == pytest.approx(whole.loss, rel=1e-6)


def test_layers_for_training_alone_are_off_meanwhile_and_nothing_is_left_changed():
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(784, 10))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images, labels = torch.rand(20, 1, 28, 28), torch.arange(20) % 10
    assert evaluate(model, images, labels) == evaluate(model, images, labels)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_layer_that_the_model_keeps_in_evaluation_mode_stays_in_it():
    model = nn.Sequential(nn.BatchNorm2d(1).eval(), nn.Flatten(), nn.Linear(784, 10))
    evaluate(model, torch.rand(20, 1, 28, 28), torch.arange(20) % 10)
    assert [module.training for module in model] == [False, True, True]
    assert model.training


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
    Evaluator(asked(noise_scale=True), digits(), "unit", CPU).measure(model)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", [name for name in ENGINES if name not in GPU_ENGINES])
def test_an_engine_that_is_measured_between_iterations_trains_bit_for_bit_as_one_that_is_not(name):
    order = epoch_order(0, 1, 203)
    undisturbed, measured = (ENGINES[name](workload()) for _ in range(2))
    expected = undisturbed.train(order)
    evaluator = Evaluator(asked(noise_scale=True), digits(), "unit", CPU)
    losses, threads = [], torch.get_num_threads()
    for part in order.split(40):
        evaluator.measure(measured.model)
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
    Evaluator(asked(noise_scale=True), digits(), "unit", CPU).measure(build_model(mlp(), 0))
    assert ((torch.tensor(2e-38) / 10).item() == 0) == flushes


# On which digits


def test_a_model_is_measured_on_its_training_digits_and_on_test_digits():
    model, data = build_model(mlp(), 0), digits()
    found = Evaluator(asked(test_samples=7), data, "unit", CPU).measure(model)
    assert found.train == evaluate(model, scale(data.train_images, "unit"), data.train_labels)
    assert (found.train.count, found.test.count, found.noise) == (60, 7, None)


@pytest.mark.parametrize("noise_scale", [True, False])
def test_what_is_measured_makes_a_row(noise_scale):
    model, data = build_model(mlp(), 0), digits()
    found = Evaluator(asked(noise_scale=noise_scale), data, "unit", CPU).measure(model)
    row = found.row(iterations=3, examples=60, seconds=0.5)
    assert (row.iterations, row.examples, row.seconds, row.running_loss) == (3, 60, 0.5, None)
    assert (row.train_loss, row.test_error) == (found.train.loss, found.test.error)
    assert row.classes_never_predicted == found.test.classes_never_predicted
    assert (row.noise_scale is not None) == noise_scale
    if noise_scale:
        assert row.noise_scale == row.gradient_trace / row.gradient_squared_norm


def test_digits_are_scaled_as_they_are_for_training():
    model, data = build_model(mlp(), 0), digits()
    found = {how: Evaluator(asked(), data, how, CPU).measure(model).train.loss for how in ("unit", "standard", "raw")}
    assert len(set(found.values())) == 3
    images = scale(data.train_images, "standard")
    assert found["standard"] == evaluate(model, images, data.train_labels).loss


SIZES = st.tuples(st.integers(1, 500), st.integers(1, 500)).map(sorted)


@given(sizes=SIZES, drawn_before=st.integers(0, 9))
def test_the_digits_are_a_function_of_how_many_there_are_and_how_many_are_wanted(sizes, drawn_before):
    wanted, num_samples = sizes
    chosen = evaluated(num_samples, wanted)
    torch.rand(drawn_before)
    assert torch.equal(evaluated(num_samples, wanted), chosen)
    assert len(set(chosen.tolist())) == wanted
    assert chosen.tolist() == sorted(chosen.tolist())
    assert 0 <= chosen[0] <= chosen[-1] < num_samples


@given(sizes=SIZES)
def test_more_digits_are_the_same_ones_and_others(sizes):
    wanted, num_samples = sizes
    assert set(evaluated(num_samples, max(1, wanted // 2)).tolist()) <= set(evaluated(num_samples, wanted).tolist())


def test_all_digits_are_all_in_their_order():
    assert torch.equal(evaluated(50, None), torch.arange(50))
    assert torch.equal(evaluated(50, 50), torch.arange(50))


def test_the_digits_are_the_same_in_every_version():
    assert evaluated(1_000, 5).tolist() == [37, 44, 675, 775, 947]


def test_more_digits_than_there_are_are_refused():
    with pytest.raises(ValueError, match="cannot evaluate on 61 of 60 digits"):
        Evaluator(asked(train_samples=61), digits(), "unit", CPU)
