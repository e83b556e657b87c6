"""What is recorded of the program and its machine."""

import shutil
import subprocess
from pathlib import Path

import pytest

from digits_sweep import __version__
from digits_sweep.results import record
from digits_sweep.results.record import describe_environment, git_commit

SOURCE = Path(record.__file__)


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """A repository of somebody else's with one commit."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    folder = tmp_path / "theirs"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "pyproject.toml").write_text("")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "theirs")
    return folder


def installed_in(folder: Path, monkeypatch) -> None:
    """Let the program be the one that lies in `folder`."""
    module = folder / "digits_sweep" / "results" / SOURCE.name
    module.parent.mkdir(parents=True)
    module.write_text("")
    monkeypatch.setattr(record, "__file__", str(module))


def commit() -> str | None:
    return git_commit.__wrapped__()


def test_the_commit_of_the_programs_own_checkout_is_recorded_with_whether_files_differ(repository, monkeypatch):
    installed_in(repository, monkeypatch)
    assert commit() == git(repository, "rev-parse", "HEAD")
    (repository / "pyproject.toml").write_text("changed")
    assert commit() == git(repository, "rev-parse", "HEAD") + "-dirty"


def test_a_repository_that_the_program_is_merely_installed_in_does_not_count(repository, monkeypatch):
    installed_in(repository / ".venv" / "lib" / "python3.11" / "site-packages", monkeypatch)
    assert commit() is None


def test_a_repository_that_the_environment_names_does_not_count(repository, tmp_path, monkeypatch):
    installed_in(tmp_path / "elsewhere", monkeypatch)
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "elsewhere"))
    assert commit() is None


def test_without_git_there_is_no_commit(repository, monkeypatch):
    installed_in(repository, monkeypatch)
    monkeypatch.setenv("PATH", "")
    assert commit() is None


def test_the_programs_version_is_recorded_beside_those_of_its_libraries():
    packages = describe_environment()["packages"]
    assert packages["digits_sweep"] == __version__
    assert {"torch", "numpy", "pandas"} <= packages.keys()
