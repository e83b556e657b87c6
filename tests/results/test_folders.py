"""Folders as a user types them: `~` is the home folder, if there is one."""

import pytest

from digits_sweep.config.text import expand_home


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("~", "/home/her"),
        ("~/x/y", "/home/her/x/y"),
        ("~/", "/home/her/"),
        ("x/~", "x/~"),
        ("./~/x", "./~/x"),
        ("/x", "/x"),
        ("", ""),
        ("~nobody-of-this-name/x", "~nobody-of-this-name/x"),
    ],
)
def test_only_at_the_start_a_tilde_is_the_home_folder(text, expected, monkeypatch):
    monkeypatch.setenv("HOME", "/home/her")
    assert expand_home(text) == expected


def test_the_root_can_be_home(monkeypatch):
    monkeypatch.setenv("HOME", "/")
    assert (expand_home("~"), expand_home("~/x")) == ("/", "/x")


def test_without_a_home_folder_a_path_stays_as_it_was_typed(monkeypatch):
    monkeypatch.setenv("HOME", "")
    assert expand_home("~/x") == "~/x"
    # A container may run as a user that it does not know.
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    assert expand_home("~/x") == "~/x"
