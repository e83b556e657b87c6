"""A learning rate that changes: every engine that follows a schedule takes the rates that it is given."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from digits_sweep.data.digits import scale
from digits_sweep.training.engines import ENGINES
from digits_sweep.training.engines.protocol import Engine, Workload
from digits_sweep.training.epochs import epoch_order
from digits_sweep.training.optimizers import build_optimizer
from tests.training.engines.contract import OPTIONS, TOLERANCE, assert_same_bits, case, skip_if_refused, trained
from tests.workloads import KNOWN_OPTIMIZERS, device_of


def shares(iterations: int) -> list[float]:
    """Learning rates that rise and fall again, as shares of the whole one."""
    return [(1 + iteration % 4) / 4 for iteration in range(iterations)]


def trained_on_schedule(name: str, given: Workload, cuts: Sequence[int] = ()) -> tuple[Tensor, Engine]:
    """Two epochs, each cut after so many batches."""
    engine, num_samples, losses = ENGINES[name](given), len(given.images), []
    ends = [0, *(cut * given.batch_size for cut in cuts), num_samples]
    for epoch in (1, 2):
        rates = shares(-(-num_samples // given.batch_size))
        for start, end in pairwise(ends):
            order = epoch_order(0, epoch, num_samples)[start:end]
            first, count = start // given.batch_size, -(-len(order) // given.batch_size)
            losses.append(engine.train(order, rates[first : first + count]).cpu())
    return torch.cat(losses), engine


def textbook_on_schedule(given: Workload) -> tuple[list[float], nn.Module]:
    """A loop that builds an optimizer with the rate of the step for every step, and hands the state on."""
    images, state, losses = scale(given.images, given.scale), {}, []
    for epoch in (1, 2):
        batches = epoch_order(0, epoch, len(images)).split(given.batch_size)
        for batch, share in zip(batches, shares(len(batches)), strict=True):
            config = replace(given.optimizer, lr=given.optimizer.lr * share)
            steps = build_optimizer(config, given.model.parameters(), fused=False)
            steps.load_state_dict({"state": state, "param_groups": steps.state_dict()["param_groups"]})
            loss = cross_entropy(given.model(images[batch]), given.labels[batch])
            steps.zero_grad()
            loss.backward()
            steps.step()
            state = steps.state_dict()["state"]
            losses.append(loss.item())
    return losses, given.model


def scheduled(engine_name: str, optimizer: str, batch_size: int) -> partial[Workload]:
    """What makes a workload that the engine trains with rates that change; skip if it does not."""
    given = partial(case, "mlp", optimizer, "softmax", batch_size, device_of(engine_name))
    if not ENGINES[engine_name].follows_schedules:
        pytest.skip(f"{engine_name} trains with schedule=constant only")
    skip_if_refused(engine_name, given())
    return given


@pytest.mark.sampled(3)
@pytest.mark.parametrize("optimizer", [*KNOWN_OPTIMIZERS, *OPTIONS])
def test_every_engine_that_follows_a_schedule_steps_with_its_rates(engine_name, optimizer):
    given = scheduled(engine_name, optimizer, batch_size=30)
    losses, engine = trained_on_schedule(engine_name, given())
    expected, textbook = textbook_on_schedule(case("mlp", optimizer, "softmax", 30))
    assert (losses - torch.tensor(expected)).abs().max() < TOLERANCE
    for weight, right in zip(engine.model.parameters(), textbook.parameters(), strict=True):
        assert (weight.cpu() - right).abs().max() < given().optimizer.lr / 10
    assert_same_bits(trained_on_schedule(engine_name, given(), cuts=[1, 3]), (losses, engine))


@pytest.mark.parametrize("optimizer", KNOWN_OPTIMIZERS)
def test_whole_rates_in_every_step_give_the_bits_of_no_schedule(engine_name, optimizer):
    given = scheduled(engine_name, optimizer, batch_size=20)
    engine, order = ENGINES[engine_name](given()), epoch_order(0, 1, 100)
    assert_same_bits((engine.train(order, [1.0] * 5).cpu(), engine), trained(engine_name, given(), epochs=1))
