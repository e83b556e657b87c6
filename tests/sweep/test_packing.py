"""Which runs share a job of a cluster."""

from dataclasses import asdict
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digits_sweep.config.plan import plan
from digits_sweep.results.run import read_run
from digits_sweep.sweep.packing import SECONDS_PER_JOB, alike, by_seconds, expected, in_jobs_of, seconds_of
from tests.studies import add_run

RUNS = plan(["-m", "data=mnist_sample", "data.batch_size=100,5", "seed=range(0,12)", "optimizer.lr=1e-3,1e-4"]).runs
KINDS = {size: alike(asdict(run.config)) for run in RUNS if (size := run.config.data.batch_size)}
HOURS = 3_600.0


def sizes(jobs) -> list[int]:
    return [len(job) for job in jobs]


def test_a_number_of_runs_a_job():
    assert sizes(in_jobs_of(20, RUNS)) == [20, 20, 8]


def test_runs_that_differ_in_seed_and_rate_take_equally_long():
    assert len(KINDS) == 2
    assert {alike(asdict(run.config)) for run in RUNS} == set(KINDS.values())


def test_without_anything_known_one_of_each_kind_goes_first_and_the_others_wait():
    jobs, waiting = by_seconds(RUNS, {}, 4 * HOURS)
    assert [run.config.data.batch_size for (run,) in jobs] == [100, 5]
    assert sizes([waiting]) == [46]
    assert by_seconds(waiting, {}, 4 * HOURS, tried=KINDS.values()) == ([], waiting)


def test_short_runs_share_a_job_and_long_ones_get_one_each():
    jobs, waiting = by_seconds(RUNS, {KINDS[100]: 1.0, KINDS[5]: 2 * HOURS}, 4 * HOURS)
    assert sizes(jobs) == [24] + [1] * 24
    assert waiting == []


def test_a_job_is_planned_to_take_half_of_its_time_limit_at_most():
    jobs, _ = by_seconds(RUNS[:24], {KINDS[100]: 10.0}, limit_seconds=60.0)
    assert sizes(jobs) == [3] * 8


@given(st.lists(st.floats(0, 2 * SECONDS_PER_JOB), min_size=2, max_size=2), st.floats(1, HOURS))
def test_every_run_is_in_one_job_which_takes_no_longer_than_it_may(seconds, limit):
    known = dict(zip(KINDS.values(), seconds, strict=True))
    jobs, waiting = by_seconds(RUNS, known, limit)
    assert [run for job in jobs for run in job] == list(RUNS)
    assert waiting == []
    for job in jobs:
        taken = sum(known[alike(asdict(run.config))] for run in job)
        assert len(job) == 1 or taken <= min(SECONDS_PER_JOB, limit / 2) * (1 + 1e-9)


def ago(seconds: float) -> str:
    return datetime.fromtimestamp(datetime.now().timestamp() - seconds, timezone.utc).isoformat()


@pytest.mark.parametrize(
    ("status", "resumed_after", "started", "seconds"),
    [
        ("completed", (), 1e6, 1e6),
        ("completed", (1,), 1e6, 20),
        ("completed", (), None, 20),
        ("interrupted", (), 1e6, 15e6),
        ("interrupted", (), -1e6, 300),
    ],
    ids=["by the clock", "resumed: as measured", "start unknown", "the rest of its epochs too", "a clock ahead"],
)
def test_how_long_a_run_takes(tmp_path, status, resumed_after, started, seconds):
    started_at = "long ago" if started is None else ago(started)
    config = {"trainer.num_epochs": 30}
    add_run(
        tmp_path, "a", [1.7, 1.6], seconds=10.0, config=config, status=status, resumed_after=resumed_after,
        started_at=started_at,
    )  # fmt: skip
    assert seconds_of(read_run(tmp_path / "a")) == pytest.approx(seconds, rel=0.01)


def test_nothing_is_known_of_a_run_before_its_first_epoch_and_the_median_counts(tmp_path):
    add_run(tmp_path, "a", [], status="interrupted")
    assert expected([read_run(tmp_path / "a")]) == {}
    for name, seconds in (("b", 1.0), ("c", 3.0), ("d", 100.0)):
        add_run(tmp_path, name, [1.7], seconds, seed=ord(name), started_at=ago(-1e6))
    (seconds,) = expected(read_run(tmp_path / name) for name in "bcd").values()
    assert seconds == pytest.approx(3.0)
