"""How many runs of a search train at a time, and on a cluster share a job."""

from types import SimpleNamespace

import pytest

from digits_sweep.config.plan import plan
from digits_sweep.search import command


@pytest.mark.parametrize(
    ("typed", "is_timed", "runs_per_job"),
    [([], False, None), (["hydra.launcher.runs_per_job=3"], False, 3), ([], True, 1)],
)
def test_runs_share_jobs_unless_a_number_is_typed_or_seconds_are_compared(typed, is_timed, runs_per_job):
    pytest.importorskip("submitit")
    request = SimpleNamespace(planned=plan(["hydra/launcher=slurm", *typed]))
    search = SimpleNamespace(request=request, is_timed=is_timed)
    assert command.side_by_side(search, SimpleNamespace(say=pytest.fail)).runs_per_job == runs_per_job


@pytest.mark.parametrize(
    ("cores", "gigabytes", "threads", "workers"),
    [(2, 20, 1, 2), (64, 100, 1, 8), (8, 3, 1, 4), (8, 100, 4, 2), (8, 0, 1, 1), (2, 20, 4, 1)],
)
def test_as_many_runs_train_at_a_time_as_cores_and_memory_allow(monkeypatch, cores, gigabytes, threads, workers):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(cores)), raising=False)
    monkeypatch.setattr(command, "free_memory", lambda: gigabytes * 2**30)
    assert command.workers_here(threads) == workers
