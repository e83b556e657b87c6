"""However an epoch is cut, an engine computes the same bits."""

from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.engines.contract import (
    CASES,
    HEADS,
    assert_same_bits,
    case,
    skip_if_refused,
    trained,
    trained_in_parts,
)
from tests.workloads import device_of, small_convolution, workload

# After which batches of at most five; beyond the last one, there is no cut.
CUTS = ([1], [2, 3], [1, 2, 3, 4])


@pytest.mark.sampled(11)
@pytest.mark.parametrize(("model", "optimizer", "head", "batch_size"), CASES)
def test_however_an_epoch_is_cut_an_engine_computes_the_same_bits(engine_name, model, optimizer, head, batch_size):
    given = partial(case, model, optimizer, head, batch_size, device_of(engine_name))
    skip_if_refused(engine_name, given())
    uncut = trained(engine_name, given())
    for cuts in CUTS:
        assert_same_bits(trained_in_parts(engine_name, given(), cuts), uncut)


@pytest.mark.full
@settings(max_examples=15)
@given(data=st.data())
def test_any_batch_size_and_any_cuts_give_the_same_bits_by_the_closed_form(data):
    """Some 3,000 images: more than it brings into order at a time."""
    batch_size = data.draw(st.sampled_from([7, 30, 100, 333, 1_700]))
    cuts = sorted(data.draw(st.sets(st.integers(1, 3_001 // batch_size), max_size=5)))
    shape = {"hidden_size": data.draw(st.sampled_from([1, 5, 32])), "head": data.draw(st.sampled_from(HEADS))}
    parts = trained_in_parts("closed_form", workload(3_001, batch_size, **shape), cuts)
    assert_same_bits(parts, trained("closed_form", workload(3_001, batch_size, **shape)))


@pytest.mark.parametrize("name", ["eager", "lesson"])
def test_an_epoch_can_be_cut_with_any_model(name):
    uncut = trained(name, workload(model=small_convolution()))
    assert_same_bits(trained_in_parts(name, workload(model=small_convolution()), [1, 4]), uncut)
