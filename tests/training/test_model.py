"""The lesson's network, and the others."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from digits_sweep.config.schema import CNNConfig, MLPConfig, ModelConfig, softmax_floor
from digits_sweep.errors import InvalidConfig
from digits_sweep.training.model import build_model
from tests.workloads import mlp, model_called


def lesson(head: str = "softmax") -> MLPConfig:
    return mlp(head=head, hidden_size=128)


def test_the_lessons_network_has_118_282_parameters():
    assert sum(parameter.numel() for parameter in build_model(lesson(), seed=42).parameters()) == 118_282


def test_the_softmax_head_gives_probabilities():
    scores = build_model(lesson(), seed=42)(torch.rand(5, 1, 28, 28))
    torch.testing.assert_close(scores.sum(dim=1), torch.ones(5))


def test_the_logits_head_gives_what_the_softmax_head_turns_into_probabilities():
    images = torch.rand(5, 1, 28, 28)
    logits, probabilities = (build_model(lesson(head), seed=42)(images) for head in ("logits", "softmax"))
    torch.testing.assert_close(logits.softmax(dim=1), probabilities)


def test_training_starts_near_the_logarithm_of_ten():
    images, labels = torch.rand(500, 1, 28, 28), torch.randint(0, 10, (500,))
    assert cross_entropy(build_model(lesson(), seed=42)(images), labels).item() == pytest.approx(math.log(10), abs=0.01)


def test_the_lessons_floor_is_what_a_perfect_prediction_costs():
    perfect = torch.eye(10)
    assert softmax_floor(10) == pytest.approx(1.4612, abs=5e-5)
    assert cross_entropy(perfect, torch.arange(10)).item() == pytest.approx(softmax_floor(10), abs=1e-6)


def test_a_wrong_prediction_costs_exactly_one_more():
    wrong = torch.eye(10).roll(1, dims=1)
    assert cross_entropy(wrong, torch.arange(10)).item() == pytest.approx(softmax_floor(10) + 1, abs=1e-6)


def test_initial_weights_follow_from_the_seed_alone():
    torch.manual_seed(1)
    first = build_model(lesson(), seed=42)
    torch.rand(7)
    again, other = build_model(lesson(), seed=42), build_model(lesson(), seed=43)
    assert torch.equal(first.output.weight, again.output.weight)
    assert not torch.equal(first.output.weight, other.output.weight)


def test_initial_weights_are_those_of_pytorchs_layers_made_in_order_after_the_seed():
    model = build_model(lesson(), seed=42)
    torch.manual_seed(42)
    layers = [nn.Linear(784, 128), nn.Linear(128, 128), nn.Linear(128, 10)]
    expected = [parameter for layer in layers for parameter in layer.parameters()]
    assert all(map(torch.equal, model.parameters(), expected))


def test_building_a_model_leaves_the_random_numbers_of_others_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    build_model(lesson(), seed=42)
    assert torch.equal(torch.rand(3), expected)


def test_a_model_is_built_for_images_of_any_shape():
    assert build_model(lesson(), seed=42, image_shape=(3, 8, 8))(torch.rand(2, 3, 8, 8)).shape == (2, 10)


def cnn(**changes: object) -> CNNConfig:
    given = {"channels": [6, 16], "kernel_size": 5, "hidden_size": 120, "activation": "relu"} | changes
    return CNNConfig(name="cnn", head="softmax", num_classes=10, **given)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("linear", 784 * 10 + 10),
        # Two convolutions of 5 x 5, of 1 to 6 and of 6 to 16 channels; 16 x 7 x 7 values are left of an image.
        ("cnn", (25 + 1) * 6 + (6 * 25 + 1) * 16 + (16 * 7 * 7 + 1) * 120 + (120 + 1) * 10),
    ],
)
def test_another_network_has_the_parameters_of_its_layers(name, parameters):
    model = build_model(model_called(name, "softmax"), seed=42)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.mark.parametrize("name", ["mlp", "cnn", "linear"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 8, 8), (3, 9, 13)])
@pytest.mark.parametrize("head", ["softmax", "logits"])
def test_every_network_gives_a_score_for_every_class_of_images_of_any_shape(name, shape, head):
    scores = build_model(model_called(name, head), seed=42, image_shape=shape)(torch.rand(5, *shape))
    assert scores.shape == (5, 10)
    assert torch.allclose(scores.sum(dim=1), torch.ones(5)) == (head == "softmax")


def test_a_cnn_has_the_channels_kernels_units_and_activation_of_its_configuration():
    model = build_model(cnn(channels=[2, 3, 4], kernel_size=3, hidden_size=7, activation="tanh"), seed=42)
    shapes = [tuple(each.shape) for each in model.parameters() if each.ndim > 1]
    assert shapes == [(2, 1, 3, 3), (3, 2, 3, 3), (4, 3, 3, 3), (7, 4 * 3 * 3), (10, 7)]
    assert sum(isinstance(each, nn.Tanh) for each in model.modules()) == 4


@pytest.mark.parametrize(
    ("channels", "shape", "text"),
    [
        ([6, 16], (1, 3, 28), r"model.channels=[6, 16]: must be at most 1, because each halves images of 1 x 3 x 28"),
        ([6], (64,), "model=cnn: needs images of channels x height x width, not 64"),
    ],
)
def test_images_that_are_too_small_for_a_cnn_or_no_images_are_refused(channels, shape, text):
    with pytest.raises(InvalidConfig) as refusal:
        build_model(cnn(channels=channels), seed=42, image_shape=shape)
    assert str(refusal.value) == text


def test_a_linear_model_takes_features_that_are_no_images():
    config = ModelConfig(name="linear", head="logits", num_classes=3)
    assert build_model(config, seed=42, image_shape=(64,))(torch.rand(2, 64)).shape == (2, 3)
