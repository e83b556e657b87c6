"""A quick search in the folder of a test, with runs one after the other unless a launcher is typed."""

from collections.abc import Iterator

import pytest

from digits_sweep.results.sweep import load_sweep
from digits_sweep.search import command
from tests.searches import QUICK, TUNE


@pytest.fixture(scope="module", autouse=True)
def one_at_a_time() -> Iterator[None]:
    """Commands in this process start no workers: torch takes seconds to import in each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "workers_here", lambda num_threads: 1)
        yield


@pytest.fixture
def tune(program):
    return lambda *arguments: program(*QUICK, *arguments, module=TUNE)


@pytest.fixture
def found(tmp_path):
    """The table of the study's runs."""
    return lambda: load_sweep(tmp_path / "outputs" / "tune" / "s")
