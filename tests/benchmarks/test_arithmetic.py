"""The arithmetic that a step cannot do without."""

import shutil

import pytest
import torch

from benchmarks.arithmetic import Throughput, arithmetic_seconds, products, throughput
from tests.workloads import small_convolution, workload

ONLY_STEPS, ONLY_PRODUCTS = Throughput(1.0, 0.0), Throughput(0.0, 1.0)


def test_every_parameter_is_stepped_in_every_iteration():
    made = workload(num_samples=203, batch_size=20)
    parameters = sum(each.numel() for each in made.model.parameters())
    assert arithmetic_seconds(made.model, made.images, "unit", 20, ONLY_STEPS) == 11 * parameters


def test_a_black_pixel_needs_no_product_in_the_first_layer():
    model = workload(hidden_size=32).model
    assert products(model, 1.0) - products(model, 0.25) == 2 * 0.75 * 784 * 32
    black = torch.zeros(10, 28, 28, dtype=torch.uint8)
    assert arithmetic_seconds(model, black, "unit", 5, ONLY_PRODUCTS) == 10 * 3 * (32 * 32 + 32 * 10)
    assert arithmetic_seconds(model, black, "standard", 5, ONLY_PRODUCTS) == 10 * products(model, 1.0)


def test_another_network_is_not_counted():
    with pytest.raises(TypeError):
        arithmetic_seconds(small_convolution(), torch.zeros(1, 28, 28), "unit", 1, ONLY_STEPS)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_root_with_a_division_takes_longer_than_a_product():
    found = throughput()
    assert found is not None
    assert 0 < found.multiply_add < found.root_and_division < 1e-6
