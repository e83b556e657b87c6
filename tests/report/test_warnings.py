"""What a reader has to know before relying on the figures."""

import pytest

from digits_sweep.report.warnings import cautions, is_flat, warnings
from tests.studies import add_run, finished, losses_reaching


def only_warning(study) -> str:
    (warning,) = [*cautions(study), *warnings(study)]
    return warning


def test_if_nothing_went_wrong_there_is_no_warning(tmp_path):
    add_run(tmp_path, "a", losses_reaching(2), batch_size=100)
    add_run(tmp_path, "b", losses_reaching(2), batch_size=5, lr=1e-6, weight_decay=5e-6)
    study = finished(tmp_path)
    assert [*cautions(study), *warnings(study)] == []


@pytest.mark.parametrize(
    ("columns", "warning"),
    [
        (
            {"status": "failed", "error": "Traceback\nRuntimeError: out of memory"},
            "a failed after 2 epochs: RuntimeError: out of memory",
        ),
        ({"status": "diverged", "final_loss": "nan"}, "a diverged: the mean loss of epoch 2 is nan."),
        (
            {"status": "interrupted"},
            "Interrupted after 2 epochs, or still running: a; left out of the medians.",
        ),
        ({"resumed_after": [1]}, "Resumed 1 time: a; the losses are those of an uninterrupted run"),
        (
            {"test_answers": [120, 120, 120, 120, 0, 0, 130, 130, 130, 130]},
            "Classes that are never predicted: a (4 and 5). With the softmax, every class of 10 that is",
        ),
        ({"concurrent_runs": 2}, "1 run shared the machine (up to 2 at once)"),
    ],
)
def test_a_run_that_is_not_like_the_others_is_named(tmp_path, columns, warning):
    add_run(tmp_path, "a", [2.0, 1.5], **columns)
    add_run(tmp_path, "b", [2.0, 1.5], seed=1)
    assert only_warning(finished(tmp_path)).startswith(warning)


@pytest.mark.parametrize(
    ("columns", "warning"),
    [
        ({"engine": "lesson"}, "The runs mix 2 engines: closed_form and lesson."),
        ({"num_threads": 2}, "At batch size 20 the runs mix numbers of threads: 1 and 2."),
        ({"torch_version": "2.16.0"}, "The runs mix 2 versions of torch: 2.15.0 and 2.16.0."),
        ({"dataset": "mnist_sample"}, "The runs mix 2 data sets: mnist and mnist_sample."),
    ],
)
def test_what_is_mixed_in_one_sweep_is_named(tmp_path, columns, warning):
    add_run(tmp_path, "a", losses_reaching(2))
    add_run(tmp_path, "b", losses_reaching(2), seed=1, **columns)
    assert only_warning(finished(tmp_path)) == warning


def test_runs_that_have_not_started_are_counted_and_named(tmp_path):
    add_run(tmp_path, "a", losses_reaching(2))
    assert only_warning(finished(tmp_path, not_started=("b", "c"))) == "2 of 3 runs not started: b and c."


def test_a_data_set_that_replaces_another_is_named_with_its_reason(tmp_path):
    add_run(tmp_path, "a", losses_reaching(2), dataset="mnist_sample")
    study = finished(tmp_path, note="no mirror answered")
    assert only_warning(study) == "Trained on mnist_sample instead of mnist: no mirror answered."


def test_misses_that_were_not_trained_equally_long_are_not_the_same_miss(tmp_path):
    add_run(tmp_path, "a", losses_reaching(None, 10))
    add_run(tmp_path, "b", losses_reaching(None, 30), seed=1)
    assert "not trained equally long: 10 and 30 epochs" in only_warning(finished(tmp_path))


def test_epochs_whose_times_are_spread_wide_are_called_unsteady(tmp_path):
    add_run(tmp_path, "a", losses_reaching(2))
    study = finished(tmp_path)
    study.history["seconds"] *= [1, *[1.0, 1.5, 2.0] * 3]
    assert "timed unsteadily" in only_warning(study)


def test_a_kind_of_warning_is_one_line_that_lists_its_runs(tmp_path):
    for seed in range(6):
        add_run(tmp_path, f"{seed}", [2.0, 1.7, *[1.6613] * 8], seed=seed, test_answers=[0, *[111] * 9])
    found = only_warning(finished(tmp_path))
    assert found.startswith("Classes that are never predicted, with the loss on a plateau: 0 (0), 1 (0)")


@pytest.mark.parametrize(
    ("columns", "start"),
    [
        ({"status": "failed", "error": "OSError: full"}, "a and b failed after 2 epochs: OSError: full"),
        ({"status": "diverged", "final_loss": "nan"}, "a and b diverged: the mean loss of epoch 2 is nan."),
        ({"status": "interrupted"}, "Interrupted after 2 epochs, or still running: a and b; left out of the medians."),
        ({"resumed_after": [1]}, "Resumed 1 time: a and b; "),
    ],
)
def test_runs_that_ended_alike_share_a_line(tmp_path, columns, start):
    for seed, name in enumerate("ab"):
        add_run(tmp_path, name, [2.0, 1.5], seed=seed, **columns)
    assert only_warning(finished(tmp_path)).startswith(start)


@pytest.mark.parametrize(
    ("losses", "flat"),
    [([2.0, 1.7, *[1.66] * 8], True), ([1.9 - 0.02 * epoch for epoch in range(10)], False), ([1.66] * 3, False)],
)
def test_a_plateau_is_a_loss_that_stands_still(losses, flat):
    assert is_flat(losses) is flat


def test_a_class_that_the_data_does_not_have_is_not_missed(tmp_path):
    config = {"model.num_classes": 12, "data.num_classes": 10}
    add_run(tmp_path, "a", losses_reaching(2), config=config, test_answers=[100] * 10 + [0, 0])
    assert warnings(finished(tmp_path)) == []


def test_what_a_missing_class_costs_follows_from_their_number(tmp_path):
    config = {"model.num_classes": 26, "data.num_classes": 26}
    add_run(tmp_path, "a", losses_reaching(2), config=config, test_answers=[0] + [100] * 25)
    assert "every class of 26 that is never predicted costs about 0.038 of loss" in only_warning(finished(tmp_path))


def test_only_what_bears_on_the_verdict_stands_beside_it(tmp_path):
    add_run(tmp_path, "a", losses_reaching(2), concurrent_runs=2)
    add_run(tmp_path, "b", losses_reaching(2), seed=1, status="failed", error="OSError: full")
    study = finished(tmp_path)
    (caution,), (warning,) = cautions(study), warnings(study)
    assert caution.startswith("1 run shared the machine")
    assert warning.startswith("b failed")
