"""`--help` and `--version` of every command answer, wherever it is started and whatever becomes of the answer."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.commands import Program

# What the help of each command says besides its name.
HELP = {
    "digits_sweep": "if I change the batch size",
    "digits_sweep.report": "--page",
    "digits_sweep.tune": "objective: examples_to_threshold",
    "digits_sweep.critical_batch_size": "give_up: 4",
    "digits_sweep.which_batch_size": "give_up: 4",
    "digits_sweep.cost": "critical.cost=cost.json critical.price=2.5",
    "digits_sweep.record": '{"loss": 2.31}',
    "digits_sweep.status": "--watch",
    "digits_sweep.cancel": "your newest sweep",
    "digits_sweep.trackers": "",
}
every_command = pytest.mark.parametrize("module", HELP)
FLAGS = ("--help", "--version")
# Standing in a folder that is gone takes a process of its own; so does a standard output that is closed or full.
REMOVED = 'folder=$(mktemp -d) && cd "$folder" && rmdir "$folder" && exec "$0" -m '
SHELLS = {
    "a removed folder": REMOVED + '"$@"',
    "closed": 'exec "$0" -m "$@" >&-',
    "full": 'exec "$0" -m "$@" >/dev/full',
}


@every_command
@pytest.mark.parametrize("flag", FLAGS)
def test_it_answers_in_a_folder_of_any_name_and_without_a_home_folder(tmp_path, module, flag, monkeypatch):
    monkeypatch.delenv("HOME")
    folder = tmp_path / "a${x}b q'u\"o te new\nline {}"
    folder.mkdir()
    answered = Program(folder)(flag, module=module)
    assert (answered.returncode, answered.stderr) == (0, "")
    if flag == "--version":
        assert answered.stdout == "digits_sweep 0.1.0\n"
    else:
        assert module in answered.stdout
        assert HELP[module] in answered.stdout
    assert list(folder.iterdir()) == []


@pytest.mark.full
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
@every_command
@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("shell", SHELLS)
def test_it_ends_well_from(tmp_path, module, flag, shell):
    environment: Mapping[str, str] = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = ["sh", "-c", SHELLS[shell], sys.executable, module, flag]
    answered = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert answered.returncode == 0, answered.stderr
    assert "Traceback" not in answered.stderr
    assert "Error" not in answered.stderr
    assert bool(answered.stdout) == (shell == "a removed folder")


# A Python without the packages that the program needs; a package that is None there cannot be imported.
BARE = """
import runpy, sys
sys.modules |= dict.fromkeys(("hydra", "msgspec", "numpy", "omegaconf", "pandas", "rich", "torch", "yaml"))
module, *sys.argv[1:] = sys.argv[1:]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def without_packages(tmp_path: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BARE, module, *arguments]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, input="{}")


@every_command
def test_the_version_needs_no_package(tmp_path, module):
    answered = without_packages(tmp_path, module, "--version")
    assert (answered.returncode, answered.stdout, answered.stderr) == (0, "digits_sweep 0.1.0\n", "")


@every_command
def test_without_its_packages_a_command_says_what_installs_them(tmp_path, module):
    arguments = ["."] if module in ("digits_sweep.report", "digits_sweep.trackers") else []
    refused = without_packages(tmp_path, module, *arguments)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.endswith(f" is not installed here; run make sweep once, then .venv/bin/python -m {module}\n")
    assert len(refused.stderr.splitlines()) == 1
