"""A search on a cluster: the runs of a wave share jobs unless somebody says otherwise."""

from types import SimpleNamespace

import pytest

from digits_sweep.config.plan import plan
from digits_sweep.search.command import side_by_side


@pytest.mark.parametrize(
    ("typed", "is_timed", "runs_per_job"),
    [([], False, None), (["hydra.launcher.runs_per_job=3"], False, 3), ([], True, 1)],
)
def test_runs_share_jobs_unless_a_number_is_typed_or_seconds_are_compared(typed, is_timed, runs_per_job):
    pytest.importorskip("submitit")
    request = SimpleNamespace(planned=plan(["hydra/launcher=slurm", *typed]))
    search = SimpleNamespace(request=request, is_timed=is_timed)
    assert side_by_side(search, SimpleNamespace(say=pytest.fail)).runs_per_job == runs_per_job
