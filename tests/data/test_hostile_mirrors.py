"""What a mirror must not cost, whatever it holds: neither memory nor time."""

import os
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from digits_sweep.data import published as fetching
from digits_sweep.data.published import MNIST
from digits_sweep.errors import DataUnavailable
from tests import mirror as faulty
from tests.mirror import IMAGES, mirror, names


def memory_of(work) -> int:
    """The most bytes that Python had allocated at once during `work`."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("in_thread", [False, True], ids=["in the main thread", "in another thread"])
def test_an_answer_without_end_is_given_up_in_bounded_memory(load, raw, published, in_thread):
    def refused() -> None:
        with mirror(published, {IMAGES: faulty.endless}) as serving, pytest.raises(DataUnavailable) as unavailable:
            load(serving.address)
        assert f"{IMAGES} is larger than {MNIST.most_bytes:,} bytes" in str(unavailable.value)

    def anywhere() -> None:
        if not in_thread:
            return refused()
        with ThreadPoolExecutor(1) as threads:
            return threads.submit(refused).result()

    assert memory_of(anywhere) < 6 * MNIST.most_bytes
    assert names(raw) == set()


def test_a_mirror_that_is_never_done_is_given_up_outside_the_main_thread_too(load, published, monkeypatch):
    monkeypatch.setattr(fetching, "TIMEOUTS_PER_MIRROR", 0.1)
    with mirror(published, {IMAGES: faulty.dripping}) as serving, ThreadPoolExecutor(1) as threads:
        loading = threads.submit(load, serving.address, timeout_seconds=10)
        with pytest.raises(DataUnavailable, match=r": not done after 1 s$"):
            loading.result()


@pytest.mark.full
def test_an_archive_that_inflates_is_given_up_in_bounded_memory(load, raw, published, tmp_path):
    """Two megabytes that hold two gigabytes."""
    packer, zeros = zlib.compressobj(9, wbits=31), bytes(2**24)
    with (published / IMAGES).open("wb") as file:
        for _ in range(128):
            file.write(packer.compress(zeros))
        file.write(packer.flush())
    assert (published / IMAGES).stat().st_size < 3_000_000

    def refused() -> None:
        with pytest.raises(DataUnavailable, match="is corrupt"):
            load(published.as_uri())

    assert memory_of(refused) < 100_000_000
    assert names(raw) == set()


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
def test_a_pipe_in_a_mirrors_folder_is_not_waited_for(load, published):
    (published / IMAGES).unlink()
    os.mkfifo(published / IMAGES)
    with pytest.raises(DataUnavailable, match=f"{IMAGES} is no file"):
        load(published.as_uri())


def test_a_file_in_a_mirrors_folder_that_is_large_on_paper_is_not_read(load, published):
    os.truncate(published / IMAGES, 2**40)
    with pytest.raises(DataUnavailable, match="is larger than"):
        load(published.as_uri())
