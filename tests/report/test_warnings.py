"""What a reader has to know before relying on the figures."""

import pytest

from digits_sweep.report.warnings import cautions, is_flat, warnings

SHORT = {"losses": [2.0, 1.5]}
NEVER_4_AND_5 = {"test_answers": [120, 120, 120, 120, 0, 0, 130, 130, 130, 130]}
OF_26 = {"config": {"model.num_classes": 26, "data.num_classes": 26}, "test_answers": [0] + [100] * 25}
# A sentence, and what is not as usual in two of three runs.
WARNINGS = {
    "a and b failed after 2 epochs: OSError: full": {**SHORT, "status": "failed", "error": "Traceback\nOSError: full"},
    "a and b diverged: the mean loss of epoch 2 is nan.": {**SHORT, "status": "diverged", "final_loss": "nan"},
    "Interrupted after 2 epochs, or still running: a and b; left out": {**SHORT, "status": "interrupted"},
    "Resumed 1 time: a and b; the losses are those of an uninterrupted run": {**SHORT, "resumed_after": [1]},
    "Classes that are never predicted: a (4 and 5) and b (4 and 5). With the softmax, every class of 10 that is never "
    "predicted costs about 0.1 of loss.": {**SHORT, **NEVER_4_AND_5},
    "Classes that are never predicted, with the loss on a plateau: a (4 and 5) and b": NEVER_4_AND_5,
    "Classes that are never predicted, with the loss on a plateau: a (0) and b (0). With the softmax, every class of "
    "26 that is never predicted costs about 0.038 of loss.": OF_26,
    "2 runs shared the machine (up to 2 at once)": {"concurrent_runs": 2},
    "The runs mix 2 engines: lesson and closed_form.": {"engine": "lesson"},
    "At batch size 20 the runs mix numbers of threads: 1 and 2.": {"num_threads": 2},
    "The runs mix 2 versions of torch: 2.16.0 and 2.15.0.": {"torch_version": "2.16.0"},
    "The runs mix 2 data sets: mnist_sample and mnist.": {"dataset": "mnist_sample"},
}  # fmt: skip


def only_warning(study) -> str:
    (warning,) = [*cautions(study), *warnings(study)]
    return warning


@pytest.mark.parametrize(("sentence", "columns"), WARNINGS.items(), ids=WARNINGS)
def test_what_is_not_as_usual_is_one_line_that_names_its_runs(recorded, sentence, columns):
    assert only_warning(recorded({**columns, "seed": 1}, {**columns, "seed": 2}, {})).startswith(sentence)


def test_misses_that_were_not_trained_equally_long_are_not_the_same_miss(recorded):
    study = recorded({"reached": None}, {"reached": None, "epochs": 30, "seed": 1})
    assert "not trained equally long: 10 and 30 epochs" in only_warning(study)


def test_if_nothing_went_wrong_there_is_no_warning(recorded):
    study = recorded({"batch_size": 100}, {"batch_size": 5, "lr": 1e-6, "weight_decay": 5e-6})
    assert [*cautions(study), *warnings(study)] == []


def test_a_class_that_the_data_does_not_have_is_not_missed(recorded):
    config = {"model.num_classes": 12, "data.num_classes": 10}
    assert warnings(recorded({"config": config, "test_answers": [100] * 10 + [0, 0]})) == []


def test_runs_that_have_not_started_are_counted_and_named(recorded):
    assert only_warning(recorded({}, not_started=("b", "c"))) == "2 of 3 runs not started: b and c."


def test_a_data_set_that_replaces_another_is_named_with_its_reason(recorded):
    study = recorded({"dataset": "mnist_sample"}, note="no mirror answered")
    assert only_warning(study) == "Trained on mnist_sample instead of mnist: no mirror answered."


def test_epochs_whose_times_are_spread_wide_are_called_unsteady(recorded):
    study = recorded({})
    study.history["seconds"] *= [1, *[1.0, 1.5, 2.0] * 3]
    assert "timed unsteadily" in only_warning(study)


@pytest.mark.parametrize(
    ("losses", "flat"),
    [([2.0, 1.7, *[1.66] * 8], True), ([1.9 - 0.02 * epoch for epoch in range(10)], False), ([1.66] * 3, False)],
)
def test_a_plateau_is_a_loss_that_stands_still(losses, flat):
    assert is_flat(losses) is flat


def test_only_what_bears_on_the_verdict_stands_beside_it(recorded):
    study = recorded({"concurrent_runs": 2}, {"seed": 1, "status": "failed", "error": "OSError: full"})
    (caution,), (warning,) = cautions(study), warnings(study)
    assert caution.startswith("1 run shared the machine")
    assert warning.startswith("b failed")
