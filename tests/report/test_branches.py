"""Up to which batch size a run can be branched."""

import pandas as pd
import pytest

from digits_sweep.report.analysis.curves.branches import branches_of
from digits_sweep.report.analysis.sentences.critical import branch_sentence


def branches(losses: dict[int, list[float]], tolerance: float = 0.05) -> pd.DataFrame:
    rows = [(size, seed, loss) for size, values in losses.items() for seed, loss in enumerate(values)]
    table = pd.DataFrame(rows, columns=["batch_size", "seed", "train_loss"])
    return table.assign(lr=1e-3, examples=20_000, tolerance=tolerance)


def test_the_limit_is_the_last_batch_size_before_the_loss_rises_beyond_the_tolerance():
    found = branches_of(branches({5: [0.4, 0.5], 10: [0.4, 0.51], 20: [0.41, 0.52], 40: [0.5, 0.6], 80: [0.4, 0.5]}))
    assert found.limit == 20
    assert not found.is_open
    assert found.ratios[0].median == 1
    assert "up to batch size 20 the loss after 20,000 more examples is at most 5% above" in branch_sentence(found)


def test_losses_are_compared_seed_by_seed():
    """Each seed has an order of its own, and so a loss of its own, that both batch sizes share."""
    found = branches_of(branches({5: [0.2, 0.8], 10: [0.204, 0.816]}))
    assert [found.ratios[1].low, found.ratios[1].high] == pytest.approx([1.02, 1.02])


def test_if_no_batch_size_goes_beyond_the_tolerance_that_is_said():
    found = branches_of(branches({5: [0.4], 10: [0.4]}))
    assert found.is_open
    assert "up to batch size 10, the largest that was tried, the loss" in branch_sentence(found)


def test_without_a_row_there_is_nothing_to_say():
    assert branches_of(branches({})) is None
