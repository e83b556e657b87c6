"""Whose the files are that this program writes, and what it leaves behind."""

import json
import os
import stat
import time

import numpy as np
import pytest

from digits_sweep.results.files import OLD_SECONDS, as_json, remove_leftovers

QUICK = ("data=mnist_sample", "data.batch_size=500", "trainer.num_epochs=1")


@pytest.mark.sampled(2)
@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
@pytest.mark.parametrize("mask", [0o077, 0o002])
def test_the_umask_says_who_may_read_every_file_and_folder(program, mask):
    before = os.umask(mask)
    try:
        assert program(*QUICK).returncode == 0
        assert program(module="digits_sweep.report").returncode == 0
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in program.outputs.rglob("*")}
    # The locks too.
    assert ".lock" in {path.name for path in modes}
    wrong = {path.name: oct(mode) for path, mode in modes.items() if mode & mask}
    assert wrong == {}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o666 & ~mask}


def test_what_a_killed_process_left_is_removed_by_the_next_sweep_unless_somebody_may_be_writing_it(program):
    assert program(*QUICK).returncode == 0
    left = [program.outputs / ".summary.csv.0a1b2c3d", program.sweep() / ".owner.json.0a1b2c3d"]
    of_somebody, fresh = program.outputs / ".bashrc.0a1b2c3d", program.outputs / ".summary.csv.11111111"
    for path in (*left, of_somebody, fresh):
        path.write_text("half")
    old = time.time() - 2 * OLD_SECONDS
    os.utime(left[0], (old, old))
    assert program("resume=latest", "trainer.num_epochs=2").returncode == 0
    assert [path for path in left if path.exists()] == []
    assert of_somebody.exists()
    assert fresh.exists()


def test_a_leftover_that_another_process_removes_first_is_none(tmp_path, monkeypatch):
    (tmp_path / ".summary.csv.0a1b2c3d").symlink_to(tmp_path / "nowhere")
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_json_holds_numbers_of_numpy_as_numbers_and_none_that_is_not_finite():
    assert json.loads(as_json({"rate": np.float64(1.5), "size": np.int64(3)})) == {"rate": 1.5, "size": 3}
    for value in (np.inf, np.float64("nan")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            as_json({"time": value})
