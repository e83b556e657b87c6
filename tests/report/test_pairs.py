"""Runs with the same seed at two settings are pairs."""

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digits_sweep.report.analysis.statistics.pairs import paired


def runs(values, seeds=None) -> pd.DataFrame:
    return pd.DataFrame({"seed": seeds or range(len(values)), "seconds": pd.array(values, dtype="Float64")})


def test_pairs_are_matched_by_their_seed_and_not_by_their_place():
    found = paired(runs([1, 2, 3], [0, 1, 2]), runs([30, 10], [2, 0]), "seconds")
    assert (found.pairs, found.smaller, found.larger, found.ratio.median) == (2, 2, 0, 10)


@pytest.mark.parametrize(("count", "is_significant"), [(5, False), (6, True)])
def test_six_pairs_of_one_sign_are_the_fewest_that_are_significant(count, is_significant):
    found = paired(runs([1.0] * count), runs([1.1] * count), "seconds")
    assert (found.p_value, found.is_significant) == (2 * 0.5**count, is_significant)


def test_a_miss_is_larger_than_every_value_and_two_misses_are_a_tie():
    found = paired(runs([1.0, None, None]), runs([None, None, 2.0]), "seconds")
    assert (found.smaller, found.larger, found.pairs) == (1, 1, 3)
    assert found.ratio.high == math.inf


def test_without_a_common_seed_there_is_no_pair():
    assert paired(runs([1.0], [0]), runs([1.0], [1]), "seconds") is None


@given(st.lists(st.tuples(st.floats(0.1, 100), st.floats(0.1, 100)), min_size=1, max_size=20))
def test_exchanging_the_two_exchanges_what_is_said(values):
    first, second = (runs([pair[place] for pair in values]) for place in (0, 1))
    one, other = paired(first, second, "seconds"), paired(second, first, "seconds")
    assert (one.smaller, one.larger, one.p_value) == (other.larger, other.smaller, other.p_value)
