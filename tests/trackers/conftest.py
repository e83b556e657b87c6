"""A sweep to follow, and what a tracker is asked for meanwhile."""

import pytest

from digits_sweep.trackers import TRACKERS
from tests.studies import add_run
from tests.trackers.followed import STARTED, ListTracker


@pytest.fixture
def calls(monkeypatch):
    monkeypatch.setitem(TRACKERS, "list", ListTracker)
    monkeypatch.setattr(ListTracker, "calls", [])
    return ListTracker.calls


@pytest.fixture
def sweep(tmp_path):
    add_run(tmp_path / "sweep", "a", [1.7, 1.6], started_at=STARTED)
    return tmp_path / "sweep"
