"""The sentences at the top of the report: the best, how far behind the next one is, and how sure that is."""

import math

import numpy as np
import pytest

from digits_sweep.report.sentences import how_counted, verdict
from digits_sweep.report.study import odd_settings
from digits_sweep.results.losses import LOSSES_FILE
from tests.many import sweep_of
from tests.studies import add_run, evaluation, finished, losses_reaching

SEEDS = range(6)
ONE_RUN = "One run each: add seeds (seed=0,1,2,3,4,5)."


def verdict_of(sweep) -> str:
    """The verdict, which is short whatever the sweep."""
    text = verdict(finished(sweep))
    assert len(text.split()) <= 40
    assert text.replace("...", "").count(". ") <= 1
    return text


def add_seeds(sweep, batch_size: int, examples, seconds: float = 1.0, name: str = "", **columns) -> None:
    """Add a run for every seed, which takes so many `examples` to the threshold; None: it does not get there."""
    for seed, each in enumerate(examples):
        reached = each is not None
        passed = {"examples_to_threshold": each, "iterations_to_threshold": each // batch_size} if reached else {}
        losses = losses_reaching(3 if reached else None)
        own = {"batch_size": batch_size, "seed": seed, **passed, **columns}
        add_run(sweep, f"{batch_size}_{seed}{name}", losses, seconds, **own)


Group = tuple[int, list[int | None], float, dict[str, object]]
VERDICTS: dict[str, tuple[list[Group], str]] = {
    "one run each gives the best and the second, and says what they are worth": (
        [(100, [120_900], 0.32, {}), (20, [46_600], 0.48, {}), (5, [24_000], 1.21, {})],
        f"Batch size 20 passed 1.6 first, after 46,600 digits (0.373 s); 5 took 1.3 times as long. {ONE_RUN}",
    ),
    "a setting that changes with the batch size is named": (
        [(100, [120_900], 1, {}), (20, [46_600], 1, {}), (5, [None], 1, {"lr": 1e-6, "weight_decay": 5e-6})],
        "; 5 (lr 1e-6) did not get there",
    ),
    "several seeds of one configuration are a median with its interval": (
        [(20, [40_000, 42_000, 44_000], 1, {})], "The median of 3 seeds, from 40,000 to 44,000.",
    ),
    "at equal iterations no difference in seconds is an answer": (
        [(20, [40_000] * 6, 1, {}), (20, [40_000] * 6, 1.3, {"lr": 2e-4})],
        "is undecided: the running loss cannot tell less than 3,000 digits apart",
    ),
    "runs that shared the machine are compared in what is the same there": (
        [(100, [120_000 + seed for seed in SEEDS], 1, {"concurrent_runs": 2}),
         (20, [46_000 + seed for seed in SEEDS], 1, {})],
        "Batch size 20 passed 1.6 first, after 46,000 digits (2,300 iterations); 100 needs 2.6 times the digits.",
    ),
    "a configuration that half of the seeds miss does not win by its lucky ones": (
        [(5, [10_000] * 3 + [None] * 3, 1, {}), (20, [40_000] * 6, 1, {})],
        "Batch size 20 passed 1.6 first, after 40,000 digits",
    ),
    "if every configuration misses in half of its runs that is said": (
        [(5, [10_000, None, None], 1, {})],
        "No configuration passed 1.6 in more than half of its runs; batch size 5 did most often, in 1 of 3 within 10 "
        "epochs.",
    ),
    "an identical run is counted once": (
        [(100, [100_000], 1, {}), (100, [100_000], 1, {"config": {"scaling.rule": "sqrt"}})], "One run:",
    ),
    "runs that differ in a key without a column are no replicates": (
        [(20, [40_000] * 6, 1, {"config": {"model.num_classes": 10}}),
         (20, [80_000] * 6, 1, {"config": {"model.num_classes": 12, "data.root": "elsewhere"}})],
        "Batch size 20, num classes 10 passed 1.6 first, after 40,000 digits",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("groups", "says"), VERDICTS.values(), ids=VERDICTS)
def test_a_verdict(tmp_path, groups, says):
    for number, (size, examples, seconds, columns) in enumerate(groups):
        add_seeds(tmp_path, size, examples, seconds, name=f"_{number}", **columns)
    assert says in verdict_of(tmp_path)


def test_of_several_optimizers_only_the_one_whose_rate_changes_is_named_so(tmp_path):
    for optimizer, odd in (("adam", 1e-6), ("sgd", 1e-2)):
        for size in (100, 20, 5):
            lr = odd if size == 5 or optimizer == "sgd" else 1e-4
            add_seeds(tmp_path, size, [1000 * size], name=f"_{optimizer}", lr=lr, optimizer=optimizer)
    study = finished(tmp_path)
    assert odd_settings(study.runs) == {"batch size 5, adam": "lr 1e-6"}


@pytest.mark.parametrize(
    ("examples", "others", "sure"),
    [
        (range(40_000, 46_000, 1000), range(100_000, 115_000, 2500), "Medians; it leads in 6 of 6 seeds, which is"),
        (
            [40_000, 50_000] * 3, [46_000] * 5 + [54_000],
            "Its lead over 100 is undecided: 4 of 6 seeds agree; more may decide (seeds=until_decided).",
        ),
        (
            [40_000] * 3, [90_000] * 3,
            "Its lead over 100 is undecided: 3 of 3 seeds agree, and it takes 6.",
        ),
        # The window has 3,000 digits: which of two crossings within it came first cannot be told.
        ([40_000] * 6, [42_000] * 6, "undecided: the running loss cannot tell less than 3,000 digits apart"),
        ([40_000], [42_000], "undecided: the running loss cannot tell less than 3,000 digits apart"),
        ([40_000], [60_000], "One run each: add seeds"),
        ([40_000] * 6, [43_100] * 6, "Medians; it leads in 6 of 6 seeds"),
    ],
)  # fmt: skip
def test_a_lead_is_compared_seed_by_seed(tmp_path, examples, others, sure):
    add_seeds(tmp_path, 20, examples)
    add_seeds(tmp_path, 100, others)
    assert sure in verdict_of(tmp_path)


def test_every_run_is_counted_by_epochs_if_the_losses_of_one_are_known_by_the_epoch_only(tmp_path):
    add_seeds(tmp_path, 20, [40_000])
    add_run(tmp_path, "100_0", losses_reaching(5), batch_size=100)
    np.save(tmp_path / "100_0" / LOSSES_FILE, np.full(6_000, np.nan, dtype="<f4"))
    study = finished(tmp_path)
    assert (study.goal.measure, study.goal.threshold) == ("epoch_loss", 1.6)
    assert dict(zip(study.runs["batch_size"], study.runs["examples_to_goal"], strict=True)) == {
        20: 180_000,
        100: 300_000,
    }
    assert "every run is counted by the mean loss of its epochs" in how_counted(study)
    assert "after 180,000 digits" in verdict_of(tmp_path)


def test_the_page_says_how_late_the_running_loss_is_at_every_batch_size(tmp_path):
    add_seeds(tmp_path, 100, [100_000])
    add_seeds(tmp_path, 5, [20_000])
    words = how_counted(finished(tmp_path))
    assert "over the last 3,000 examples trained on" in words
    assert "(2% at batch size 100 and 8% at 5)" in words


@pytest.mark.parametrize(
    ("losses", "says"),
    [
        (
            [2.0 - 0.03 * epoch for epoch in range(10)],
            "No run passed 1.6 within 10 epochs: batch size 20 came nearest, with 1.73 (0.13 away). At its last slope "
            "that takes about 5 epochs more, at another learning rate maybe fewer.",
        ),
        (
            [1.9, *[1.66] * 9],
            "No run passed 1.6 within 10 epochs: batch size 20 came nearest, with 1.660 (0.060 away). It hardly gets "
            "nearer any more: try another learning rate (optimizer.lr).",
        ),
        (
            [1.9],
            "No run passed 1.6 within 1 epoch: batch size 20 came nearest, with 1.90 (0.30 away). One epoch does not "
            "show how it goes on: try more (trainer.num_epochs).",
        ),
    ],
)
def test_if_no_run_arrived_the_nearest_is_named_and_what_would_help(tmp_path, losses, says):
    add_run(tmp_path, "far", [2.3] * len(losses), batch_size=5)
    add_run(tmp_path, "near", losses)
    assert verdict_of(tmp_path) == says


def test_if_every_run_diverged_or_failed_that_is_the_verdict(tmp_path):
    for seed in range(2):
        add_run(tmp_path / "a", f"{seed}", [math.nan], seed=seed, status="diverged")
        add_run(tmp_path / "b", f"{seed}", [], seed=seed, status="failed", error="Traceback\nOSError: full")
    assert verdict_of(tmp_path / "a") == "Every run diverged. A learning rate below 1e-4 may help."
    assert verdict_of(tmp_path / "b") == "Every run failed: OSError: full."


def test_a_run_that_was_interrupted_is_no_miss(tmp_path):
    add_seeds(tmp_path, 5, [20_000])
    add_run(tmp_path, "stopped", losses_reaching(None), batch_size=5, seed=1, status="interrupted")
    assert verdict_of(tmp_path) == (
        "Batch size 5 passed 1.6 after 20,000 digits (0.333 s). One run: add seeds (seed=0,1,2,3,4,5)."
    )


def test_without_a_run_that_ended_there_is_no_verdict(tmp_path):
    add_run(tmp_path, "a", losses_reaching(None), status="interrupted")
    assert verdict_of(tmp_path) == "No run has ended yet, so there is no verdict."


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"dataset": "mnist_sample"}, "These runs have different data sets"),
        ({"loss_threshold": 1.55}, "These runs have different thresholds"),
        ({"config": {"model.head": "logits"}}, "A loss behind softmax and behind logits is not the same measure"),
    ],
)
def test_runs_without_a_common_goal_are_not_ranked(tmp_path, columns, why):
    add_seeds(tmp_path, 100, [100_000])
    add_seeds(tmp_path, 20, [40_000], **columns)
    assert verdict_of(tmp_path).startswith(why)


def evaluated(sweep, name: str, targets: dict[str, list[float]], rows, **columns) -> None:
    config = {f"evaluation.targets.{measure}": values for measure, values in targets.items()}
    config |= columns.pop("config", {})
    add_run(sweep, name, losses_reaching(2), config=config, evaluations=rows, **columns)


def test_heads_are_ranked_by_an_error_if_that_is_a_target(tmp_path):
    for head, iterations in (("softmax", 3_000), ("logits", 1_000)):
        rows = [evaluation(0, 20, test_error=0.9), evaluation(iterations, 20, test_error=0.05)]
        evaluated(tmp_path, head, {"test_error": [0.1]}, rows, config={"model.head": head})
    assert verdict_of(tmp_path).startswith("Batch size 20, mlp_logits passed a test error of 0.1 first, after 15,200")


def test_the_loss_at_frozen_weights_comes_before_the_running_loss(tmp_path):
    rows = [evaluation(0, 20, train_loss=2.3), evaluation(1_000, 20, train_loss=1.5)]
    evaluated(tmp_path, "a", {"train_loss": [1.6]}, rows)
    assert verdict_of(tmp_path).startswith("Batch size 20 passed 1.6 after 17,000 digits")


@pytest.mark.parametrize(
    ("targets", "goal"),
    [
        ({"train_loss": [1.6], "test_error": [0.2]}, "a test error of 0.2"),
        ({"train_loss": [1.6, 1.55]}, "1.55"),
        ({"train_loss": [1.6], "train_error": [0.3, 0.2, 0.01]}, "a training error of 0.2"),
        ({"train_loss": [1.6], "train_error": [0.3], "test_loss": [1.7]}, "a training error of 0.3"),
    ],
)
def test_a_target_of_the_users_own_is_what_runs_are_ranked_by(tmp_path, targets, goal):
    rows = [
        evaluation(0, 20, train_loss=2.3, train_error=0.9, test_error=0.9, test_loss=2.3),
        evaluation(1_000, 20, train_loss=1.5, train_error=0.1, test_error=0.1, test_loss=1.5),
    ]
    evaluated(tmp_path, "a", targets, rows)
    assert verdict_of(tmp_path).startswith(f"Batch size 20 passed {goal} after ")


def test_if_evaluations_cannot_be_read_it_is_unknown_who_passed(tmp_path):
    evaluated(tmp_path, "a", {"train_loss": [1.6]}, [evaluation(900, 20, train_loss=1.5)])
    (tmp_path / "a" / "evaluations.csv").write_text("torn")
    assert verdict_of(tmp_path).startswith("It is unknown if a run passed")


def test_a_sweep_from_before_iterations_were_kept_is_answered_by_its_epochs(tmp_path):
    add_run(tmp_path, "a", losses_reaching(2), examples_to_threshold=None, iterations_to_threshold=None)
    assert verdict_of(tmp_path).startswith("Batch size 20 passed 1.6 after 120,000 digits (2 s)")


@pytest.mark.parametrize(
    ("seeds", "says"),
    [(1, "others came within 20 % (one run each); lr explains "), (3, "others cannot be told from it by these seeds")],
)
def test_of_many_configurations_the_best_is_named_how_many_come_near_and_what_separates_them(tmp_path, seeds, says):
    sweep_of(tmp_path, 24, seeds)
    found = verdict_of(tmp_path)
    assert found.startswith("Of 24 configurations, batch size ")
    assert says.replace("others", "other") in found.replace("others", "other")
