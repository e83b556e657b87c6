"""Programs that tests start and that go on until the test is over."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running(*command: object, output: Path, environment: dict[str, str] | None = None) -> Iterator[None]:
    """The command runs in the block, in the folder of `output`, which has what it says; then it is asked to end."""
    with output.open("wb") as file:
        words = [str(each) for each in command]
        process = subprocess.Popen(words, cwd=output.parent, env=environment, stdout=file, stderr=file)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"not so within {seconds:g} s"
        time.sleep(0.2)


def succeeds(*command: str, environment: dict[str, str] | os._Environ[str] = os.environ) -> bool:
    return subprocess.run(command, env=environment, capture_output=True).returncode == 0
