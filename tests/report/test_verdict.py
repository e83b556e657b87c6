"""The sentences at the top of the report: the numbers, and how far they can be relied on."""

import pytest

from digits_sweep.report.analysis.sentences.verdict import verdict
from digits_sweep.report.analysis.statistics.replicates import ended, replicates
from tests.studies import add_run, evaluation, finished, losses_reaching

SEEDS = range(6)


def verdict_of(sweep) -> str:
    study = finished(sweep)
    return verdict(ended(study.runs), replicates(study.runs), study.goal)


def add_seeds(sweep, batch_size: int, examples, seconds: float = 1.0, name: str = "", **columns) -> None:
    """Add a run for every seed, which takes so many `examples` to the threshold; None: it does not get there."""
    for seed, each in enumerate(examples):
        reached = each is not None
        passed = {"examples_to_threshold": each, "iterations_to_threshold": each // batch_size} if reached else {}
        losses = losses_reaching(3 if reached else None)
        own = {"batch_size": batch_size, "seed": seed, **passed, **columns}
        add_run(sweep, f"{batch_size}_{seed}{name}", losses, seconds, **own)


def test_one_run_each_gives_the_numbers_and_says_what_they_are_worth(tmp_path):
    add_seeds(tmp_path, 100, [120_900], 0.32)
    add_seeds(tmp_path, 20, [46_600], 0.48)
    add_seeds(tmp_path, 5, [20_800], 1.21)
    assert verdict_of(tmp_path) == (
        "Batch size 20 passed 1.6 after 46,600 digits (0.373 s), 5 after 20,800 digits (0.419 s), 100 after 121,000 "
        "digits (0.645 s); one run each: more seeds (seed=0,1,2,3,4,5) show by how much a seed moves these."
    )


def test_a_lead_that_all_seeds_show_is_told_pair_by_pair(tmp_path):
    add_seeds(tmp_path, 20, [40_000 + 1_000 * seed for seed in SEEDS])
    add_seeds(tmp_path, 100, [100_000 + 2_500 * seed for seed in SEEDS])
    assert verdict_of(tmp_path) == (
        "Batch size 20 passed 1.6 after 42,500 digits (0.708 s), 100 after 106,000 digits (1.77 s); medians of 6 "
        "seeds. Seed by seed 100 needs 2.5 times the seconds of 20 (2.5 to 2.5), more of them in 6 of 6 seeds: that is "
        "no noise between seeds."
    )


def test_seeds_that_disagree_decide_nothing(tmp_path):
    add_seeds(tmp_path, 20, [40_000, 44_000, 40_000, 44_000, 40_000, 44_000])
    add_seeds(tmp_path, 100, [42_000] * 5 + [47_000])
    assert verdict_of(tmp_path).endswith("The seeds do not decide between 20 and 100: 20 was sooner in 4 of 6 seeds.")


def test_few_seeds_that_agree_decide_nothing_either(tmp_path):
    add_seeds(tmp_path, 20, [40_000] * 3)
    add_seeds(tmp_path, 100, [90_000] * 3)
    assert verdict_of(tmp_path).endswith(
        "The seeds do not decide between 20 and 100: 20 was sooner in 3 of 3 seeds; 6 seeds that agree are the fewest "
        "that can."
    )


def test_at_equal_iterations_no_difference_in_seconds_is_an_answer(tmp_path):
    add_seeds(tmp_path, 20, [40_000] * 6, 1.0)
    add_seeds(tmp_path, 20, [40_000] * 6, 1.3, name="_other", lr=2e-4)
    assert "The seeds do not decide between" in verdict_of(tmp_path)
    assert "was sooner in 0 of 6 seeds" in verdict_of(tmp_path)


def test_runs_that_shared_the_machine_are_compared_in_what_is_the_same_there(tmp_path):
    add_seeds(tmp_path, 100, [120_000 + seed for seed in SEEDS], concurrent_runs=2)
    add_seeds(tmp_path, 20, [46_000 + seed for seed in SEEDS])
    assert verdict_of(tmp_path) == (
        "Batch size 20 passed 1.6 after 46,000 digits (2,300 iterations), 100 after 120,000 digits (1,200 iterations); "
        "medians of 6 seeds. Seed by seed 100 needs 2.61 times the digits of 20 (2.61 to 2.61), more of them in 6 of 6 "
        "seeds: that is no noise between seeds. Up to 2 runs shared the machine, so their seconds are not compared."
    )


def test_a_batch_size_that_did_not_get_there_is_named(tmp_path):
    add_seeds(tmp_path, 100, [120_000] * 2)
    add_seeds(tmp_path, 5, [None] * 2)
    add_seeds(tmp_path, 20, [40_000, None, None])
    found = verdict_of(tmp_path)
    assert "batch size 5 did not pass 1.6 within 10 epochs" in found
    assert "batch size 20 passed 1.6 in 1 of 3 runs within 10 epochs" in found
    assert "not reached" not in found


def test_a_configuration_that_half_of_the_seeds_miss_does_not_win_by_its_lucky_ones(tmp_path):
    add_seeds(tmp_path, 5, [10_000] * 3 + [None] * 3)
    add_seeds(tmp_path, 20, [40_000] * 6)
    assert verdict_of(tmp_path).startswith("Batch size 20 passed 1.6 after 40,000 digits")


def test_if_no_run_reached_the_threshold_that_is_the_verdict(tmp_path):
    add_seeds(tmp_path, 5, [None] * 6)
    assert verdict_of(tmp_path) == "No run passed 1.6 within 10 epochs."


def test_a_run_that_was_interrupted_is_no_miss(tmp_path):
    add_seeds(tmp_path, 5, [20_000])
    add_run(tmp_path, "stopped", losses_reaching(None), batch_size=5, seed=1, status="interrupted")
    assert verdict_of(tmp_path).startswith("Batch size 5 passed 1.6 after 20,000 digits (0.333 s); one run")


def test_without_a_finished_run_there_is_no_verdict(tmp_path):
    add_run(tmp_path, "a", [], status="failed", error="RuntimeError: no")
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


def test_heads_are_ranked_by_an_error_if_that_is_a_target(tmp_path):
    for head, iterations in (("softmax", 3_000), ("logits", 1_000)):
        rows = [evaluation(0, 20, test_error=0.9), evaluation(iterations, 20, test_error=0.05)]
        config = {"model.head": head, "evaluation.targets.test_error": [0.1]}
        add_run(tmp_path, head, losses_reaching(2), config=config, evaluations=rows)
    assert verdict_of(tmp_path).startswith("Batch size 20, mlp_logits passed a test error of 0.1 after 15,200 digits")


def test_the_loss_at_frozen_weights_comes_before_the_running_loss(tmp_path):
    rows = [evaluation(0, 20, train_loss=2.3), evaluation(1_000, 20, train_loss=1.5)]
    config = {"evaluation.targets.train_loss": [1.6]}
    add_run(tmp_path, "a", losses_reaching(2), config=config, evaluations=rows)
    assert verdict_of(tmp_path).startswith("Batch size 20 passed 1.6 after 17,000 digits")


def test_an_identical_run_is_counted_once(tmp_path):
    add_seeds(tmp_path, 100, [100_000])
    add_seeds(tmp_path, 100, [100_000], name="_sqrt", config={"scaling.rule": "sqrt"})
    assert "one run:" in verdict_of(tmp_path)


def test_a_sweep_from_before_iterations_were_kept_is_answered_by_its_epochs(tmp_path):
    add_run(tmp_path, "a", losses_reaching(2), examples_to_threshold=None, iterations_to_threshold=None)
    assert verdict_of(tmp_path).startswith("Batch size 20 passed 1.6 after 120,000 digits (2 s)")


def test_runs_that_differ_in_a_key_without_a_column_are_no_replicates(tmp_path):
    add_seeds(tmp_path, 20, [40_000] * 6, config={"model.num_classes": 10})
    add_seeds(tmp_path, 20, [80_000] * 6, name="_raw", config={"model.num_classes": 12, "data.root": "elsewhere"})
    assert verdict_of(tmp_path).startswith("Batch size 20, num classes 10 passed 1.6 after 40,000 digits")


def test_of_many_configurations_the_first_are_named(tmp_path):
    for place in range(9):
        add_seeds(tmp_path, 20, [40_000 + 1000 * place], name=f"_{place}", lr=1e-4 * (place + 1))
    assert "6 more later (see the table)" in verdict_of(tmp_path)
