"""The process beside a sweep: what goes wrong in it is a line, and costs the sweep nothing."""

import os
import re
import signal
import sys

import pytest
from filelock import FileLock, Timeout

from digits_sweep.results.lock import only_one
from digits_sweep.trackers import following
from digits_sweep.trackers.following import report_to_trackers

TRACKER = {"tensorboard": {"folder": "tensorboard"}}


@pytest.fixture
def instead_of_python(tmp_path, monkeypatch):
    """Put another program in the place of the one that reports."""

    def put(script: str) -> None:
        program = tmp_path / "python"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))

    return put


def test_without_a_tracker_no_process_is_started(tmp_path, monkeypatch):
    monkeypatch.setattr(following.subprocess, "Popen", None)
    with report_to_trackers({}, tmp_path, pytest.fail):
        pass


def test_a_process_that_dies_is_named_by_its_exit_code(tmp_path, instead_of_python):
    instead_of_python("exec <&-; exit 3")
    lines: list[str] = []
    with report_to_trackers(TRACKER, tmp_path, lines.append):
        pass
    assert lines == ["WARNING: the process of the trackers ended with exit code 3"]


# Nobody waits for that process any more, which Python notices.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_stopped_sweep_says_what_it_waits_for_and_does_not_wait_long(tmp_path, instead_of_python, monkeypatch):
    instead_of_python("exec sleep 600")
    monkeypatch.setattr(following, "PATIENCE_SECONDS", 0)
    monkeypatch.setattr(following, "MOST_SECONDS", 0)
    lines: list[str] = []
    with pytest.raises(KeyboardInterrupt), report_to_trackers(TRACKER | {"mlflow": {}}, tmp_path, lines.append):
        raise KeyboardInterrupt
    assert lines[0] == "waiting until tensorboard and mlflow have what is left, at most 0 s"
    (number,) = re.findall(r"^process (\d+) is still reporting to the trackers", lines[1])
    os.kill(int(number), signal.SIGKILL)


def test_an_error_in_the_sweep_is_raised_as_it_is(tmp_path, instead_of_python):
    instead_of_python("cat > /dev/null")
    with pytest.raises(KeyboardInterrupt), report_to_trackers(TRACKER, tmp_path, pytest.fail):
        raise KeyboardInterrupt


def test_of_two_reporters_of_a_sweep_the_second_waits_for_the_first(tmp_path):
    with only_one(tmp_path / ".trackers.lock"), pytest.raises(Timeout):
        FileLock(tmp_path / ".trackers.lock").acquire(timeout=0)
    with only_one(tmp_path / ".trackers.lock"):
        pass
