"""What mirrors do: they are tried one after the other, and each that fails is reported with its reason."""

import os
import resource
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from digits_sweep.data import published as fetching
from digits_sweep.errors import DataUnavailable, UnusableRoot
from tests import mirror as faulty
from tests.mirror import ARCHIVES, IMAGES, LABELS, TEST_IMAGES, TEST_LABELS, Fault, mirror, names, nobody_there


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """A limit in bytes that the operating system sets this process: the nearest thing to a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# One mirror


def test_an_http_mirror_is_asked_for_each_archive_once(load, reported, small, published, tmp_path):
    with mirror(published) as serving:
        assert load(serving.address).digest == small.digest
        assert serving.downloads == dict.fromkeys(ARCHIVES, 1)
        raw = tmp_path / "MNIST" / "raw"
        assert reported == [f"fetching {serving.address}{archive} to {raw}" for archive in ARCHIVES]


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_folder_can_be_a_mirror_with_and_without_a_slash_at_its_end(ending, load, small, published):
    assert load(published.as_uri() + ending).digest == small.digest


@pytest.mark.parametrize(
    ("fault", "timeout_seconds", "reason"),
    [
        (faulty.not_found, 60, f"HTTP 404 for {IMAGES}"),
        (faulty.truncated, 60, f"{IMAGES} is corrupt (md5 differs)"),
        (faulty.flipped, 60, f"{IMAGES} is corrupt (md5 differs)"),
        (faulty.stalled, 0.2, "no answer within 0.2 s"),
        (faulty.held, 0.2, "no answer within 0.2 s"),
        (faulty.closed_without_an_answer, 60, f"Remote end closed connection without response for {IMAGES}"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_mirror_that_fails_is_named_with_its_reason_and_leaves_nothing_behind(
    fault: Fault, timeout_seconds, reason, raw, load, reported, published
):
    with mirror(published, {IMAGES: fault}) as serving, pytest.raises(DataUnavailable) as unavailable:
        load(serving.address, timeout_seconds=timeout_seconds)
    assert str(unavailable.value) == f"MNIST is not in {raw}, and no mirror provided it:\n  {serving.address}: {reason}"
    assert reported[-1] == f"giving up {serving.address}: {reason}"
    assert names(raw) == set()


def test_a_mirror_that_is_never_silent_and_never_done_is_given_up(raw, load, published, monkeypatch):
    monkeypatch.setattr(fetching, "TIMEOUTS_PER_MIRROR", 0.1)
    dripping = mirror(published, {IMAGES: faulty.dripping})
    with dripping as serving, pytest.raises(DataUnavailable, match=r": not done after 1 s$"):
        load(serving.address, timeout_seconds=10)
    assert names(raw) == set()


@pytest.mark.parametrize("limit", [None, 77.0])
def test_other_connections_of_this_process_keep_their_own_time_limit(limit, load, published):
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(limit)
    try:
        with mirror(published, {IMAGES: faulty.stalled}) as bad, pytest.raises(DataUnavailable):
            load(bad.address, timeout_seconds=0.2)
        assert socket.getdefaulttimeout() == limit
        with mirror(published) as good:
            load(good.address)
        assert socket.getdefaulttimeout() == limit
    finally:
        socket.setdefaulttimeout(before)


def test_a_full_disk_is_the_fault_of_the_folder_and_not_of_the_mirror(raw, tmp_path, load, published):
    with mirror(published) as serving, no_file_above(50_000), pytest.raises(UnusableRoot) as refusal:
        load(serving.address)
    assert str(refusal.value) == f"data.root={tmp_path}: File too large; choose a folder that can be read and written"
    assert names(raw) == set()


# One mirror after the other


def test_the_next_mirror_gives_what_the_one_before_did_not(load, reported, small, published):
    with mirror(published, {TEST_IMAGES: faulty.truncated}) as first, mirror(published) as second:
        assert load(first.address, second.address).digest == small.digest
        assert second.downloads == {TEST_IMAGES: 1, TEST_LABELS: 1}
        assert f"giving up {first.address}: {TEST_IMAGES} is corrupt (md5 differs)" in reported


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("fault", "timeout_seconds", "reason"),
    [
        (faulty.not_found, 60, f"HTTP 404 for {LABELS}"),
        (faulty.stalled, 2, "no answer within 2 s"),
        (faulty.truncated, 60, f"{LABELS} is corrupt (md5 differs)"),
        (faulty.flipped, 60, f"{LABELS} is corrupt (md5 differs)"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_after_a_mirror_that_fails_the_next_one_is_used_and_the_report_says_why(
    fault: Fault, timeout_seconds, reason, filled, load, reported, small, published
):
    for name in (LABELS, LABELS.removesuffix(".gz")):
        (filled / name).unlink()
    with mirror(published, {LABELS: fault}) as first, mirror(published) as second:
        assert load(first.address, second.address, timeout_seconds=timeout_seconds).digest == small.digest
        assert second.downloads == {LABELS: 1}
        assert reported == [
            f"fetching {first.address}{LABELS} to {filled}",
            f"giving up {first.address}: {reason}",
            f"fetching {second.address}{LABELS} to {filled}",
        ]


def test_after_a_mirror_that_refuses_the_connection_the_next_one_is_used(filled, load, reported, small, published):
    for name in (LABELS, LABELS.removesuffix(".gz")):
        (filled / name).unlink()
    with nobody_there() as silent, mirror(published) as second:
        assert load(silent, second.address).digest == small.digest
    assert f"giving up {silent}: Connection refused for {LABELS}" in reported


def test_a_mirror_is_left_alone_if_the_one_before_gave_everything(load, published):
    with mirror(published) as first, mirror(published) as second:
        load(first.address, second.address)
        assert second.downloads == {}


def test_when_every_mirror_fails_each_has_a_line_with_its_reason(raw, load, published, tmp_path):
    shutil.copy(published / IMAGES, tmp_path)
    os.truncate(tmp_path / IMAGES, 1_000)
    with nobody_there() as silent, pytest.raises(DataUnavailable) as unavailable:
        load(silent, (raw / "nothing").as_uri(), tmp_path.as_uri(), "mirror", "ftp://mirror", "http://[mirror")
    assert str(unavailable.value).splitlines() == [
        f"MNIST is not in {raw}, and no mirror provided it:",
        f"  {silent}: Connection refused for {IMAGES}",
        f"  {(raw / 'nothing').as_uri()}: No such file or directory for {IMAGES}",
        f"  {tmp_path.as_uri()}: {IMAGES} is corrupt",
        "  mirror: not an address that starts with https:, http: or file:",
        "  ftp://mirror: not an address that starts with https:, http: or file:",
        f"  http://[mirror: Invalid IPv6 URL for {IMAGES}",
    ]
