"""A quick search in the folder of a test, with runs one after the other unless a launcher is typed."""

import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

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


NUMBERS = count(1)


@pytest.fixture
def module(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The name of a file with the test's `CODE` in the working folder: another each time, as it is imported once."""
    name = f"mine_{next(NUMBERS)}"
    (tmp_path / f"{name}.py").write_text(request.module.CODE)
    yield name
    sys.modules.pop(name, None)


@pytest.fixture
def tune(program):
    return lambda *arguments: program(*QUICK, *arguments, module=TUNE)


@pytest.fixture
def found(tmp_path):
    """The table of the study's runs."""
    return lambda: load_sweep(tmp_path / "outputs" / "tune" / "s")
