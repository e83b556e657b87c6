"""What other systems do not have is not asked for there: their part is played by a module `os` that lacks it."""

import ast
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from digits_sweep.results import changes, files, lock
from digits_sweep.sweep import own_command
from digits_sweep.sweep.own_command import _stop
from tests.documents import ROOT

# Modules that Python has on POSIX systems alone.
POSIX_ONLY = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}


LACKS = {"O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "fork", "geteuid", "getuid", "kill", "killpg", "sched_getaffinity"}


class Windows(SimpleNamespace):
    """Of `os` what Windows has; but no process may be asked if it is alive: `os.kill(pid, 0)` ends it there."""

    def __init__(self):
        super().__init__(**{name: getattr(os, name) for name in dir(os) if name not in LACKS} | {"name": "nt"})


@pytest.fixture
def windows(monkeypatch):
    for module in (lock, changes, files, own_command):
        monkeypatch.setattr(module, "os", Windows())


def test_no_module_needs_what_windows_lacks_to_be_imported():
    for path in (ROOT / "digits_sweep").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not POSIX_ONLY.intersection(names), path


def test_no_process_is_asked_if_it_is_alive_and_none_counts_as_gone(windows):
    owner = lock.this_process()
    assert owner.pid == os.getpid()
    assert not owner.is_gone()
    # The number of a process that has ended.
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    assert not lock.Owner(int(ended.stdout), owner.host, owner.since).is_gone()


def test_a_file_has_no_owner_and_a_folder_no_flush(windows, tmp_path):
    (tmp_path / "file").write_text("content")
    assert files.is_own(tmp_path / "file")
    files.keep(tmp_path / "kept", b"content")
    assert files.read_kept(tmp_path / "kept") == b"content"
    changes.flush_folder(tmp_path / "nowhere")
    changes.flush(tmp_path / "file")


def test_a_file_system_without_links_gets_copies(tmp_path, monkeypatch):
    def refuse(*paths, **options):
        raise NotImplementedError("follow_symlinks unavailable on this platform")

    monkeypatch.setattr(changes.os, "link", refuse)
    (tmp_path / "file").write_text("content")
    changes.link(tmp_path / "file", tmp_path / "second")
    assert (tmp_path / "second").read_text() == "content"


@pytest.mark.parametrize("is_running", [True, False])
def test_a_command_is_ended_with_all_that_it_has_started(windows, monkeypatch, is_running):
    ended = []
    monkeypatch.setattr(own_command, "subprocess", SimpleNamespace(run=lambda words, **options: ended.append(words)))
    process = SimpleNamespace(
        pid=7, poll=lambda: None if is_running else 0, kill=lambda: ended.append("kill"), wait=lambda *seconds: None
    )
    _stop(process)
    assert ended == [["taskkill", "/T", "/F", "/PID", "7"]] * is_running + ["kill"]
