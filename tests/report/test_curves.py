"""What is drawn against the epoch: losses, and the share of runs below the threshold."""

import pytest

from digits_sweep.config.schema import softmax_floor
from digits_sweep.report.analysis.curves import along_epochs as curves
from tests.studies import add_run, finished, losses_reaching


def test_the_median_ends_with_the_shortest_run(tmp_path):
    for seed, losses in enumerate(([1.9, 1.7], [1.8, 1.6, 1.5], [1.7, 1.5, 1.5])):
        add_run(tmp_path, f"seed={seed}", losses, 2.0, seed=seed)
    study = finished(tmp_path)
    (curve,) = curves.losses(study.runs, study.history).curves
    assert curve.seeds.groupby("run_dir")["seconds"].max().tolist() == [4, 6, 6]
    assert curve.median["epoch"].tolist() == [1, 2]
    assert curve.median["seconds"].tolist() == [2, 4]
    assert curve.median["loss"].tolist() == [1.8, 1.6]


def test_the_band_is_one_standard_deviation_and_ends_at_the_floor(tmp_path):
    add_run(tmp_path, "a", [1.7, 1.48])
    study = finished(tmp_path)
    (curve,) = curves.losses(study.runs, study.history).curves
    assert curve.median["high"].tolist() == pytest.approx([1.75, 1.53])
    assert curve.median["low"].tolist() == pytest.approx([1.65, softmax_floor(10)])


@pytest.mark.parametrize(
    ("columns", "floor"),
    [
        ({}, softmax_floor(10)),
        ({"config": {"model.num_classes": 47}}, softmax_floor(47)),
        ({"model": "mlp_logits"}, 0),
    ],
)
def test_the_floor_is_that_of_the_head(tmp_path, columns, floor):
    add_run(tmp_path, "a", losses_reaching(2), **columns)
    assert curves.loss_floor(finished(tmp_path).runs) == floor


def test_the_share_of_runs_that_reached_the_threshold_never_counts_a_miss_or_an_unfinished_run(tmp_path):
    for seed, epoch in enumerate((3, 4, None)):
        add_run(tmp_path, f"seed={seed}", losses_reaching(epoch), seed=seed)
    add_run(tmp_path, "interrupted", losses_reaching(2), seed=3, status="interrupted")
    (share,) = curves.reached_shares(finished(tmp_path).runs)
    assert share.epochs == [0, 3, 4, 10]
    assert share.shares == pytest.approx([0, 1 / 3, 2 / 3, 2 / 3])


def test_a_configuration_without_a_finished_run_has_no_step(tmp_path):
    add_run(tmp_path, "a", losses_reaching(2), batch_size=100, status="interrupted")
    add_run(tmp_path, "b", losses_reaching(2))
    first, second = curves.reached_shares(finished(tmp_path).runs)
    assert (first.configuration, first.epochs) == ("batch size 100", [])
    assert second.shares == [0, 1, 1]
