"""The sentence at the top of the report, and when the runs give no verdict."""

import pytest

from digits_sweep.report.analysis.replicates import ended, replicates
from digits_sweep.report.analysis.verdict import verdict
from tests.studies import add_run, finished, losses_reaching


def verdict_of(sweep) -> str:
    study = finished(sweep)
    return verdict(ended(study.runs), replicates(study.runs))


def six_seeds(sweep, batch_size: int, seconds: float, epochs=(2,) * 6, **columns) -> None:
    for seed, epoch in enumerate(epochs):
        losses = losses_reaching(epoch)
        add_run(
            sweep, f"{batch_size}_{seed}", losses, seconds + seed / 100, batch_size=batch_size, seed=seed, **columns
        )


def test_the_winner_is_named_with_its_lead_and_its_seeds(tmp_path):
    six_seeds(tmp_path, 100, 1.0)
    six_seeds(tmp_path, 20, 2.0)
    assert verdict_of(tmp_path) == (
        "Batch size 100 gets below 1.6 first, after 2.05 s, 2 s to 2.1 s over 6 seeds: 1.98 times as fast as "
        "batch size 20 (4.05 s, 4 s to 4.1 s over 6 seeds)."
    )


def test_overlapping_intervals_give_no_verdict(tmp_path):
    six_seeds(tmp_path, 100, 1.0)
    six_seeds(tmp_path, 20, 1.02)
    assert verdict_of(tmp_path).startswith("The seeds do not show which configuration is first below 1.6")


def test_one_seed_gives_no_verdict_and_the_remedy_is_named(tmp_path):
    add_run(tmp_path, "a", losses_reaching(2), batch_size=100)
    add_run(tmp_path, "b", losses_reaching(3), batch_size=20)
    assert verdict_of(tmp_path).startswith(
        "With one run per configuration, the effect of the batch size cannot be separated from that of the seed."
    )
    assert "seed=0,1,2,3,4,5" in verdict_of(tmp_path)


def test_few_seeds_say_how_sure_they_are(tmp_path):
    six_seeds(tmp_path, 100, 1.0, epochs=(2, 2, 2))
    six_seeds(tmp_path, 20, 2.0, epochs=(2, 2, 2))
    assert "With 3 seeds the intervals contain the true median only 75% of the time." in verdict_of(tmp_path)


def test_runs_that_shared_the_machine_do_not_show_which_is_fastest(tmp_path):
    six_seeds(tmp_path, 100, 1.0, concurrent_runs=2)
    six_seeds(tmp_path, 20, 2.0)
    assert verdict_of(tmp_path).startswith("Up to 2 of these runs shared the machine")


def test_a_configuration_that_half_of_the_seeds_miss_does_not_win_by_its_lucky_ones(tmp_path):
    six_seeds(tmp_path, 5, 0.1, epochs=(2, 2, 2, None, None, None))
    six_seeds(tmp_path, 20, 2.0)
    assert verdict_of(tmp_path).startswith("The seeds do not show which configuration is first")
    assert "batch size 20 (4.05 s" in verdict_of(tmp_path)


@pytest.mark.parametrize("column", ["dataset", "loss_threshold"])
def test_runs_with_different_goals_have_no_common_verdict(tmp_path, column):
    six_seeds(tmp_path, 100, 1.0)
    six_seeds(tmp_path, 20, 2.0, **{column: "mnist_sample" if column == "dataset" else 1.55})
    assert "no common verdict" in verdict_of(tmp_path)


def test_if_no_run_reached_the_threshold_that_is_the_verdict(tmp_path):
    six_seeds(tmp_path, 5, 1.0, epochs=(None,) * 6)
    assert verdict_of(tmp_path) == "No run got below 1.6; the longest trained for 10 epochs."


def test_without_a_finished_run_there_is_no_verdict(tmp_path):
    add_run(tmp_path, "a", [], status="failed", error="RuntimeError: no")
    assert verdict_of(tmp_path) == "No run has ended yet, so there is no verdict."


def test_if_a_few_seeds_reached_the_threshold_it_does_not_say_that_none_did(tmp_path):
    six_seeds(tmp_path, 100, 1.0, epochs=(None,) * 6)
    six_seeds(tmp_path, 20, 1.0, epochs=(2, None, None, None, None, None))
    assert verdict_of(tmp_path) == "No configuration got below 1.6 with more than half of its seeds."


def test_with_unequal_numbers_of_seeds_the_smaller_one_says_how_sure_it_is(tmp_path):
    six_seeds(tmp_path, 100, 1.0)
    six_seeds(tmp_path, 20, 2.0, epochs=(2, 2, 2))
    assert "With 3 seeds the intervals contain the true median only 75% of the time." in verdict_of(tmp_path)


def test_runs_that_differ_in_a_key_without_a_column_are_no_replicates(tmp_path):
    six_seeds(tmp_path, 20, 1.0, config={"data.scale": "unit"})
    for seed in range(6):
        config = {"data.scale": "raw", "data.root": "elsewhere"}
        add_run(tmp_path, f"raw_{seed}", losses_reaching(2), 2.0 + seed / 100, seed=seed, config=config)
    assert verdict_of(tmp_path).startswith("Batch size 20, scale unit gets below 1.6 first")
    assert "as fast as batch size 20, scale raw" in verdict_of(tmp_path)
