"""The lesson's network."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from digits_sweep.config.schema import ModelConfig
from digits_sweep.results.history import softmax_floor
from digits_sweep.training.evaluation import evaluate
from digits_sweep.training.model import build_model


def config(head: str = "softmax", hidden_layers: int = 2) -> ModelConfig:
    return ModelConfig(
        name="mlp", hidden_size=128, hidden_layers=hidden_layers, activation="relu", head=head, num_classes=10
    )


def test_the_lessons_network_has_118_282_parameters():
    assert sum(parameter.numel() for parameter in build_model(config(), seed=42).parameters()) == 118_282


def test_the_softmax_head_gives_probabilities():
    scores = build_model(config(), seed=42)(torch.rand(5, 1, 28, 28))
    torch.testing.assert_close(scores.sum(dim=1), torch.ones(5))


def test_training_starts_near_the_logarithm_of_ten():
    images, labels = torch.rand(500, 1, 28, 28), torch.randint(0, 10, (500,))
    assert cross_entropy(build_model(config(), seed=42)(images), labels).item() == pytest.approx(math.log(10), abs=0.01)


def test_the_lesson_s_floor_is_what_a_perfect_answer_costs():
    perfect = torch.eye(10)
    assert softmax_floor(10) == pytest.approx(1.4612, abs=5e-5)
    assert cross_entropy(perfect, torch.arange(10)).item() == pytest.approx(softmax_floor(10), abs=1e-6)


def test_a_wrong_answer_costs_exactly_one_more():
    wrong = torch.eye(10).roll(1, dims=1)
    assert cross_entropy(wrong, torch.arange(10)).item() == pytest.approx(softmax_floor(10) + 1, abs=1e-6)


def test_initial_weights_follow_from_the_seed_alone():
    torch.manual_seed(1)
    first = build_model(config(), seed=42)
    torch.rand(7)
    again, other = build_model(config(), seed=42), build_model(config(), seed=43)
    assert torch.equal(first.output.weight, again.output.weight)
    assert not torch.equal(first.output.weight, other.output.weight)


def test_building_a_model_leaves_the_random_numbers_of_others_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    build_model(config(), seed=42)
    assert torch.equal(torch.rand(3), expected)


def test_a_class_that_is_never_the_answer_is_counted():
    class AlwaysThree(torch.nn.Module):
        def forward(self, images):
            return torch.eye(10)[torch.full((len(images),), 3)]

    found = evaluate(AlwaysThree(), torch.rand(20, 1, 28, 28), torch.arange(20) % 10)
    assert found.accuracy == pytest.approx(0.1)
    assert found.classes_never_predicted == 9
    assert found.answers_per_class == [0, 0, 0, 20, 0, 0, 0, 0, 0, 0]
