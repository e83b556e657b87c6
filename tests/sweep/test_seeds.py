"""Which seeds a sweep trains next until its winner is decided: a pure function of what is recorded."""

from dataclasses import replace

import pytest

from digits_sweep.config.plan import plan
from digits_sweep.errors import InvalidConfig
from digits_sweep.report.sentences import verdict
from digits_sweep.report.warnings import seeds_so_far
from digits_sweep.results.sweep import RecordedSweep
from digits_sweep.sweep.seeds import due, launch_due
from tests.studies import add_run, finished, losses_reaching

UNTIL = ("seeds=until_decided", "max_seeds=8")
TYPED = ("-m", "data.batch_size=100,20,5", *UNTIL, "seed=0", "trainer.num_epochs=10")


@pytest.fixture
def planned(tmp_path):
    whole = plan([*TYPED, f"outputs={tmp_path}"])
    return replace(whole, runs=tuple(replace(run, folder=_name(run)) for run in whole.runs))


def _name(run) -> str:
    return f"{run.config.data.batch_size}_{run.config.seed}"


def record(sweep, runs, examples, **columns) -> RecordedSweep:
    """Record runs that were planned: how many examples each needs is a function of its batch size and seed."""
    config = {"seeds": "until_decided", "max_seeds": 8, "trainer.num_epochs": 10}
    for run in runs:
        size, seed = run.config.data.batch_size, run.config.seed
        needed = examples(size, seed)
        crossing = {"examples_to_threshold": needed, "iterations_to_threshold": needed // size}
        add_run(
            sweep, run.folder, losses_reaching(3), config=config, batch_size=size, seed=seed, concurrent_runs=2,
            lr=run.config.optimizer.lr, weight_decay=run.config.optimizer.weight_decay, **crossing, **columns,
        )  # fmt: skip
    finished(sweep)
    return RecordedSweep(sweep)


def seeds_by_size(runs) -> dict[int, list[int]]:
    sizes = dict.fromkeys(run.config.data.batch_size for run in runs)
    return {size: [run.config.seed for run in runs if run.config.data.batch_size == size] for size in sizes}


CLEAR = {100: 40_000, 20: 80_000, 5: 160_000}


def clear(size, seed):
    """Batch size 100 leads in every seed."""
    return CLEAR[size] + 1_000 * seed


def close(size, seed):
    """Batch sizes 100 and 20 take turns, and 5 is far behind."""
    return CLEAR[5] if size == 5 else 40_000 + 10_000 * ((seed + (size == 20)) % 2)


def test_at_first_six_seeds_of_all_are_due_because_fewer_decide_nothing(planned, tmp_path):
    sweep = RecordedSweep(tmp_path / "sweep")
    assert seeds_by_size(due(planned, sweep)) == {size: [0, 1, 2, 3, 4, 5] for size in (100, 20, 5)}


def test_as_long_as_seeds_are_left_a_resume_adds_them(planned, tmp_path):
    record(tmp_path / "sweep", [run for run in planned.runs if run.config.seed < 6], close)
    assert "more may decide (resume=latest)." in verdict(finished(tmp_path / "sweep"))


def test_if_all_leads_are_decided_nothing_more_is_due(planned, tmp_path):
    sweep = record(tmp_path / "sweep", [run for run in planned.runs if run.config.seed < 6], clear)
    assert due(planned, sweep) == []
    text = seeds_so_far(finished(tmp_path / "sweep"))
    assert text == "Seeds were added until the lead was decided (batch size 100, batch size 20 and batch size 5: 6)."


def test_what_has_lost_trains_no_more_and_the_others_go_on_to_the_last_seed(planned, tmp_path):
    waves = []

    def launch(wave, sweep, screen):
        waves.append(seeds_by_size(wave.runs))
        record(sweep.folder, wave.runs, close)
        return 0

    assert launch_due(planned, RecordedSweep(tmp_path / "sweep"), None, launch) == 0
    # The two that take turns are undecided, and what is far behind needs more evidence as long as they are.
    assert waves[1:] == [{100: [6], 20: [6], 5: [6]}, {100: [7], 20: [7], 5: [7]}]
    study = finished(tmp_path / "sweep")
    assert seeds_so_far(study).startswith("The lead is undecided with all seeds of max_seeds=8 (")
    assert "more may decide (a larger max_seeds)." in verdict(study)


def test_a_launch_that_is_stopped_ends_the_sweep_with_its_exit_code(planned, tmp_path):
    assert launch_due(planned, RecordedSweep(tmp_path / "sweep"), None, lambda *of_the_launch: 130) == 130
    assert launch_due(planned, RecordedSweep(tmp_path / "sweep"), None, lambda *of_the_launch: 0) == 1


def test_a_run_that_failed_is_tried_again_by_the_next_command_only(planned, tmp_path):
    first = [run for run in planned.runs if run.config.seed < 6]
    record(tmp_path / "sweep", first[1:], clear)
    sweep = record(tmp_path / "sweep", first[:1], clear, status="failed")
    assert [run.folder for run in due(planned, sweep)] == ["100_0"]
    assert "100_0" not in [run.folder for run in due(planned, sweep, {"100_0"})]


def test_without_the_key_every_run_of_a_plan_is_due(tmp_path):
    planned = plan(["-m", "seed=0,1"])
    assert due(planned, RecordedSweep(tmp_path / "sweep")) == list(planned.runs)


def test_seeds_are_counted_up_from_the_one_that_is_typed_and_named_as_in_any_sweep():
    runs = plan(["-m", "data.batch_size=100,20", *UNTIL, "seed=3"]).runs
    assert [run.folder for run in runs[7:9]] == ["batch_size=100_seed=10", "batch_size=20_seed=3"]
    assert len(runs) == 16


def test_an_experiment_or_a_part_of_one_has_configurations_of_its_own():
    for typed, configurations in (("experiment=lesson", 4), ("+experiment/rules_grid=scaled", 10)):
        runs = plan(["-m", typed, *UNTIL, "seed=42"]).runs
        assert len(runs) == 8 * configurations
        assert {run.config.seed for run in runs} == set(range(42, 50))


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        (["data.batch_size=100", *UNTIL], "seeds=until_decided: several seeds are a sweep; add -m"),
        (["-m", "data.batch_size=100", *UNTIL], "seeds=until_decided: one configuration is the soonest anyway"),
        (["-m", "+experiment/rules_grid=scaled", *UNTIL], "seed=range(5): seeds=until_decided counts up from one seed"),
        (["-m", "+experiment/lesson_row=batch_100", *UNTIL], "seeds=until_decided: one configuration is the soonest"),
        (["-m", "data.batch_size=100,20", "seed=0,1", *UNTIL], "seed=0,1: seeds=until_decided counts up from one seed"),
        (["-m", "data.batch_size=100,20", "seeds=3"], "seeds=3: choose until_decided, or null"),
        (["-m", "data.batch_size=100,20", "max_seeds=5"], "max_seeds=5: must be a whole number from 6 to 999"),
    ],
)
def test_what_cannot_be_decided_is_refused_while_planning(typed, right):
    with pytest.raises(InvalidConfig) as refusal:
        plan(typed)
    assert right in str(refusal.value)
