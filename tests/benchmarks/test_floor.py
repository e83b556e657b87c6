"""The arithmetic that a step cannot do without."""

import math
import shutil
from functools import cache

import pytest
import torch

from benchmarks.floor import Throughput, arithmetic_seconds, products, throughput
from digits_sweep.data.digits import Digits
from tests.workloads import settings, workload

ONLY_STEPS, ONLY_PRODUCTS = Throughput(1.0, 0.0), Throughput(0.0, 1.0)


@cache
def black(count: int) -> Digits:
    images, labels = torch.zeros(count, 28, 28, dtype=torch.uint8), torch.arange(count) % 10
    return Digits.of("black", images, labels, images, labels)


def test_every_parameter_is_stepped_in_every_iteration():
    config = settings("model.hidden_size=32", "data.batch_size=20")
    parameters = sum(parameter.numel() for parameter in workload(hidden_size=32).model.parameters())
    assert arithmetic_seconds(config, black(203), ONLY_STEPS) == 11 * parameters


def test_a_black_pixel_needs_no_product_in_the_first_layer():
    model = workload(hidden_size=32).model
    assert products(model, 1.0) - products(model, 0.25) == 2 * 0.75 * 784 * 32
    unit, standard = (settings("model.hidden_size=32", f"data.scale={scale}") for scale in ("unit", "standard"))
    assert arithmetic_seconds(unit, black(10), ONLY_PRODUCTS) == 10 * 3 * (32 * 32 + 32 * 10)
    assert arithmetic_seconds(standard, black(10), ONLY_PRODUCTS) == 10 * products(model, 1.0)


@pytest.mark.parametrize("choice", ["model=cnn", "optimizer=sgd"])
def test_another_network_or_optimizer_is_not_counted(choice):
    assert math.isnan(arithmetic_seconds(settings(choice), black(10), ONLY_STEPS))


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_root_with_a_division_takes_longer_than_a_product():
    rates = throughput()
    assert rates is not None
    assert 0 < rates.multiply_add < rates.root_and_division < 1e-6
