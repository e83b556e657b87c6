"""Sweeps for tests of the report, each given by what is not as usual in its runs."""

from string import ascii_lowercase
from typing import Any

import pytest

from digits_sweep.report.study import Study
from tests.studies import add_run, finished, losses_reaching


@pytest.fixture
def recorded(tmp_path):
    """Record a sweep, and read it back: its runs `a`, `b` and so on, with the cells and keys that are not as usual.

    `reached` is the first epoch below the threshold, of `epochs`; or `losses` has the mean losses of all epochs.
    """

    def record(*runs: dict[str, Any], folder: str = "sweep", **options: Any) -> Study:
        for letter, run in zip(ascii_lowercase, runs, strict=False):
            columns = {"name": letter, "reached": 2, "epochs": 10, **run}
            losses = losses_reaching(columns.pop("reached"), columns.pop("epochs"))
            add_run(tmp_path / folder, **{"losses": losses, **columns})
        return finished(tmp_path / folder, **options)

    return record
