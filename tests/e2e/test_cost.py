"""`python -m digits_sweep.cost`: what a step takes here, as a table and as a file for studies."""

import pytest

from digits_sweep.results.critical import read_cost
from tests.searches import COST

SMALL = ("data=mnist_sample", "model.hidden_size=16")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("digits_sweep.search.cost.SECONDS", 0.2)


@pytest.mark.full
def test_eight_batch_sizes_are_measured_shown_and_written(program, quick):
    finished = program.completes(*SMALL, module=COST)
    cost = read_cost(program.outputs / "cost.json")
    assert [step.batch_size for step in cost.steps] == [5, 20, 50, 100, 300, 1000, 2000, 4000]
    assert all(step.low <= step.seconds <= step.high for step in cost.steps)
    assert cost.network["model.hidden_size"] == "16"
    assert "throughput " in finished.stdout
    last = finished.stdout.splitlines()[-1]
    assert last.startswith("all 4,000 examples fit in a batch; throughput ")
    assert "; critical not known (no study here: python -m digits_sweep.critical_batch_size): take at most " in last
    assert cost.largest_batch_size == 4_000
    assert "critical.cost=outputs/cost.json answers for this machine" in finished.stdout


@pytest.mark.full
def test_batch_sizes_larger_than_the_data_are_left_out_unless_they_are_typed(program, quick):
    program.completes("data=optdigits", "model.hidden_size=16", module=COST)
    sizes = [step.batch_size for step in read_cost(program.outputs / "cost.json").steps]
    assert sizes == [5, 20, 50, 100, 300, 1000]
