"""A mirror on the loopback interface: a real HTTP server for a folder, with faults that a test chooses."""

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
ARCHIVES = (IMAGES, LABELS, TEST_IMAGES, TEST_LABELS)


@dataclass
class Mirror:
    """`downloads` counts requests by file name; setting `gate` releases the answers that are `held`."""

    folder: Path
    faults: Mapping[str, "Fault"]
    address: str = ""
    downloads: Counter[str] = field(default_factory=Counter)
    gate: threading.Event = field(default_factory=threading.Event)


class Answer(BaseHTTPRequestHandler):
    def __init__(self, mirror: Mirror, *connection: object) -> None:
        self.mirror = mirror
        super().__init__(*connection)

    def do_GET(self) -> None:
        name = Path(self.path).name
        # torchvision first asks where an address leads to: a GET with this header, whose answer it does not read.
        is_probe = self.headers.get("Method") == "HEAD"
        self.mirror.downloads[name] += not is_probe
        fault = self.mirror.faults.get(name, intact)
        with suppress(ConnectionError):
            fault(self, b"" if is_probe else (self.mirror.folder / name).read_bytes())

    def start(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


Fault = Callable[[Answer, bytes], None]


def intact(answer: Answer, body: bytes) -> None:
    answer.start(body)
    answer.wfile.write(body)


def not_found(answer: Answer, body: bytes) -> None:
    answer.send_error(404)


def closed_without_an_answer(answer: Answer, body: bytes) -> None:
    answer.close_connection = True


def stalled(answer: Answer, body: bytes) -> None:
    answer.start(body)
    answer.wfile.write(body[: len(body) // 2])
    if body:
        answer.mirror.gate.wait()


def held(answer: Answer, body: bytes) -> None:
    if body:
        answer.mirror.gate.wait()
    intact(answer, body)


def truncated(answer: Answer, body: bytes) -> None:
    answer.start(body)
    answer.wfile.write(body[: len(body) // 2])


def flipped(answer: Answer, body: bytes) -> None:
    middle = len(body) // 2
    intact(answer, body[:middle] + bytes(byte ^ 1 for byte in body[middle : middle + 1]) + body[middle + 1 :])


def dripping(answer: Answer, body: bytes) -> None:
    """A byte every 20 ms: never silent for long, never done."""
    answer.start(body)
    for byte in body:
        answer.wfile.write(bytes([byte]))
        if answer.mirror.gate.wait(0.02):
            return


def endless(answer: Answer, body: bytes) -> None:
    """Never silent, never done, and without a length."""
    answer.send_response(200)
    answer.end_headers()
    while not answer.mirror.gate.is_set():
        answer.wfile.write(bytes(2**20))


@contextmanager
def mirror(folder: Path, faults: Mapping[str, Fault] | None = None) -> Iterator[Mirror]:
    """Serve `folder` until the block ends; `faults` says, by file name, what goes wrong with it."""
    serving = Mirror(folder, faults or {})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Answer, serving)) as server:
        serving.address = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield serving
        finally:
            serving.gate.set()
            server.shutdown()
            thread.join()


@contextmanager
def nobody_there() -> Iterator[str]:
    """An address that refuses every connection until the block ends."""
    with socket.socket() as bound_but_not_listening:
        bound_but_not_listening.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound_but_not_listening.getsockname()[1]}/"


def names(folder: Path) -> set[str]:
    """The names in a folder."""
    return {path.name for path in folder.iterdir()}
