"""Where MNIST comes from: the folder, its archives, one mirror after the other, and what is said when all fail."""

import fcntl
import gzip
import os
import pty
import re
import resource
import shutil
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from digits_sweep.data.digits import Digits
from digits_sweep.data.mnist import DataUnavailable, UnusableRoot, load_mnist
from tests import mirror as faulty
from tests.mirror import Fault, mirror, nobody_there

IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
ARCHIVES = (IMAGES, LABELS, TEST_IMAGES, TEST_LABELS)

LOAD = """
import sys
from pathlib import Path
from digits_sweep.data.mnist import load_mnist
digits = load_mnist(Path(sys.argv[1]), sys.argv[2:], timeout_seconds=60, report=lambda line: print(line, flush=True))
print(len(digits.train_labels), *sorted({"torchvision", "mlxtend", "hydra", "omegaconf"} & set(sys.modules)))
"""


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def load(tmp_path: Path, told: list[str]) -> Callable[..., Digits]:
    def load_here(*mirrors: str, timeout_seconds: float = 10) -> Digits:
        return load_mnist(tmp_path, mirrors, timeout_seconds, told.append)

    return load_here


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def filled(raw: Path, mnist_root: Path) -> Path:
    shutil.copytree(mnist_root / "MNIST" / "raw", raw, dirs_exist_ok=True)
    return raw


@pytest.fixture(scope="module")
def mnist(mnist_root: Path) -> Digits:
    return load_mnist(mnist_root, mirrors=[])


def start(command: list[object], output: Path) -> subprocess.Popen[bytes]:
    with output.open("w") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """A limit in bytes that the operating system sets this process: the nearest thing to a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


# What is loaded


def test_mnist_has_60000_digits_to_train_on_and_10000_to_test_with(mnist):
    assert mnist.name == "mnist"
    assert (mnist.train_images.shape, mnist.train_images.dtype) == ((60_000, 28, 28), torch.uint8)
    assert (mnist.train_labels.shape, mnist.train_labels.dtype) == ((60_000,), torch.int64)
    assert (mnist.test_images.shape, mnist.test_images.dtype) == ((10_000, 28, 28), torch.uint8)
    assert (mnist.test_labels.shape, mnist.test_labels.dtype) == ((10_000,), torch.int64)


def test_torchvision_reads_the_same_digits_from_the_same_folder(mnist, mnist_root):
    from torchvision.datasets import MNIST

    train, test = MNIST(mnist_root, train=True), MNIST(mnist_root, train=False)
    assert torch.equal(train.data, mnist.train_images)
    assert torch.equal(train.targets, mnist.train_labels)
    assert torch.equal(test.data, mnist.test_images)
    assert torch.equal(test.targets, mnist.test_labels)


# Where it comes from


def test_files_that_are_whole_are_read_without_a_word_and_without_a_mirror(filled, load, told, mnist):
    assert load().digest == mnist.digest
    assert told == []


def test_an_http_mirror_is_asked_for_each_archive_once(load, told, mnist, mnist_archives, tmp_path):
    with mirror(mnist_archives) as serving:
        assert load(serving.address).digest == mnist.digest
        assert serving.downloads == dict.fromkeys(ARCHIVES, 1)
        raw = tmp_path / "MNIST" / "raw"
        assert told == [f"fetching {serving.address}{archive} to {raw}" for archive in ARCHIVES]


def test_every_class_has_as_many_digits_as_were_published(mnist):
    trained_on = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert mnist.train_labels.bincount().tolist() == trained_on
    assert mnist.test_labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_folder_can_be_a_mirror_with_and_without_a_slash_at_its_end(ending, load, mnist, mnist_archives):
    assert load(mnist_archives.as_uri() + ending).digest == mnist.digest


def test_archives_alone_are_unpacked_without_a_mirror(raw, load, mnist, mnist_archives):
    for archive in ARCHIVES:
        shutil.copy(mnist_archives / archive, raw)
    assert load().digest == mnist.digest


# What is damaged


@pytest.mark.parametrize("damage", [cut_short, flip_a_bit, empty])
def test_a_damaged_file_is_thrown_away_and_unpacked_again_without_a_mirror(damage, filled, load, told, mnist):
    damaged = filled / TEST_IMAGES.removesuffix(".gz")
    damage(damaged)
    assert load().digest == mnist.digest
    assert told == [f"{damaged} is damaged: thrown away"]


@pytest.mark.parametrize("damage", [cut_short, flip_a_bit, empty])
def test_a_damaged_archive_is_thrown_away_and_it_alone_is_fetched_again(
    damage, filled, load, told, mnist, mnist_archives
):
    (filled / TEST_IMAGES.removesuffix(".gz")).unlink()
    damage(filled / TEST_IMAGES)
    with mirror(mnist_archives) as serving:
        assert load(serving.address).digest == mnist.digest
        assert serving.downloads == {TEST_IMAGES: 1}
    assert told[0] == f"{filled / TEST_IMAGES} is damaged: thrown away"


def test_a_whole_archive_of_something_else_is_not_mistaken_for_mnist(filled, load, told, mnist, mnist_archives):
    (filled / LABELS.removesuffix(".gz")).unlink()
    (filled / LABELS).write_bytes(gzip.compress(b"something else"))
    assert load(mnist_archives.as_uri()).digest == mnist.digest
    assert told[0] == f"{filled / LABELS} is damaged: thrown away"


# What a mirror may do


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (faulty.not_found, f"HTTP 404 for {IMAGES}"),
        (faulty.truncated, f"{IMAGES} is corrupt (md5 differs)"),
        (faulty.flipped, f"{IMAGES} is corrupt (md5 differs)"),
        (faulty.stalled, "no answer within 1 s"),
        (faulty.held, "no answer within 1 s"),
        (faulty.closed_without_a_word, f"Remote end closed connection without response for {IMAGES}"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_mirror_that_fails_is_named_with_its_reason_and_leaves_nothing_behind(
    fault: Fault, reason, raw, load, told, mnist_archives
):
    with mirror(mnist_archives, {IMAGES: fault}) as serving, pytest.raises(DataUnavailable) as unavailable:
        load(serving.address, timeout_seconds=1)
    assert str(unavailable.value) == f"MNIST is not in {raw}, and no mirror gave it:\n  {serving.address}: {reason}"
    assert told[-1] == f"giving up {serving.address}: {reason}"
    assert names(raw) == set()


def test_a_mirror_that_is_never_silent_and_never_done_is_given_up(raw, load, mnist_archives):
    dripping = mirror(mnist_archives, {IMAGES: faulty.dripping})
    with dripping as serving, pytest.raises(DataUnavailable, match=r": not done after 6 s$"):
        load(serving.address, timeout_seconds=0.2)
    assert names(raw) == set()


def test_the_next_mirror_gives_what_the_one_before_did_not(load, told, mnist, mnist_archives):
    with mirror(mnist_archives, {TEST_IMAGES: faulty.truncated}) as first, mirror(mnist_archives) as second:
        assert load(first.address, second.address).digest == mnist.digest
        assert second.downloads == {TEST_IMAGES: 1, TEST_LABELS: 1}
        assert f"giving up {first.address}: {TEST_IMAGES} is corrupt (md5 differs)" in told


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (faulty.not_found, f"HTTP 404 for {LABELS}"),
        (faulty.stalled, "no answer within 1 s"),
        (faulty.truncated, f"{LABELS} is corrupt (md5 differs)"),
        (faulty.flipped, f"{LABELS} is corrupt (md5 differs)"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_after_a_mirror_that_fails_the_next_one_is_used_and_the_report_says_why(
    fault: Fault, reason, filled, load, told, mnist, mnist_archives
):
    for name in (LABELS, LABELS.removesuffix(".gz")):
        (filled / name).unlink()
    with mirror(mnist_archives, {LABELS: fault}) as first, mirror(mnist_archives) as second:
        assert load(first.address, second.address, timeout_seconds=1).digest == mnist.digest
        assert second.downloads == {LABELS: 1}
        assert told == [
            f"fetching {first.address}{LABELS} to {filled}",
            f"giving up {first.address}: {reason}",
            f"fetching {second.address}{LABELS} to {filled}",
        ]


def test_after_a_mirror_that_refuses_the_connection_the_next_one_is_used(filled, load, told, mnist, mnist_archives):
    for name in (LABELS, LABELS.removesuffix(".gz")):
        (filled / name).unlink()
    with nobody_there() as silent, mirror(mnist_archives) as second:
        assert load(silent, second.address).digest == mnist.digest
    assert f"giving up {silent}: Connection refused for {LABELS}" in told


def test_a_mirror_is_left_alone_when_the_one_before_gave_everything(load, mnist_archives):
    with mirror(mnist_archives) as first, mirror(mnist_archives) as second:
        load(first.address, second.address)
        assert second.downloads == {}


def test_when_every_mirror_fails_each_has_a_line_with_its_reason(raw, load, mnist_archives, tmp_path):
    shutil.copy(mnist_archives / IMAGES, tmp_path)
    cut_short(tmp_path / IMAGES)
    with nobody_there() as silent, pytest.raises(DataUnavailable) as unavailable:
        load(silent, (raw / "nothing").as_uri(), tmp_path.as_uri(), "mirror", "ftp://mirror", "http://[mirror")
    assert str(unavailable.value).splitlines() == [
        f"MNIST is not in {raw}, and no mirror gave it:",
        f"  {silent}: Connection refused for {IMAGES}",
        f"  {(raw / 'nothing').as_uri()}: No such file or directory for {IMAGES}",
        f"  {tmp_path.as_uri()}: {IMAGES} is corrupt",
        "  mirror: not an address that begins with https:, http: or file:",
        "  ftp://mirror: not an address that begins with https:, http: or file:",
        f"  http://[mirror: Invalid IPv6 URL for {IMAGES}",
    ]


def test_no_mirror_at_all_is_told_as_such(load, raw):
    with pytest.raises(DataUnavailable) as unavailable:
        load()
    assert str(unavailable.value) == f"MNIST is not in {raw}, and data.mirrors names no mirror"


@pytest.mark.parametrize("limit", [None, 77.0])
def test_other_connections_of_this_process_keep_their_own_time_limit(limit, load, mnist_archives):
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(limit)
    try:
        with mirror(mnist_archives, {IMAGES: faulty.stalled}) as bad, pytest.raises(DataUnavailable):
            load(bad.address, timeout_seconds=1)
        assert socket.getdefaulttimeout() == limit
        with mirror(mnist_archives) as good:
            load(good.address)
        assert socket.getdefaulttimeout() == limit
    finally:
        socket.setdefaulttimeout(before)


# A folder that cannot be used


def test_a_root_that_is_a_file_is_refused_by_name(tmp_path):
    root = tmp_path / "digits"
    root.write_text("a file")
    with pytest.raises(UnusableRoot) as refusal:
        load_mnist(root, mirrors=[])
    assert str(refusal.value).startswith(f"data.root={root}: Not a directory: {root}")
    assert str(refusal.value).endswith("; choose a folder that can be read and written")


def test_a_disk_that_takes_no_more_is_the_folders_fault_and_not_the_mirrors(raw, tmp_path, load, mnist_archives):
    with mirror(mnist_archives) as serving, no_file_above(1_000_000), pytest.raises(UnusableRoot) as refusal:
        load(serving.address)
    assert str(refusal.value) == f"data.root={tmp_path}: File too large; choose a folder that can be read and written"
    assert names(raw) == set()


# What a process does


def test_two_processes_that_start_together_download_each_archive_once(tmp_path, mnist_archives):
    said = [tmp_path / "one", tmp_path / "other"]
    with mirror(mnist_archives, {IMAGES: faulty.held}) as serving:
        command = [sys.executable, "-c", LOAD, tmp_path / "root", serving.address]
        processes = [start(command, path) for path in said]
        give_up = time.monotonic() + 120
        while not any("waiting for another process" in path.read_text() for path in said):
            assert time.monotonic() < give_up, [path.read_text() for path in said]
            time.sleep(0.05)
        serving.gate.set()
        assert [process.wait(60) for process in processes] == [0, 0]
        assert serving.downloads == dict.fromkeys(ARCHIVES, 1)
    waiting = f"waiting for another process that is downloading MNIST to {tmp_path / 'root'}\n60000\n"
    raw = tmp_path / "root" / "MNIST" / "raw"
    downloading = "".join(f"fetching {serving.address}{each} to {raw}\n" for each in ARCHIVES)
    # Nothing else is written, and no control character, where the output is no terminal. The process that finds the
    # files ready names no library: it has loaded none of those that only fetching, the sample or a sweep needs.
    assert {path.read_text() for path in said} == {waiting, f"{downloading}60000 torchvision\n"}


def test_files_that_are_whole_are_read_without_importing_torchvision(mnist_root, tmp_path):
    said = tmp_path / "said"
    assert start([sys.executable, "-c", LOAD, mnist_root], said).wait(60) == 0
    assert said.read_text() == "60000\n"


def test_a_pipe_is_sent_no_control_characters_even_where_a_mirror_fails(filled, mnist_archives, tmp_path):
    for name in (TEST_IMAGES, TEST_IMAGES.removesuffix(".gz")):
        (filled / name).unlink()
    said = tmp_path / "said"
    with mirror(mnist_archives, {TEST_IMAGES: faulty.flipped}) as first, mirror(mnist_archives) as second:
        command = [sys.executable, "-c", LOAD, tmp_path, first.address, second.address]
        assert start(command, said).wait(60) == 0
    # As bytes: read as text, a carriage return would come back as a line's end.
    assert not set(said.read_bytes()) & (set(range(32)) - {ord("\n")})
    assert f"giving up {first.address}" in said.read_text()


def test_a_terminal_is_shown_how_far_a_download_is(tmp_path, mnist_archives):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with mirror(mnist_archives) as serving, os.fdopen(ours, "rb", buffering=0) as terminal:
        command = [sys.executable, "-c", LOAD, tmp_path, serving.address]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs) as process:
            os.close(theirs)
            shown = terminal.read(1_000_000)
            # A terminal that its last program has left cannot be read any more.
            with suppress(OSError):
                while re.search(rb"\d%", shown) is None and (more := terminal.read(1_000_000)):
                    shown += more
            process.kill()
    assert re.search(rb"\r.*\d%", shown)
