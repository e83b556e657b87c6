"""What is kept in the user's cache folder: read only if it is whole, and nobody else could have put it there."""

import os
import random
import stat
from pathlib import Path

import pytest

from digits_sweep.results.files import cache_file, keep, read_kept
from tests.sweep.disk import disk_after, recorded_changes

needs_posix = pytest.mark.skipif(os.name != "posix", reason="only POSIX has such owners and modes")


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def kept(cache) -> Path:
    path = cache_file("native", "library")
    keep(path, b"content")
    return path


def test_what_is_kept_is_read_again(kept, cache):
    assert kept == cache / "digits_sweep" / "native" / "library"
    assert read_kept(kept) == b"content"


@pytest.mark.parametrize("damaged", [b"", b"cont", bytes(7), b"contenu"])
def test_what_is_damaged_is_not_read(damaged, kept):
    kept.write_bytes(damaged)
    assert read_kept(kept) is None


def test_it_is_on_the_disk_with_its_digest_once_it_is_kept(cache):
    with recorded_changes() as changes:
        keep(path := cache_file("library"), b"content")
    expected = {path: path.read_bytes() for path in path.parent.iterdir()}
    assert sorted(path.name for path in expected) == ["library", "library.sha256"]
    for state in disk_after(changes, len(changes)).after_power_cuts(100, random.Random(0)):
        assert state == expected


@pytest.mark.parametrize("base", ["a file", "relative", "no home"])
def test_without_a_folder_of_the_users_nothing_is_kept(base, cache, tmp_path, monkeypatch):
    """A file stands in for a home that cannot be written to: the superuser can write anywhere."""

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.chdir(tmp_path)
    if base == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", no_home)
    elif base == "a file":
        cache.touch()
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_file("native", "library") is None
    assert not (tmp_path / "relative").exists()


@needs_posix
@pytest.mark.parametrize("folder", ["cache", "cache/digits_sweep", "cache/digits_sweep/native"])
def test_a_folder_that_others_may_write_in_is_not_used(folder, kept, tmp_path):
    (tmp_path / folder).chmod(0o777)
    assert cache_file("native", "library") is None
    assert read_kept(kept) is None


@needs_posix
@pytest.mark.parametrize("name", ["library", "library.sha256"])
def test_a_file_that_others_may_write_is_not_read(name, kept):
    kept.with_name(name).chmod(0o770)
    assert read_kept(kept) is None


@needs_posix
@pytest.mark.parametrize("umask", [0, 0o777])
def test_others_may_not_write_what_is_kept(umask, cache):
    before = os.umask(umask)
    try:
        keep(path := cache_file("native", "library"), b"content")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(each.stat().st_mode) for each in (cache, path.parent.parent, path.parent, path)]
    assert modes == [0o700, 0o700, 0o700, 0o600]
