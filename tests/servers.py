"""Programs that tests start as processes of their own, and how tests wait for them."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# A busy machine is no failure: nothing that a test waits for takes this long unless it hangs.
CAP_SECONDS = 900
LAST_LINES = 30


@dataclass(frozen=True)
class Started:
    """A process that was started; what it prints is in the file `output`, where its workers may write too."""

    process: subprocess.Popen[bytes]
    output: Path

    def text(self) -> str:
        """Return what it has printed so far, standard output and standard error together."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    def last_lines(self) -> str:
        """Return how it ended, if it has ended, and the last lines that it printed."""
        code = self.process.poll()
        state = "is running" if code is None else f"ended with exit code {code}"
        lines = self.text().splitlines()[-LAST_LINES:]
        return "\n".join([f"{' '.join(map(str, self.process.args))} {state}; its last lines:", *lines])

    def says(self, words: str, times: int = 1) -> None:
        """Wait until it has printed `words` that often. Raise AssertionError at once if it ends without."""
        wait_for(lambda: self.text().count(words) >= times, self)

    def ends(self) -> int:
        """Wait for its end and return its exit code. Raise AssertionError if it hangs."""
        try:
            return self.process.wait(CAP_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(self.last_lines()) from None


@contextmanager
def running(*command: object, output: Path, environment: Mapping[str, str] | None = None) -> Iterator[Started]:
    """Run the command during the block, in the folder of `output`; then ask it to end, and kill it if it does not."""
    with output.open("wb") as file:
        words = [str(each) for each in command]
        process = subprocess.Popen(
            words, cwd=output.parent, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        yield Started(process, output)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(condition: Callable[[], bool], *needed: Started) -> None:
    """Return as soon as `condition` holds.

    Raise AssertionError with its last lines as soon as one of the `needed` processes has ended without that.
    """
    give_up = time.monotonic() + CAP_SECONDS
    while True:
        ended = [each for each in needed if each.process.poll() is not None]
        # Asked after the processes: one that made the condition true and then ended has done its part.
        if condition():
            return
        assert not ended, ended[0].last_lines()
        assert time.monotonic() < give_up, "\n".join(["it hangs", *(each.last_lines() for each in needed)])
        time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback interface that nobody listens at."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def succeeds(*command: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether the command ends with exit code 0."""
    return subprocess.run(command, env=environment, capture_output=True).returncode == 0


def checked(command: Sequence[object], **options: object) -> str:
    """Return what the command prints. Raise AssertionError with all that it printed if it fails."""
    words = [str(each) for each in command]
    finished = subprocess.run(words, capture_output=True, text=True, timeout=CAP_SECONDS, **options)
    assert finished.returncode == 0, f"{' '.join(words)}\n{finished.stdout}{finished.stderr}"
    return finished.stdout
