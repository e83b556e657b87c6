"""A mirror on the loopback interface: a real HTTP server for a folder, with faults that a test chooses."""

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
ARCHIVES = (IMAGES, LABELS, TEST_IMAGES, TEST_LABELS)


class Mirror(ThreadingHTTPServer):
    """Serves `folder` during a `with` block; `faults` says, by file name, what goes wrong with it.

    `downloads` counts requests by file name. Setting `gate` releases the answers that are `held`.
    """

    def __init__(self, folder: Path, faults: Mapping[str, "Fault"]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.address = f"http://127.0.0.1:{self.server_port}/"
        self.folder, self.faults = folder, faults
        self.downloads: Counter[str] = Counter()
        self.gate = threading.Event()

    def __enter__(self) -> "Mirror":
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self.shutdown()
        self.server_close()


class Answer(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        name = Path(self.path).name
        self.server.downloads[name] += 1
        with suppress(ConnectionError):
            self.server.faults.get(name, intact)(self, (self.server.folder / name).read_bytes())

    def start(self, **headers: object) -> None:
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


Fault = Callable[[Answer, bytes], None]


def intact(answer: Answer, body: bytes) -> None:
    answer.start(Content_Length=len(body))
    answer.wfile.write(body)


def not_found(answer: Answer, body: bytes) -> None:
    answer.send_error(404)


def closed_without_an_answer(answer: Answer, body: bytes) -> None:
    answer.close_connection = True


def truncated(answer: Answer, body: bytes) -> None:
    answer.start(Content_Length=len(body))
    answer.wfile.write(body[: len(body) // 2])


def stalled(answer: Answer, body: bytes) -> None:
    truncated(answer, body)
    answer.server.gate.wait()


def held(answer: Answer, body: bytes) -> None:
    answer.server.gate.wait()
    intact(answer, body)


def flipped(answer: Answer, body: bytes) -> None:
    middle = len(body) // 2
    intact(answer, body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :])


def dripping(answer: Answer, body: bytes) -> None:
    """A byte every 20 ms: never silent for long, never done."""
    answer.start(Content_Length=len(body))
    while not answer.server.gate.wait(0.02):
        answer.wfile.write(body[:1])


def endless(answer: Answer, body: bytes) -> None:
    answer.start()
    while not answer.server.gate.is_set():
        answer.wfile.write(bytes(2**20))


@contextmanager
def nobody_there() -> Iterator[str]:
    """An address that refuses every connection until the block ends."""
    with socket.socket() as bound_but_not_listening:
        bound_but_not_listening.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound_but_not_listening.getsockname()[1]}/"


def load_mnist(root: Path, *mirrors: str) -> Any:
    """Load MNIST from `root`, or from the mirrors if it is not there."""
    from digits_sweep.data.published import MNIST, load_published

    return load_published(MNIST, root, mirrors, timeout_seconds=60, report=lambda line: None)
