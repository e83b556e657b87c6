"""What the tests of this room share."""

from collections.abc import Iterator

import pytest
import torch

from digits_sweep.training.engines import ENGINES
from tests.workloads import on_this_machine


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread for every test: threads that share tiny operations wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=[on_this_machine(name) for name in ENGINES])
def engine_name(request: pytest.FixtureRequest) -> str:
    return request.param
