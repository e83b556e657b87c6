"""A batch in parts: the same losses and weights as the whole one, or what breaks that is named."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, dropout

from digits_sweep.config.schema import CrossEntropyConfig, LossConfig, ScheduleConfig
from digits_sweep.data.digits import IGNORED
from digits_sweep.training.engines import ENGINES, engines_for
from digits_sweep.training.engines.eager import EagerEngine
from digits_sweep.training.first_step import difference
from digits_sweep.training.losses import PLAIN, Loss, build_loss
from digits_sweep.training.model import build_model
from tests.workloads import KNOWN_MODELS, PLAIN_SGD, model_called, workload


@pytest.mark.parametrize("micro_batch", [1, 7, 50, 99])
def test_every_size_of_a_part_gives_the_losses_and_weights_of_the_whole_batch(micro_batch):
    order = torch.randperm(203, generator=torch.Generator().manual_seed(1))
    engines = []
    for size in (None, micro_batch):
        engine = EagerEngine(replace(workload(batch_size=100, optimizer=PLAIN_SGD), micro_batch=size))
        engines.append((engine.train(order), engine.model.state_dict()))
    (losses, weights), (losses_in_parts, weights_in_parts) = engines
    assert torch.allclose(losses, losses_in_parts, rtol=1e-5)
    for name, value in weights.items():
        assert torch.allclose(value, weights_in_parts[name], atol=1e-6), name


def test_a_part_that_holds_the_batch_changes_no_bit():
    one, other = (EagerEngine(replace(workload(), micro_batch=size)) for size in (None, 20))
    order = torch.arange(203)
    assert torch.equal(one.train(order), other.train(order))
    assert all(map(torch.equal, one.model.state_dict().values(), other.model.state_dict().values()))


@pytest.mark.parametrize(
    ("config", "labels"),
    [
        (CrossEntropyConfig("cross_entropy"), torch.tensor([0, IGNORED, IGNORED, IGNORED, 2, 1, IGNORED])),
        (CrossEntropyConfig("cross_entropy", label_smoothing=0.2), torch.tensor([0, 1, 2, 2, 2, 1, 0])),
        (CrossEntropyConfig("cross_entropy", class_weights="balanced"), torch.tensor([0, 1, 2, 2, 2, 2, 0])),
        (CrossEntropyConfig("cross_entropy"), torch.rand(7, 3).softmax(1)),
        (LossConfig("mse"), torch.rand(7, 3)),
        (LossConfig("bce"), torch.rand(7, 3).round()),
    ],
)
def test_the_parts_of_every_loss_add_up_to_its_mean(config, labels):
    loss, outputs = build_loss(config, labels, 3), torch.randn(7, 3)
    parts = [loss.part(some, answers, labels) for some, answers in zip(outputs.split(3), labels.split(3), strict=True)]
    assert sum(parts).item() == pytest.approx(loss(outputs, labels).item(), rel=1e-5)


def test_an_engine_that_takes_whole_batches_only_is_refused_by_name_and_auto_takes_another():
    in_parts = replace(workload(), micro_batch=10)
    for name, engine in ENGINES.items():
        if not engine.accumulates and engine.refusal(workload()) is None:
            assert engine.refusal(in_parts) == "it takes whole batches only, no data.micro_batch"
            assert engine.refusal(replace(in_parts, micro_batch=20)) is None, name
            grows = replace(in_parts, micro_batch=20, schedule=ScheduleConfig(batch="grow"))
            assert engine.refusal(grows) is not None, name
    assert engines_for("auto", in_parts)[0] == ["eager"]


class Sizes(nn.Module):
    """Divides by the size of its batch."""

    def forward(self, images):
        return images / len(images)


class Draws(nn.Module):
    def forward(self, images):
        return dropout(images, 0.5, self.training)


SHARED = nn.ReLU()


@pytest.mark.parametrize(
    ("layers", "named"),
    [
        ([nn.Linear(9, 8), SHARED, nn.Linear(8, 8), SHARED, nn.Dropout(0.5), nn.LayerNorm(8), nn.Linear(8, 3)], None),
        ([nn.Linear(9, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)], "1 (BatchNorm1d)"),
        ([nn.Linear(9, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 3)], "2 (BatchNorm1d)"),
        ([nn.Linear(9, 3), Sizes()], "1 (Sizes)"),
        # What draws by itself draws others in parts: nothing behind it can be compared.
        ([nn.Linear(9, 8), Draws(), nn.Linear(8, 3)], None),
    ],
)
def test_the_first_layer_that_differs_is_named(layers, named):
    torch.manual_seed(0)
    model, images, labels = nn.Sequential(*layers), torch.randn(8, 9), torch.arange(8) % 3
    before = {name: value.clone() for name, value in model.state_dict().items()}
    why = difference(model, images, labels, PLAIN)
    assert why == (named and f"what {named} makes of an example depends on the others of its batch")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_loss_that_is_no_mean_over_examples_is_named():
    largest = Loss(lambda outputs, labels, reduction="mean": cross_entropy(outputs, labels, reduction="none").max())
    why = difference(nn.Linear(9, 3), torch.randn(8, 9), torch.arange(8) % 3, largest)
    assert why == "the loss of a batch is no mean over its examples"


@pytest.mark.parametrize("name", KNOWN_MODELS)
def test_the_networks_of_the_program_can_be_trained_in_parts(name):
    model = build_model(model_called(name, "softmax"), 0)
    assert difference(model, torch.rand(8, 1, 28, 28), torch.arange(8), PLAIN) is None
