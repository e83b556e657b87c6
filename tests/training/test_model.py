"""The lesson's network."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from digits_sweep.config.schema import MLPConfig
from digits_sweep.results.history import softmax_floor
from digits_sweep.training.model import build_model
from tests.workloads import mlp


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
