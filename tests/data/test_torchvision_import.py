"""A torchvision that was built for another torch is named, with what to do, however it is come upon."""

import subprocess
import sys
from importlib.metadata import version

import pytest

from tests.mirror import nobody_there

IMPORT = """
from digits_sweep.data.torchvision_import import import_torchvision
work = import_torchvision
"""

FETCH = """
from pathlib import Path
from digits_sweep.data.mnist import load_mnist
def work():
    load_mnist(Path(sys.argv[2]), sys.argv[3:], report=lambda line: None)
"""

TELL = """
from digits_sweep.data.torchvision_import import MismatchedTorchvision
try:
    work()
except MismatchedTorchvision as error:
    print(error)
"""

REASONS = {
    "RuntimeError": "operator torchvision::nms does not exist",
    "ImportError": "libcudart.so.13: cannot open shared object file",
}


def told(program: str, *arguments: object) -> str:
    """What `program` prints where the folder that is its first argument comes first on the path."""
    script = f"import sys\nsys.path.insert(0, sys.argv[1])\n{program}{TELL}"
    finished = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60)
    assert finished.stderr == ""
    return finished.stdout


@pytest.fixture(params=REASONS)
def reason_and_path(request, tmp_path):
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(f"raise {request.param}({REASONS[request.param]!r})\n")
    return REASONS[request.param], tmp_path


def expected(reason: str) -> str:
    return (
        f"torch {version('torch')} and torchvision {version('torchvision')} do not work together ({reason}); "
        "install both from the same place: pip install --force-reinstall torch torchvision\n"
    )


def test_it_is_named_with_both_versions_the_reason_and_the_remedy(reason_and_path):
    reason, path = reason_and_path
    assert told(IMPORT, path) == expected(reason)


def test_fetching_names_it_too_and_does_not_blame_the_mirror(reason_and_path, tmp_path):
    reason, path = reason_and_path
    with nobody_there() as mirror:
        assert told(FETCH, path, tmp_path / "root", mirror) == expected(reason)
