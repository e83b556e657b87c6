"""What a process that downloads MNIST writes, alone and beside another one."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import ExitStack, suppress

import pytest

from tests import mirror as faulty
from tests.mirror import IMAGES, LABELS, TEST_IMAGES, TEST_LABELS, mirror
from tests.servers import running, wait_for

LOAD = """
import sys
from pathlib import Path
from digits_sweep.data.published import load_mnist
digits = load_mnist(Path(sys.argv[1]), sys.argv[2:], timeout_seconds=60, report=lambda line: print(line, flush=True))
print(len(digits.train_labels), *sorted({"torchvision", "mlxtend", "hydra", "omegaconf"} & set(sys.modules)))
"""


@pytest.mark.full
def test_processes_that_start_together_download_each_archive_once_and_write_plain_lines(tmp_path, mnist_archives):
    """The second mirror gives what the first one damaged. The waiting process then reads intact files."""
    root, outputs = tmp_path / "root", [tmp_path / "one", tmp_path / "other"]
    faults = {IMAGES: faulty.held, TEST_IMAGES: faulty.flipped}
    with ExitStack() as stack:
        first, second = (stack.enter_context(mirror(mnist_archives, each)) for each in (faults, {}))
        command = [sys.executable, "-c", LOAD, root, first.address, second.address]
        processes = [stack.enter_context(running(*command, output=path)) for path in outputs]
        wait_for(lambda: any("waiting for another process" in each.text() for each in processes), *processes)
        first.gate.set()
        assert [each.ends() for each in processes] == [0, 0]
        assert first.downloads == {IMAGES: 1, LABELS: 1, TEST_IMAGES: 1}
        assert second.downloads == {TEST_IMAGES: 1, TEST_LABELS: 1}
    waiting = f"waiting for another process that is downloading MNIST to {root}\n60000\n"
    sources = [(first, IMAGES), (first, LABELS), (first, TEST_IMAGES), (second, TEST_IMAGES), (second, TEST_LABELS)]
    lines = [f"fetching {each.address}{archive} to {root / 'MNIST' / 'raw'}\n" for each, archive in sources]
    lines.insert(3, f"giving up {first.address}: {TEST_IMAGES} is corrupt (md5 differs)\n")
    # As bytes: not even a control character is written to an output that is no terminal. Neither process
    # has imported one of the libraries that only the lesson's loop, the sample or a sweep needs.
    downloading = "".join([*lines, "60000\n"])
    assert {path.read_bytes() for path in outputs} == {waiting.encode(), downloading.encode()}


@pytest.mark.full
def test_a_terminal_shows_how_far_a_download_is(tmp_path, mnist_archives):
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
