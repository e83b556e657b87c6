"""Following a sweep once with a tracker that keeps what it is asked for."""

import json
from typing import ClassVar

from digits_sweep.trackers.following import Follower

STARTED = "2026-01-02T03:04:05+00:00"


class ListTracker:
    """Everything that a tracker is asked to do, in a list that all of them share."""

    calls: ClassVar[list[tuple]] = []

    def __init__(self, fails_at: str = "") -> None:
        self.fails_at = fails_at

    def _called(self, *call) -> None:
        if call[0] == self.fails_at:
            raise OSError("no connection\nsecond line")
        self.calls.append(call)

    def begin(self, run_dir, record, known_as):
        self._called("begin", run_dir.name, known_as)
        return f"id of {run_dir.name}"

    def epoch(self, known_as, number, figures):
        self._called("epoch", known_as, number)

    def end(self, known_as, run_dir, record, figures):
        self._called("end", known_as, record.status)


def follow(sweep, last=True, **settings) -> list[str]:
    warnings: list[str] = []
    Follower(sweep, settings or {"list": {}}, warnings.append).follow(last)
    return warnings


def reported(folder) -> dict:
    return json.loads((folder / "trackers.json").read_text())
