"""What mirrors do: they are tried in turn, and one that fails is named with its reason and costs little."""

import fcntl
import os
import pty
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import termios
from contextlib import ExitStack, suppress

import pytest

from digits_sweep.data import published as module
from digits_sweep.errors import DataUnavailable, UnusableRoot
from tests import mirror
from tests.data.conftest import everything_in, memory_below
from tests.mirror import ARCHIVES, IMAGES, LABELS, TEST_IMAGES, TEST_LABELS, nobody_there
from tests.servers import running, wait_for

MOST_BYTES = 2**25


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_folder_can_be_a_mirror_with_and_without_a_slash_at_its_end(ending, load, digest, archives):
    assert load(archives.as_uri() + ending).digest == digest


CORRUPT = f"{IMAGES} is corrupt (md5 differs)"
FAULTS = {
    mirror.not_found: (f"HTTP 404 for {IMAGES}", 60),
    mirror.truncated: (CORRUPT, 60),
    mirror.flipped: (CORRUPT, 60),
    mirror.stalled: ("no answer within 0.2 s", 0.2),
    mirror.held: ("no answer within 0.2 s", 0.2),
    mirror.closed_without_an_answer: (f"Remote end closed connection without response for {IMAGES}", 60),
    mirror.dripping: ("not done after 1 s", 10),
    mirror.endless: (f"{IMAGES} is larger than {MOST_BYTES:,} bytes", 60),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_mirror_that_fails_is_named_with_its_reason_and_costs_little(fault, raw, load, reported, serve, monkeypatch):
    reason, timeout_seconds = FAULTS[fault]
    if fault is mirror.dripping:
        monkeypatch.setattr(module, "TIMEOUTS_PER_MIRROR", 0.1)
    address = serve({IMAGES: fault}).address
    with memory_below(MOST_BYTES), pytest.raises(DataUnavailable) as unavailable:
        load(address, timeout_seconds=timeout_seconds)
    assert str(unavailable.value) == f"MNIST is not in {raw}, and no mirror provided it:\n  {address}: {reason}"
    assert reported == [f"fetching {address}{IMAGES} to {raw}", f"giving up {address}: {reason}"]
    assert everything_in(raw) == {}
    # Other connections of this process have their own limit.
    assert socket.getdefaulttimeout() is None


def replaced_by_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: path.unlink(), f"No such file or directory for {IMAGES}"),
        (replaced_by_a_pipe, f"{IMAGES} is no file"),
        (lambda path: os.truncate(path, 50), CORRUPT),
        (lambda path: os.truncate(path, 2**40), f"{IMAGES} is larger than {MOST_BYTES:,} bytes"),
    ],
    ids=["missing", "a pipe", "cut short", "large on paper"],
)
def test_a_folder_that_fails_is_named_with_its_reason(change, reason, load, archives, published):
    change(archives / IMAGES)
    with pytest.raises(DataUnavailable, match=re.escape(f"{archives.as_uri()}: {reason}")):
        load(archives.as_uri())


def test_when_every_mirror_fails_each_has_a_line_with_its_reason(raw, load):
    with nobody_there() as silent, pytest.raises(DataUnavailable) as unavailable:
        load(silent, "mirror", "ftp://mirror", "http://[mirror")
    assert str(unavailable.value).splitlines() == [
        f"MNIST is not in {raw}, and no mirror provided it:",
        f"  {silent}: Connection refused for {IMAGES}",
        "  mirror: not an address that starts with https:, http: or file:",
        "  ftp://mirror: not an address that starts with https:, http: or file:",
        f"  http://[mirror: Invalid IPv6 URL for {IMAGES}",
    ]


@pytest.mark.full
@pytest.mark.parametrize("fault", [mirror.not_found, mirror.stalled, mirror.truncated, mirror.flipped])
def test_the_next_mirror_gives_what_the_one_before_did_not(fault, load, reported, serve, digest):
    first, second = serve({LABELS: fault}), serve()
    with nobody_there() as silent:
        assert load(silent, first.address, second.address, timeout_seconds=2).digest == digest
    assert (first.downloads, second.downloads) == ({IMAGES: 1, LABELS: 1}, dict.fromkeys(ARCHIVES[1:], 1))
    given_up = [line for line in reported if line.startswith("giving up")]
    assert given_up[0] == f"giving up {silent}: Connection refused for {IMAGES}"
    assert given_up[1].startswith(f"giving up {first.address}: ")


def test_a_fetch_that_is_interrupted_leaves_what_is_whole(load, raw, serve):
    def interrupt(answer, body):
        os.kill(os.getpid(), signal.SIGINT)
        mirror.truncated(answer, body)

    with pytest.raises(KeyboardInterrupt):
        load(serve({LABELS: interrupt}).address)
    assert everything_in(raw).keys() == {IMAGES}


def test_a_full_disk_is_the_fault_of_the_folder_and_not_of_the_mirror(raw, root, load, serve):
    """A limit in bytes that the operating system sets this process is the nearest thing to a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(UnusableRoot) as refusal:
            load(serve().address)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(refusal.value) == f"data.root={root}: File too large; choose a folder that can be read and written"
    assert everything_in(raw) == {}


# Processes of their own

LOAD = """
import sys
from pathlib import Path
from digits_sweep.data.published import MNIST, load_published
digits = load_published(MNIST, Path(sys.argv[1]), sys.argv[2:], 60, report=lambda line: print(line, flush=True))
print(len(digits.train_labels), *sorted({"torchvision", "mlxtend", "hydra", "omegaconf"} & set(sys.modules)))
"""


@pytest.mark.full
def test_processes_that_start_together_download_each_archive_once_and_write_plain_lines(
    tmp_path, raw, root, serve, mnist_archives
):
    """The second mirror gives what the first one damaged. The waiting process then reads intact files."""
    first = serve({IMAGES: mirror.held, TEST_IMAGES: mirror.flipped}, mnist_archives)
    second = serve({}, mnist_archives)
    outputs = [tmp_path / "one", tmp_path / "other"]
    command = [sys.executable, "-c", LOAD, root, first.address, second.address]
    with ExitStack() as stack:
        processes = [stack.enter_context(running(*command, output=path)) for path in outputs]
        wait_for(lambda: any("waiting for another process" in process.text() for process in processes), *processes)
        first.gate.set()
        assert [process.ends() for process in processes] == [0, 0]
    assert first.downloads == {IMAGES: 1, LABELS: 1, TEST_IMAGES: 1}
    assert second.downloads == {TEST_IMAGES: 1, TEST_LABELS: 1}
    sources = [(first, IMAGES), (first, LABELS), (first, TEST_IMAGES), (second, TEST_IMAGES), (second, TEST_LABELS)]
    lines = [f"fetching {source.address}{archive} to {raw}\n" for source, archive in sources]
    lines.insert(3, f"giving up {first.address}: {TEST_IMAGES} is corrupt (md5 differs)\n")
    waiting = f"waiting for another process that is downloading MNIST to {root}\n60000\n"
    # As bytes: not even a control character is written to an output that is no terminal. Neither process has imported
    # one of the libraries that only the lesson's loop, the sample or a sweep needs.
    assert {path.read_bytes() for path in outputs} == {waiting.encode(), "".join([*lines, "60000\n"]).encode()}


@pytest.mark.full
def test_a_terminal_shows_how_far_a_download_is(root, serve, mnist_archives):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-c", LOAD, root, serve({}, mnist_archives).address]
    with (
        os.fdopen(ours, "rb", buffering=0) as terminal,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs) as process,
    ):
        os.close(theirs)
        shown = terminal.read(1_000_000)
        # A terminal that its last program has left cannot be read any more.
        with suppress(OSError):
            while re.search(rb"\d %", shown) is None and (more := terminal.read(1_000_000)):
                shown += more
        process.kill()
    assert re.search(rb"\r.*\d %", shown)
