"""Folders in which something else lies than a sweep leaves there: nothing is sent away, and nothing is waited for."""

import os
from pathlib import Path

import pytest

from tests.trackers.followed import follow, reported


@pytest.mark.skipif(os.name != "posix", reason="links as POSIX has them")
def test_a_folder_with_a_link_in_it_is_not_sent(sweep, calls, tmp_path):
    (tmp_path / "secret").write_text("x")
    (sweep / "a" / "more").symlink_to(tmp_path / "secret")
    (warning,) = follow(sweep)
    assert "more is a symbolic link" in warning
    assert "end" not in {call[0] for call in calls}


@pytest.mark.parametrize(
    "content",
    ["no JSON", "[]", '{"list": 3}', '{"list": {"epochs": -1}}', '{"list": {"epochs": "1"}}', '{"list": {"new": 1}}'],
)
def test_an_unreadable_trackers_json_costs_nothing(sweep, calls, content):
    (sweep / "a" / "trackers.json").write_text(content)
    assert follow(sweep) == []
    assert len(calls) == 4
    assert reported(sweep / "a")["list"]["epochs"] == 2


@pytest.mark.skipif(os.name != "posix", reason="links and pipes as POSIX has them")
@pytest.mark.parametrize("made", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir])
def test_a_trackers_json_that_is_no_file_is_neither_read_nor_waited_for(sweep, calls, made):
    made(sweep / "a" / "trackers.json")
    follow(sweep)
    assert calls[0] == ("begin", "a", None)


@pytest.mark.skipif(os.name != "posix", reason="links as POSIX has them")
def test_a_trackers_json_that_is_a_link_is_replaced_and_its_target_is_not(sweep, calls):
    target = sweep / "target.json"
    target.write_text('{"list": {"known_as": "theirs", "epochs": 2, "ended": "completed"}}')
    (sweep / "a" / "trackers.json").symlink_to(target)
    assert follow(sweep) == []
    assert "theirs" in target.read_text()
    assert len(calls) == 4
    assert reported(sweep / "a")["list"]["known_as"] == "id of a"
