"""The sentences at the top of the report: the best, how far behind the next one is, and how sure that is."""

import math

import numpy as np
import pytest

from digits_sweep.report.sentences import how_counted, verdict
from digits_sweep.report.study import load_study, odd_settings
from digits_sweep.results.losses import LOSSES_FILE
from tests.many import sweep_of
from tests.studies import evaluation

Runs = list[dict[str, object]]
ONE_RUN = "One run each: add seeds (seed=0,1,2,3,4,5)."
STOPPED = {"reached": None, "status": "interrupted", "seed": 1}


def said(study) -> str:
    """The verdict, which is short whatever the sweep."""
    text = verdict(study)
    assert len(text.split()) <= 40
    assert text.replace("...", "").count(". ") <= 1
    return text


def seeds(batch_size: int, *examples: int | None, **columns) -> Runs:
    """A run for each of some seeds, which takes so many examples to the threshold; None: it does not get there."""
    runs = []
    for seed, each in enumerate(examples):
        passed = {"examples_to_threshold": each, "iterations_to_threshold": each // batch_size} if each else {}
        reached = 3 if each else None
        runs.append({"batch_size": batch_size, "seed": seed, "reached": reached, "seconds": 1.0, **passed, **columns})
    return runs


def evaluated(targets: dict[str, list[float]], iterations: int = 1_000, last=None, **columns) -> dict[str, object]:
    """A run of batch size 20 with targets, evaluated at its start and after so many iterations."""
    first = {"train_loss": 2.3, "train_error": 0.9, "test_error": 0.9, "test_loss": 2.3}
    last = last or {"train_loss": 1.5, "train_error": 0.1, "test_error": 0.1, "test_loss": 1.5}
    config = {f"evaluation.targets.{measure}": values for measure, values in targets.items()}
    rows = [evaluation(0, 20, **first), evaluation(iterations, 20, **last)]
    return {"config": config | columns.pop("config", {}), "evaluations": rows, **columns}


FOUND = "Batch size 20 passed 1.6 after "
VERDICTS: dict[str, tuple[Runs, str]] = {
    "one run each gives the best and the second, and says what they are worth": (
        [*seeds(100, 120_900, seconds=0.32), *seeds(20, 46_600, seconds=0.48), *seeds(5, 24_000, seconds=1.21)],
        f"Batch size 20 passed 1.6 first, after 46,600 digits (0.373 s); 5 took 1.3 times as long. {ONE_RUN}",
    ),
    "a setting that changes with the batch size is named": (
        [*seeds(100, 120_900), *seeds(20, 46_600), *seeds(5, None, lr=1e-6, weight_decay=5e-6)],
        "; 5 (lr 1e-6) did not get there",
    ),
    "several seeds of one configuration are a median with its interval": (
        seeds(20, 40_000, 42_000, 44_000), "The median of 3 seeds, from 40,000 to 44,000.",
    ),
    "at equal iterations no difference in seconds is an answer": (
        [*seeds(20, *[40_000] * 6), *seeds(20, *[40_000] * 6, seconds=1.3, lr=2e-4)],
        "is undecided: the running loss cannot tell less than 3,000 digits apart",
    ),
    "runs that shared the machine are compared in what is the same there": (
        [*seeds(100, *range(120_000, 120_006), concurrent_runs=2), *seeds(20, *range(46_000, 46_006))],
        "Batch size 20 passed 1.6 first, after 46,000 digits (2,300 iterations); 100 needs 2.6 times the digits.",
    ),
    "a configuration that half of the seeds miss does not win by its lucky ones": (
        [*seeds(5, *[10_000] * 3, None, None, None), *seeds(20, *[40_000] * 6)],
        "Batch size 20 passed 1.6 first, after 40,000 digits",
    ),
    "if every configuration misses in half of its runs that is said": (
        seeds(5, 10_000, None, None),
        "No configuration passed 1.6 in more than half of its runs; batch size 5 did most often, in 1 of 3 within 10 "
        "epochs.",
    ),
    "an identical run is counted once": (
        [*seeds(100, 100_000), *seeds(100, 100_000, config={"scaling.rule": "sqrt"})], "One run:",
    ),
    "runs that differ in a key without a column are no replicates": (
        [*seeds(20, *[40_000] * 6, config={"model.num_classes": 10}),
         *seeds(20, *[80_000] * 6, config={"model.num_classes": 12, "data.root": "elsewhere"})],
        "Batch size 20, num classes 10 passed 1.6 first, after 40,000 digits",
    ),
    "a run that was interrupted is no miss": (
        [*seeds(5, 20_000), {"batch_size": 5, **STOPPED}],
        "Batch size 5 passed 1.6 after 20,000 digits (0.333 s). One run: add seeds (seed=0,1,2,3,4,5).",
    ),
    "without a run that ended there is none": ([STOPPED], "No run has ended yet, so there is no verdict."),
    "if every run diverged": (
        [{"losses": [math.nan], "seed": seed, "status": "diverged"} for seed in range(2)],
        "Every run diverged. A learning rate below 1e-4 may help.",
    ),
    "if every run failed": (
        [{"losses": [], "seed": seed, "status": "failed", "error": "Traceback\nOSError: full"} for seed in range(2)],
        "Every run failed: OSError: full.",
    ),
    "data sets are not ranked": (
        [*seeds(100, 100_000), *seeds(20, 40_000, dataset="mnist_sample")], "These runs have different data sets",
    ),
    "thresholds are not ranked": (
        [*seeds(100, 100_000), *seeds(20, 40_000, loss_threshold=1.55)], "These runs have different thresholds",
    ),
    "losses behind different heads are not ranked": (
        [*seeds(100, 100_000), *seeds(20, 40_000, config={"model.head": "logits"})],
        "A loss behind softmax and behind logits is not the same measure",
    ),
    "heads are ranked by an error if that is a target": (
        [evaluated({"test_error": [0.1]}, iterations, {"test_error": 0.05}, config={"model.head": head})
         for head, iterations in (("softmax", 3_000), ("logits", 1_000))],
        "Batch size 20, mlp_logits passed a test error of 0.1 first, after 15,200",
    ),
    "the loss at frozen weights comes before the running loss": (
        [evaluated({"train_loss": [1.6]})], f"{FOUND}17,000 digits",
    ),
    "an error of the user's own comes before a loss": (
        [evaluated({"train_loss": [1.6], "test_error": [0.2]})], "Batch size 20 passed a test error of 0.2 after ",
    ),
    "the hardest of several thresholds that was reached": (
        [evaluated({"train_loss": [1.6], "train_error": [0.3, 0.2, 0.01]})],
        "Batch size 20 passed a training error of 0.2 after ",
    ),
    "a loss of the user's own": ([evaluated({"train_loss": [1.6, 1.55]})], "Batch size 20 passed 1.55 after "),
    "an error comes before another loss": (
        [evaluated({"train_loss": [1.6], "train_error": [0.3], "test_loss": [1.7]})],
        "Batch size 20 passed a training error of 0.3 after ",
    ),
    "a sweep from before iterations were kept is answered by its epochs": (
        [{"examples_to_threshold": None, "iterations_to_threshold": None}], f"{FOUND}120,000 digits (2 s)",
    ),
    "if no run arrived the nearest is named and its slope": (
        [{"batch_size": 5, "losses": [2.3] * 10}, {"losses": [2.0 - 0.03 * epoch for epoch in range(10)]}],
        "No run passed 1.6 within 10 epochs: batch size 20 came nearest, with 1.73 (0.13 away). At its last slope that "
        "takes about 5 epochs more, at another learning rate maybe fewer.",
    ),
    "where the slope is gone another rate is advised": (
        [{"batch_size": 5, "losses": [2.3] * 10}, {"losses": [1.9, *[1.66] * 9]}],
        "No run passed 1.6 within 10 epochs: batch size 20 came nearest, with 1.660 (0.060 away). It hardly gets "
        "nearer any more: try another learning rate (optimizer.lr).",
    ),
    "after one epoch more are advised": (
        [{"batch_size": 5, "losses": [2.3]}, {"losses": [1.9]}],
        "No run passed 1.6 within 1 epoch: batch size 20 came nearest, with 1.90 (0.30 away). One epoch does not show "
        "how it goes on: try more (trainer.num_epochs).",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("runs", "says"), VERDICTS.values(), ids=VERDICTS)
def test_a_verdict(recorded, runs, says):
    assert says in said(recorded(*runs))


def test_of_several_optimizers_only_the_one_whose_rate_changes_is_named_so(recorded):
    runs = [
        {"batch_size": size, "optimizer": optimizer, "lr": odd if size == 5 or optimizer == "sgd" else 1e-4}
        for optimizer, odd in (("adam", 1e-6), ("sgd", 1e-2))
        for size in (100, 20, 5)
    ]
    assert odd_settings(recorded(*runs).runs) == {"batch size 5, adam": "lr 1e-6"}


@pytest.mark.parametrize(
    ("examples", "others", "sure"),
    [
        (range(40_000, 46_000, 1000), range(100_000, 115_000, 2500), "Medians; it leads in 6 of 6 seeds, which is"),
        (
            [40_000, 50_000] * 3, [46_000] * 5 + [54_000],
            "Its lead over 100 is undecided: 4 of 6 seeds agree; more may decide (seeds=until_decided).",
        ),
        ([40_000] * 3, [90_000] * 3, "Its lead over 100 is undecided: 3 of 3 seeds agree, and it takes 6."),
        # The window has 3,000 digits: which of two crossings within it came first cannot be told.
        ([40_000] * 6, [42_000] * 6, "undecided: the running loss cannot tell less than 3,000 digits apart"),
        ([40_000], [42_000], "undecided: the running loss cannot tell less than 3,000 digits apart"),
        ([40_000], [60_000], "One run each: add seeds"),
        ([40_000] * 6, [43_100] * 6, "Medians; it leads in 6 of 6 seeds"),
    ],
)  # fmt: skip
def test_a_lead_is_compared_seed_by_seed(recorded, examples, others, sure):
    assert sure in said(recorded(*seeds(20, *examples), *seeds(100, *others)))


def test_every_run_is_counted_by_epochs_if_the_losses_of_one_are_known_by_the_epoch_only(recorded):
    folder = recorded(*seeds(20, 40_000), {"batch_size": 100, "reached": 5}).folder
    np.save(folder / "b" / LOSSES_FILE, np.full(6_000, np.nan, dtype="<f4"))
    study = load_study(folder)
    assert (study.goal.measure, study.goal.threshold) == ("epoch_loss", 1.6)
    assert list(study.runs["examples_to_goal"]) == [180_000, 300_000]
    assert "every run is counted by the mean loss of its epochs" in how_counted(study)
    assert "after 180,000 digits" in said(study)


def test_the_page_says_how_late_the_running_loss_is_at_every_batch_size(recorded):
    words = how_counted(recorded(*seeds(100, 100_000), *seeds(5, 20_000)))
    assert "over the last 3,000 examples trained on" in words
    assert "(2 % at batch size 100 and 8 % at 5)" in words


def test_if_evaluations_cannot_be_read_it_is_unknown_who_passed(recorded):
    folder = recorded(evaluated({"train_loss": [1.6]})).folder
    (folder / "a" / "evaluations.csv").write_text("torn")
    assert said(load_study(folder)).startswith("It is unknown if a run passed")


@pytest.mark.parametrize(
    ("count", "says"),
    [(1, "others came within 20 % (one run each); lr explains "), (3, "others cannot be told from it by these seeds")],
)
def test_of_many_configurations_the_best_is_named_how_many_come_near_and_what_separates_them(tmp_path, count, says):
    found = said(sweep_of(tmp_path, 24, count))
    assert found.startswith("Of 24 configurations, batch size ")
    assert says.replace("others", "other") in found.replace("others", "other")
