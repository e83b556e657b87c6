"""The log of a run: what is in it, and where it is never written."""

import logging
import os

import pytest

from digits_sweep.sweep.run_files import RunLog


def logged(path, *lines: str) -> None:
    handler = RunLog(str(path))
    for line in lines:
        handler.handle(logging.makeLogRecord({"msg": line}))
    handler.close()


def test_lines_are_appended(tmp_path):
    logged(tmp_path / "run.log", "one")
    logged(tmp_path / "run.log", "two", "three: \u00b5 \udcff\x1b]52")
    assert (tmp_path / "run.log").read_text(encoding="utf-8") == "one\ntwo\nthree: \u00b5 \\udcff\\x1b]52\n"


@pytest.mark.skipif(os.name != "posix", reason="links and pipes as POSIX has them")
def test_nothing_is_written_through_a_link_or_to_a_pipe(tmp_path, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    target = tmp_path / "bashrc"
    target.write_text("mine\n")
    (tmp_path / "link.log").symlink_to(target)
    os.mkfifo(tmp_path / "pipe.log")
    logged(tmp_path / "link.log", "theirs")
    logged(tmp_path / "pipe.log", "theirs")
    assert target.read_text() == "mine\n"
