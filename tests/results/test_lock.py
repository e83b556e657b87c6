"""One writer for each folder, on file systems of every kind."""

import errno
import os
import stat
from dataclasses import replace

import msgspec
import pytest
from filelock import FileLock

from digits_sweep.errors import CannotRecord
from digits_sweep.results.files import replace_file
from digits_sweep.results.lock import only_writer, this_process, writers_in


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError("flock is not supported here")]
)
def test_a_file_system_without_locks_is_named_with_its_reason(tmp_path, monkeypatch, error):
    def refuse(self, timeout):
        raise error

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with (
        pytest.raises(CannotRecord, match=rf"{tmp_path}/\.lock: cannot be locked \((No locks|flock is not)"),
        only_writer(tmp_path),
    ):
        pass


def test_an_error_in_the_block_is_not_hidden_by_a_disk_that_became_read_only(tmp_path, monkeypatch):
    def refuse(self, missing_ok=False):
        raise OSError(errno.EROFS, "Read-only file system")

    def goes_wrong():
        with only_writer(tmp_path):
            monkeypatch.setattr("pathlib.Path.unlink", refuse)
            raise RuntimeError("what went wrong")

    with pytest.raises(RuntimeError, match="what went wrong"):
        goes_wrong()


@pytest.mark.parametrize(
    ("changed", "writes"),
    [
        ({}, True),
        ({"started": 1}, False),
        ({"boot": "another"}, False),
        ({"host": "another"}, False),
        ({"pid": 2**22 + 1}, False),
    ],
    ids=["this process", "its number again", "after a restart", "another machine", "gone"],
)
def test_a_process_that_was_killed_counts_as_no_writer_even_if_its_number_lives_again(tmp_path, changed, writes):
    """In a container every process may have number 1, and every machine the same name."""
    (tmp_path / "run").mkdir()
    owner = replace(this_process(), **changed)
    replace_file(tmp_path / "run" / "owner.json", msgspec.json.encode(owner))
    assert writers_in(tmp_path) == int(writes)
    with only_writer(tmp_path / "run"):
        assert writers_in(tmp_path) == 1


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_cannot_flush_a_folder_is_written_to_all_the_same(tmp_path, monkeypatch, number):
    really = os.fsync

    def of_files_only(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, "not for folders")
        really(descriptor)

    monkeypatch.setattr(os, "fsync", of_files_only)
    replace_file(tmp_path / "file", "content")
    assert (tmp_path / "file").read_text() == "content"
