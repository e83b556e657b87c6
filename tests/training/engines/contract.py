"""What the tests of all engines train, and what they compare."""

from collections.abc import Sequence
from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from digits_sweep.training.engines import ENGINES
from digits_sweep.training.engines.protocol import Engine, Workload
from digits_sweep.training.epochs import epoch_order
from tests.workloads import (
    ADAM,
    KNOWN_MODELS,
    KNOWN_OPTIMIZERS,
    PLAIN_SGD,
    SGD,
    model_called,
    optimizer_called,
    workload,
)

# An epoch here is some tens of steps. Each rounds a loss near 2 to 2.4e-7 at best, and the next one starts from weights
# that differ in their last bits, so a hundred such steps are allowed; a wrong term anywhere shows as 1e-3 and more.
TOLERANCE = 2e-5

HEADS = ("softmax", "logits")
# Of 100 images: one that divides them, one that leaves a smaller last batch, and all of them.
BATCH_SIZES = (20, 30, 100)
OPTIONS = {"faster": ADAM, "nesterov": SGD, "no momentum": PLAIN_SGD}
OPTIMIZERS = (*KNOWN_OPTIMIZERS, *OPTIONS)
CASES = [*product(KNOWN_MODELS, KNOWN_OPTIMIZERS, HEADS, BATCH_SIZES), *product(["mlp"], OPTIONS, HEADS, [30])]


def case(model: str, optimizer: str, head: str, batch_size: int, device: str = "cpu") -> Workload:
    """100 images, and a model and an optimizer by their names."""
    config = OPTIONS.get(optimizer) or optimizer_called(optimizer)
    return workload(100, batch_size, config, model=model_called(model, head), device=device)


def skip_if_refused(name: str, given: Workload) -> None:
    if reason := ENGINES[name].refusal(given):
        pytest.skip(f"{name}: {reason}")


def trained(
    name: str, given: Workload, epochs: int = 2, cuts: Sequence[int] = (), rates: list[float] | None = None
) -> tuple[Tensor, Engine]:
    """The loss of every iteration, and the engine after them.

    Every epoch is cut after so many batches, and has these shares of the learning rate.
    """
    engine, size, num_samples, losses = ENGINES[name](given), given.batch_size, len(given.images), []
    ends = [0, *(min(cut * size, num_samples) for cut in cuts), num_samples]
    for epoch, (start, end) in product(range(1, epochs + 1), pairwise(ends)):
        if end > start:
            part = epoch_order(0, epoch, num_samples)[start:end]
            losses.append(engine.train(part, rates and rates[start // size : -(-end // size)]).cpu())
    return torch.cat(losses), engine


def tensors_in(engine: Engine) -> dict[tuple[int, str], Tensor]:
    """What the optimizer keeps, by parameter and name."""
    states = engine.optimizer.state_dict()["state"]
    return {
        (parameter, name): value.cpu()
        for parameter, state in states.items()
        for name, value in state.items()
        if isinstance(value, Tensor)
    }


def assert_same_bits(one: tuple[Tensor, Engine], other: tuple[Tensor, Engine]) -> None:
    (losses, engine), (expected, undisturbed) = one, other
    assert torch.equal(losses, expected)
    weights, expected_weights = engine.model.state_dict(), undisturbed.model.state_dict()
    assert all(torch.equal(weights[name], expected_weights[name]) for name in expected_weights)
    state, expected_state = tensors_in(engine), tensors_in(undisturbed)
    assert state.keys() == expected_state.keys()
    assert all(torch.equal(state[name], expected_state[name]) for name in expected_state)
