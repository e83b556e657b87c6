"""What the tests of all engines share."""

import pytest

from digits_sweep.training.engines import ENGINES
from tests.workloads import on_this_machine


@pytest.fixture(params=[on_this_machine(name) for name in ENGINES])
def engine_name(request: pytest.FixtureRequest) -> str:
    return request.param
