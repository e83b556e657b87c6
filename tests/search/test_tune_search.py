"""What a trial is worth."""

import math

import pytest

pytest.importorskip("optuna")

from digits_sweep.results.record import Record
from digits_sweep.search.tune import OBJECTIVES, objective


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_run_that_did_not_get_there_is_infinitely_far(name):
    column = OBJECTIVES[name]
    assert objective(name, Record(0, summary={column: 2})) == 2
    assert objective(name, Record(0, summary={column: None})) == math.inf
    assert objective(name, Record(0, summary={column: "nan"})) == math.inf
    assert objective(name, Record(0)) == math.inf
