"""In which order an epoch sees the digits: a function of seed and epoch, and of nothing else."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from digits_sweep.training.epoch_order import epoch_order

SEEDS = st.integers(0, 2**63 - 1)
EPOCHS = st.integers(1, 1_000)
# From 20 samples on, two orders drawn independently are the same once in 2e18.
ENOUGH = st.integers(20, 300)


@given(seed=SEEDS, epoch=EPOCHS, num_samples=st.integers(0, 300))
def test_an_epoch_sees_every_sample_once(seed, epoch, num_samples):
    order = epoch_order(seed, epoch, num_samples)
    assert order.dtype == torch.int64
    assert order.device.type == "cpu"
    assert torch.equal(order.sort().values, torch.arange(num_samples))


@given(seed=SEEDS, epoch=EPOCHS, num_samples=ENOUGH, drawn_before=st.integers(0, 9))
def test_the_order_is_the_same_whatever_was_drawn_before(seed, epoch, num_samples, drawn_before):
    expected = epoch_order(seed, epoch, num_samples)
    torch.rand(drawn_before)
    for earlier in range(1, 1 + drawn_before):
        epoch_order(seed, earlier, num_samples)
    assert torch.equal(epoch_order(seed, epoch, num_samples), expected)


@given(seed=SEEDS, epochs=st.lists(EPOCHS, min_size=2, max_size=2, unique=True), num_samples=ENOUGH)
def test_two_epochs_of_a_run_have_different_orders(seed, epochs, num_samples):
    one, other = (epoch_order(seed, epoch, num_samples) for epoch in epochs)
    assert not torch.equal(one, other)


@given(seeds=st.lists(SEEDS, min_size=2, max_size=2, unique=True), epoch=EPOCHS, num_samples=ENOUGH)
def test_two_seeds_have_different_orders(seeds, epoch, num_samples):
    one, other = (epoch_order(seed, epoch, num_samples) for seed in seeds)
    assert not torch.equal(one, other)


def test_no_seed_repeats_in_a_later_epoch_what_its_neighbour_did_in_an_earlier_one():
    orders = {tuple(epoch_order(seed, epoch, 50).tolist()) for seed in range(30) for epoch in range(1, 31)}
    assert len(orders) == 900


def test_the_first_epoch_of_seed_42_is_the_same_in_every_version():
    assert epoch_order(42, 1, 10).tolist() == [1, 3, 6, 5, 7, 9, 0, 2, 4, 8]


def test_drawing_an_order_leaves_other_random_numbers_as_they_were():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    epoch_order(7, 1, 100)
    assert torch.equal(torch.rand(3), expected)


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="non-negative"):
        epoch_order(-1, 1, 10)
