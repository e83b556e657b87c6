"""The lesson's network, and the others."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from digits_sweep.config.schema import CNNConfig, ModelConfig, softmax_floor
from digits_sweep.errors import InvalidConfig
from digits_sweep.training.model import build_model
from tests.workloads import KNOWN_MODELS, mlp, model_called


def lesson(head: str = "softmax", seed: int = 42) -> nn.Module:
    return build_model(mlp(head=head, hidden_size=128), seed)


def test_the_logits_head_gives_what_the_softmax_head_turns_into_probabilities():
    images = torch.rand(5, 1, 28, 28)
    torch.testing.assert_close(lesson("logits")(images).softmax(dim=1), lesson("softmax")(images))


def test_training_starts_near_the_logarithm_of_ten():
    images, labels = torch.rand(500, 1, 28, 28), torch.randint(0, 10, (500,))
    assert cross_entropy(lesson()(images), labels).item() == pytest.approx(math.log(10), abs=0.01)


def test_the_lessons_floor_is_what_a_perfect_prediction_costs_and_a_wrong_one_costs_one_more():
    right, wrong = (torch.eye(10).roll(places, dims=1) for places in (0, 1))
    assert softmax_floor(10) == pytest.approx(1.4612, abs=5e-5)
    assert cross_entropy(right, torch.arange(10)).item() == pytest.approx(softmax_floor(10), abs=1e-6)
    assert cross_entropy(wrong, torch.arange(10)).item() == pytest.approx(softmax_floor(10) + 1, abs=1e-6)


def test_initial_weights_are_those_of_pytorchs_layers_made_in_order_after_the_seed():
    before = torch.get_rng_state()
    model, other = lesson(), lesson(seed=43)
    assert torch.equal(torch.get_rng_state(), before), "the random numbers of others are left alone"
    torch.manual_seed(42)
    layers = [nn.Linear(784, 128), nn.Linear(128, 128), nn.Linear(128, 10)]
    expected = [parameter for layer in layers for parameter in layer.parameters()]
    assert all(map(torch.equal, model.parameters(), expected))
    assert not torch.equal(model.output.weight, other.output.weight)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mlp", 118_282),
        ("linear", 784 * 10 + 10),
        # Two convolutions of 5 x 5, of 1 to 6 and of 6 to 16 channels; 16 x 7 x 7 values are left of an image.
        ("cnn", (25 + 1) * 6 + (6 * 25 + 1) * 16 + (16 * 7 * 7 + 1) * 120 + (120 + 1) * 10),
    ],
)
def test_a_network_has_the_parameters_of_its_layers(name, parameters):
    model = build_model(model_called(name, "softmax"), seed=42)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.mark.parametrize("name", KNOWN_MODELS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 8, 8), (3, 9, 13)])
@pytest.mark.parametrize("head", ["softmax", "logits"])
def test_every_network_gives_a_score_for_every_class_of_images_of_any_shape(name, shape, head):
    scores = build_model(model_called(name, head), seed=42, image_shape=shape)(torch.rand(5, *shape))
    assert scores.shape == (5, 10)
    assert torch.allclose(scores.sum(dim=1), torch.ones(5)) == (head == "softmax")


def cnn(**changes: object) -> CNNConfig:
    keys = {"channels": [6, 16], "kernel_size": 5, "hidden_size": 120, "activation": "relu"} | changes
    return CNNConfig(name="cnn", head="softmax", num_classes=10, **keys)


def test_a_cnn_has_the_channels_kernels_units_and_activation_of_its_configuration():
    model = build_model(cnn(channels=[2, 3, 4], kernel_size=3, hidden_size=7, activation="tanh"), seed=42)
    shapes = [tuple(parameter.shape) for parameter in model.parameters() if parameter.ndim > 1]
    assert shapes == [(2, 1, 3, 3), (3, 2, 3, 3), (4, 3, 3, 3), (7, 4 * 3 * 3), (10, 7)]
    assert sum(isinstance(module, nn.Tanh) for module in model.modules()) == 4


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
