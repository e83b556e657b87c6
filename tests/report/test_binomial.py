"""The binomial distribution: exact for few runs and for thousands, as scipy has it."""

import pytest
from scipy.special import bdtr, betaincinv

from digits_sweep.report.analysis.statistics.binomial import at_most, share_interval

COUNTS = [(hits, runs) for runs in (1, 2, 6, 24, 200, 1100) for hits in sorted({0, 1, runs // 3, runs - 1, runs})]


@pytest.mark.parametrize(("hits", "runs"), COUNTS)
def test_so_many_heads_or_fewer_have_their_probability(hits, runs):
    assert at_most(hits, runs) == pytest.approx(float(bdtr(hits, runs, 0.5)), rel=1e-9)


@pytest.mark.parametrize(("hits", "runs"), COUNTS)
@pytest.mark.parametrize("confidence", [0.95, 0.5])
def test_the_interval_of_a_share_has_the_quantiles_of_the_beta_distribution_as_its_ends(hits, runs, confidence):
    tail = (1 - confidence) / 2
    low = float(betaincinv(hits, runs - hits + 1, tail)) if hits else 0
    high = float(betaincinv(hits + 1, runs - hits, 1 - tail)) if hits < runs else 1
    assert share_interval(hits, runs, confidence) == pytest.approx((low, high), rel=1e-9)
