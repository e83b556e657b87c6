"""What a trained model predicts for images that it was not trained on."""

import pytest
import torch
from torch import nn

from digits_sweep.training.evaluation import evaluate


class AlwaysThree(nn.Module):
    def forward(self, images):
        return torch.eye(10)[torch.full((len(images),), 3)]


def test_accuracy_and_the_classes_that_are_never_predicted_are_counted():
    found = evaluate(AlwaysThree(), torch.rand(20, 1, 28, 28), torch.arange(20) % 10)
    assert found.accuracy == pytest.approx(0.1)
    assert found.classes_never_predicted == 9
    assert found.answers_per_class == [0, 0, 0, 20, 0, 0, 0, 0, 0, 0]


def test_the_size_of_the_portions_changes_nothing():
    images, labels = torch.rand(20, 1, 28, 28), torch.arange(20) % 10
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    assert evaluate(model, images, labels, batch_size=3) == evaluate(model, images, labels)


def test_layers_for_training_alone_are_off_meanwhile_and_nothing_is_left_changed():
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(784, 10))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images, labels = torch.rand(20, 1, 28, 28), torch.arange(20) % 10
    assert evaluate(model, images, labels) == evaluate(model, images, labels)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
