"""Pairs of runs with the same seed: what counts as evidence of a difference, and that one may look at any time."""

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digits_sweep.report.ranking import paired
from digits_sweep.report.statistics import DECIDED, adjusted, decided, evidence

sizes = st.floats(0, 10) | st.just(math.inf)


def runs(values, seeds=None) -> pd.DataFrame:
    seconds = pd.array(values, dtype="Float64")
    columns = {"seed": seeds or range(len(values)), "seconds": seconds, "reached": ~seconds.isna(), "lateness": 0.0}
    return pd.DataFrame(columns)


def test_pairs_are_matched_by_their_seed_and_not_by_their_place():
    pairs = paired(runs([1, 2, 3], [0, 1, 2]), runs([30, 10], [2, 0]), "seconds")
    assert (pairs.pairs, pairs.smaller, pairs.larger, pairs.ratio.median) == (2, 2, 0, 10)
    assert paired(runs([1.0], [0]), runs([1.0], [1]), "seconds") is None


def test_a_miss_is_larger_than_every_value_and_two_misses_are_a_tie():
    pairs = paired(runs([1.0, None, None]), runs([None, None, 2.0]), "seconds")
    assert (pairs.smaller, pairs.larger, pairs.pairs, pairs.ratio.high) == (1, 1, 3, math.inf)


@given(st.lists(st.tuples(st.floats(0.1, 100), st.floats(0.1, 100)), min_size=1, max_size=20))
def test_exchanging_the_two_exchanges_what_is_said(values):
    first, second = (runs([pair[side] for pair in values]) for side in (0, 1))
    one, other = paired(first, second, "seconds"), paired(second, first, "seconds")
    assert (one.smaller, one.larger) == (other.larger, other.smaller)
    assert one.looks == pytest.approx(other.looks)


@pytest.mark.parametrize(
    ("signs", "is_decided"),
    [
        ([1] * 5, False),
        ([1] * 6, True),
        ([-1] * 6, True),
        ([0] * 4 + [1] * 6, True),
        ([1] * 12 + [-1], True),
        ([1] * 9 + [-1], False),
        ([1, -1] * 12, False),
        ([0] * 30, False),
    ],
)
def test_six_pairs_that_all_agree_decide_and_of_more_most_have_to(signs, is_decided):
    assert bool(evidence(signs)[-1] >= DECIDED) == is_decided


def test_one_small_difference_against_the_others_weighs_less_than_a_large_one():
    against = [np.array([*[-1.0] * 9, size]) for size in (0.1, 10.0, math.inf)]
    small, large, missed = (evidence(differences)[-1] for differences in against)
    assert small > 2 * large
    assert large == missed


@given(st.lists(sizes, min_size=1, max_size=8))
def test_without_a_difference_the_mean_evidence_is_1_after_any_number_of_pairs(values):
    """Either sign is as likely as the other, whatever the sizes: the mean over all combinations of signs is exact."""
    signs = np.array(list(product((1, -1), repeat=len(values))))
    found = evidence(signs * np.minimum(values, 1e300))
    assert found.mean(axis=0) == pytest.approx(np.ones(len(values)))
    # And from any look on, whatever was seen until then.
    for until in range(len(values)):
        later = found[:, -1].reshape(2 ** (until + 1), -1).mean(axis=1)
        assert later == pytest.approx(found[:: 2 ** (len(values) - until - 1), until])


@given(st.lists(sizes, min_size=1, max_size=8), st.floats(0.1, 5))
def test_evidence_does_not_depend_on_the_unit(values, unit):
    signs = np.resize([1, 1, -1], len(values))
    assert evidence(signs * np.array(values) * 2) == pytest.approx(evidence(signs * np.array(values)))


def test_a_thousand_pairs_are_no_reason_to_overflow():
    assert evidence([-1.0] * 1_500)[-1] >= DECIDED
    assert evidence([-1.0, 1.0] * 750)[-1] < 1


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=8))
def test_of_several_comparisons_none_gains_and_one_alone_loses_nothing(e_values):
    together = adjusted(np.array(e_values)[:, None])[:, 0]
    assert all(own <= alone for own, alone in zip(together, e_values, strict=True))
    assert list(adjusted(np.array([[e_values[0]]]))) == [[e_values[0]]]
    assert decided([[each] for each in e_values]) == [min(e_values) >= DECIDED or own >= DECIDED for own in together]


@pytest.mark.parametrize(
    ("looks", "candidates", "expected"),
    [
        ([[21]], 2, [True]),
        ([[21], [21]], 3, [True, True]),
        ([[21], [0.4]], 3, [False, False]),
        ([[39], [0.4]], 3, [False, False]),
        ([[62], [0.4]], 3, [True, False]),
        # Decided at a look, it stays so; but all have to be at the same one.
        ([[1, 21, 5]], 2, [True]),
        ([[1, 21, 5], [1, 5, 21]], 3, [False, False]),
        # A configuration that has lost trains no more seeds: its evidence stays what it is.
        ([[1, 25], [1, 5, 22]], 3, [True, True]),
        ([], 1, []),
    ],
)
def test_leads_are_judged_together_at_every_look(looks, candidates, expected):
    assert decided(looks, candidates) == expected


def test_beside_comparisons_that_show_nothing_more_evidence_is_needed():
    assert adjusted(np.array([[30.0], [0.0]])).tolist() == [[15.0], [0.0]]
    assert adjusted(np.array([[90.0], [25.0], [0.5]])).ravel() == pytest.approx([115.5 / 3, 12.75, 0.5])
