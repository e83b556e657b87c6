"""The losses: what they are of a batch, of single examples, and where there are classes."""

import math
import sys
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from digits_sweep.config.schema import CrossEntropyConfig, LossConfig, OwnLossConfig, smoothed_floor
from digits_sweep.errors import InvalidConfig
from digits_sweep.training.evaluation import evaluate
from digits_sweep.training.gradient_noise import gradient_sums
from digits_sweep.training.losses import PLAIN, balanced, build_loss, tensor_of

SCORES, CLASSES = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0, 0])


def cross_entropy(labels, smoothing=0.0, weights=None):
    return build_loss(CrossEntropyConfig("cross_entropy", smoothing, weights), labels, 4)


def test_the_default_is_pytorchs_own_function_to_the_bit():
    assert cross_entropy(CLASSES) is PLAIN
    assert torch.equal(PLAIN(SCORES, CLASSES), functional.cross_entropy(SCORES, CLASSES))


def test_balanced_weights_let_every_class_weigh_the_same_and_examples_1_on_average():
    weights = balanced(CLASSES, 5)
    assert (weights[:4] * torch.bincount(CLASSES)).tolist() == pytest.approx([1.5] * 4)
    assert float(weights[CLASSES].mean()) == pytest.approx(1)
    assert weights[4] == 0


@given(st.integers(1, 5))
def test_the_weighted_loss_of_all_is_the_mean_of_its_parts_whatever_the_batch_size(cut):
    loss = cross_entropy(CLASSES, weights="balanced")
    parts = [loss(SCORES[part], CLASSES[part]) * len(CLASSES[part]) for part in (slice(cut), slice(cut, None))]
    assert float(sum(parts)) / 6 == pytest.approx(float(loss(SCORES, CLASSES)), rel=1e-5)


def test_a_label_at_every_place_has_its_classes_last_or_behind_the_examples():
    places = torch.tensor([[0, 1, -100], [2, 3, 0]])
    scores = torch.randn(2, 3, 4)
    loss = cross_entropy(places)
    expected = functional.cross_entropy(scores.flatten(0, 1), places.flatten())
    assert torch.equal(loss(scores, places), expected)
    # As PyTorch has masks: (n, classes, places), of other sizes than (n, places, classes).
    assert float(loss(scores.movedim(2, 1), places)) == pytest.approx(float(expected))
    predicted, right, classes = loss.classify(scores, places)
    assert (len(predicted), right.tolist(), classes) == (5, [0, 1, 2, 3, 0], 4)


def test_soft_labels_and_smoothing():
    shares = torch.softmax(torch.randn(6, 4), 1)
    loss = cross_entropy(shares)
    assert torch.equal(loss(SCORES, shares), functional.cross_entropy(SCORES, shares))
    smooth = cross_entropy(CLASSES, smoothing=0.1)
    assert torch.equal(smooth(SCORES, CLASSES), functional.cross_entropy(SCORES, CLASSES, label_smoothing=0.1))
    certain = torch.full((1, 4), math.log(0.1 / 4))
    certain[0, 0] = math.log(0.9 + 0.1 / 4)
    assert float(smooth(certain, CLASSES[:1])) == pytest.approx(smoothed_floor(4, 0.1), rel=1e-5)


@pytest.mark.parametrize("labels", [torch.rand(6), torch.rand(6, 2)])
@pytest.mark.parametrize("name", ["mse", "bce"])
def test_outputs_are_never_broadcast(name, labels):
    loss = build_loss(LossConfig(name), labels)
    outputs = torch.rand(labels.numel()).reshape(6, -1)
    assert torch.equal(loss(outputs, labels), loss(outputs.reshape(labels.shape), labels))
    with pytest.raises(ValueError, match="do not fit labels"):
        loss(torch.rand(6, 3), labels)


def test_there_are_errors_only_where_there_are_classes():
    model = nn.Linear(3, 1)
    images, numbers = torch.rand(6, 3), torch.rand(6)
    loss = build_loss(LossConfig("mse"), numbers)
    seen = evaluate(model, images, numbers, loss=loss)
    assert [seen.error, seen.accuracy, seen.classes_never_predicted] == [None] * 3
    assert seen.predictions_per_class == []
    assert seen.loss == pytest.approx(loss(model(images), numbers).item(), rel=1e-5)
    assert gradient_sums(model, images, numbers, loss).noise().trace > 0
    binary = evaluate(model, images, numbers.round(), loss=build_loss(LossConfig("bce"), numbers.round()))
    assert binary.count == 6
    assert 0 <= binary.error <= 1


NAMED = SimpleNamespace(logits=SCORES, loss=None)


@pytest.mark.parametrize("outputs", [SCORES, {"logits": SCORES}, NAMED, (SCORES, None), {"out": SCORES, "aux": SCORES}])
def test_the_scores_are_found_in_whatever_a_network_returns(outputs):
    assert tensor_of(outputs) is SCORES


def test_outputs_without_scores_are_refused_by_their_kind():
    with pytest.raises(TypeError, match="outputs are str, must be a tensor, or have one that is called logits"):
        tensor_of("scores")


@pytest.fixture
def own(monkeypatch):
    """Build a loss of the user's."""

    def build(function, labels=CLASSES, **arguments):
        monkeypatch.setitem(sys.modules, "made_up", SimpleNamespace(loss=function))
        return build_loss(OwnLossConfig("own", "made_up:loss", arguments), labels, 4)

    return build


def test_a_loss_of_the_users_is_a_function_or_a_class(own):
    mean = functional.cross_entropy(SCORES, CLASSES)
    assert torch.equal(own(functional.cross_entropy)(SCORES, CLASSES), mean)
    assert torch.equal(own(nn.CrossEntropyLoss, label_smoothing=0.0)(SCORES, CLASSES), mean)
    assert own(functional.cross_entropy)(SCORES, CLASSES, reduction="none").tolist() == [float(mean)] * 6
    assert own(functional.cross_entropy).classify(SCORES, CLASSES)[2] == 4
    assert own(functional.mse_loss, torch.rand(6, 4)).classify(SCORES, torch.rand(6, 4)) is None


def test_a_loss_that_is_no_mean_is_refused(own):
    with pytest.raises(TypeError, match=r"the loss is a tensor of \(6, 4\), must be the mean over the batch"):
        own(lambda outputs, labels: outputs)(SCORES, CLASSES)


def test_soft_labels_have_no_balanced_weights():
    with pytest.raises(InvalidConfig, match=r"loss\.class_weights=balanced: needs labels that are classes"):
        cross_entropy(torch.rand(6, 4), weights="balanced")
