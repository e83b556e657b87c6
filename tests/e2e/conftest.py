"""A quick search in the folder of a test."""

import pytest

from digits_sweep.results.sweep import load_sweep
from tests.searches import QUICK


@pytest.fixture
def tune(program):
    return lambda *arguments: program(*QUICK, *arguments, module="digits_sweep.tune")


@pytest.fixture
def found(tmp_path):
    """The table of the study's runs."""
    return lambda: load_sweep(tmp_path / "outputs" / "tune" / "s")
