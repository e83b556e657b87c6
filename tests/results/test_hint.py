"""The hint of one run: which readings of its gradients count, and how far to trust it."""

import math

import pytest

from digits_sweep.results.critical import IN_ITS_METRIC, PLAIN, hint_of, trust_in
from digits_sweep.results.record import EVALUATIONS_FILE, EvaluationRow, Written, header_of, rows_of
from digits_sweep.results.writing import RunWriter
from tests.studies import evaluation


def readings(**scales):
    return [evaluation(int(name[1:]), 20, optimizer_noise_scale=scale) for name, scale in scales.items()]


@pytest.mark.parametrize(
    ("rows", "hint"),
    [
        ([], None),
        ([evaluation(10, 20)], None),
        (readings(_0=5.0), None),
        (readings(_10=5.0), 5.0),
        (readings(_0=1.0, _10=3.0, _50=100.0, _100=400.0), 200.0),
        ([*readings(_60=9.0, _100=400.0), evaluation(500, 20)], 60.0),
        (readings(_60=-3.0, _80=math.inf, _100=7.0), 7.0),
        (readings(_100=math.inf), None),
    ],
)
def test_it_is_the_geometric_mean_of_the_last_doubling_of_the_iterations(rows, hint):
    assert hint_of(rows) == (hint if hint is None else pytest.approx(hint))


@pytest.mark.parametrize(
    ("optimizer", "trust"),
    [
        ({"name": "adam"}, IN_ITS_METRIC),
        ({"name": "AdamW"}, IN_ITS_METRIC),
        ({"name": "own", "target": "torch.optim:NAdam"}, IN_ITS_METRIC),
        ({"name": "own", "target": "mine:Optimizer"}, PLAIN),
        ({"name": "own"}, PLAIN),
        ({"name": "sgd"}, PLAIN),
        ({"name": "muon"}, PLAIN),
        ({}, PLAIN),
    ],
)
def test_its_trust_is_that_of_the_metric_that_it_is_measured_in(optimizer, trust):
    assert trust_in(optimizer) == trust


def test_a_run_that_an_earlier_version_began_goes_on_with_the_columns_that_it_has(tmp_path):
    files = RunWriter(tmp_path, 20, 1_000)
    files.create()
    earlier = header_of(EvaluationRow).rpartition(b",")[0] + b"\n0,0,0.0,2.3,0.9,2.3,0.9,3,,0.5,2.0,4.0\n"
    (tmp_path / EVALUATIONS_FILE).write_bytes(earlier)
    again = RunWriter(tmp_path, 20, 1_000)
    again.restore({**files.written, EVALUATIONS_FILE: Written(len(earlier), 0)})
    again.add([evaluation(10, 20, noise_scale=5.0, optimizer_noise_scale=6.0)])
    rows = rows_of((tmp_path / EVALUATIONS_FILE).read_bytes(), EvaluationRow, EVALUATIONS_FILE)
    assert [(row.noise_scale, row.optimizer_noise_scale) for row in rows] == [(4.0, None), (5.0, None)]
