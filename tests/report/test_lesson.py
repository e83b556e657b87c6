"""What the lesson states beside what was measured, and when the two are comparable."""

import pytest

from digits_sweep.report.analysis.sentences.lesson import findings
from digits_sweep.report.analysis.statistics.replicates import ended, replicates
from tests.studies import add_run, finished, losses_reaching


def findings_of(sweep) -> list[str]:
    study = finished(sweep)
    return findings(ended(study.runs), replicates(study.runs))


def test_each_claim_of_the_lesson_stands_beside_what_came_out(tmp_path):
    for seed, epoch in enumerate((3, 3, 3, 3, 3, 4)):
        add_run(tmp_path, f"100_{seed}", losses_reaching(epoch, 30), 1.0, batch_size=100, seed=seed)
        add_run(tmp_path, f"20_{seed}", losses_reaching(5, 30), 2.0, batch_size=20, seed=seed)
        add_run(tmp_path, f"5_{seed}", losses_reaching(None, 30), 6.0, batch_size=5, seed=seed)
    assert findings_of(tmp_path) == [
        "An epoch at batch size 20 takes, against 100, lesson: 2.6 times as long; here: 2 times.",
        "An epoch at batch size 5 takes, against 20, lesson: 2.9 times as long; here: 3 times.",
        "Batch size 100, lesson: epoch 7; here: epoch 3 in 5 of 6 and epoch 4 in 1 of 6 (the lesson's in 0 of 6, 95% "
        "interval 0% to 46%).",
        "Batch size 20, lesson: epoch 5; here: epoch 5 in 6 of 6 (the lesson's in 6 of 6, 95% interval 54% to 100%).",
        "Batch size 5, lesson: not within 30 epochs; here: not within 30 epochs in 6 of 6 (the lesson's in 6 of 6, 95% "
        "interval 54% to 100%).",
    ]


@pytest.mark.parametrize(
    "columns",
    [
        {"dataset": "mnist_sample"},
        {"hidden_size": 32},
        {"hidden_layers": 3},
        {"activation": "tanh"},
        {"scale": "raw"},
        {"optimizer": "sgd"},
        {"beta1": 0.8},
        {"model": "mlp_logits"},
        {"loss_threshold": 1.7},
    ],
)
def test_other_settings_than_the_lesson_s_are_not_compared_with_it(tmp_path, columns):
    add_run(tmp_path, "a", losses_reaching(3), batch_size=100, **columns)
    assert findings_of(tmp_path) == []


def test_two_configurations_at_the_rates_of_one_row_are_not_compared_with_it(tmp_path):
    for engine in ("eager", "closed_form"):
        add_run(tmp_path, engine, losses_reaching(3), batch_size=100, engine=engine)
    assert findings_of(tmp_path) == []
