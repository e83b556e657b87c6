"""Fetch MNIST's archives from a mirror, within a time limit, and say why if that fails."""

import hashlib
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, url2pathname, urlopen

from digits_sweep.data.archives import FILES, read_archive, read_intact
from digits_sweep.data.placing import is_free, place, workbench
from digits_sweep.data.torchvision_import import import_torchvision

# A mirror that is never silent may still never finish. With the default timeout of 10 s it has 5 minutes, for which
# 40 kB/s suffice.
TIMEOUTS_PER_MIRROR = 30

# The largest of the archives has 9,912,422 bytes: an answer without end is given up.
MOST_BYTES = 2**25


class _TooSlow(Exception):
    """Not an OSError: it is the end of the whole mirror."""


def fetch(raw: Path, mirror: str, timeout_seconds: float, report: Callable[[str], None]) -> str | None:
    """Fetch the missing files from one mirror; return why that failed, or None.

    Nothing in `raw` is replaced: an archive is fetched and unpacked in a folder of its own there, and moved to its
    place if it is intact and the place is free.
    """
    fetch_one = {"file": _copy, "http": _download, "https": _download}.get(mirror.partition(":")[0].lower())
    if fetch_one is None:
        return "not an address that starts with https:, http: or file:"
    folder, seconds = mirror.rstrip("/") + "/", TIMEOUTS_PER_MIRROR * timeout_seconds
    try:
        with workbench(raw) as partial, _at_most(seconds):
            for name in [name for name in FILES if is_free(raw / name)]:
                report(f"fetching {folder}{name}.gz to {raw}")
                failure = fetch_one(partial, name, folder, timeout_seconds)
                if failure or read_intact(partial / name) is None:
                    return failure or f"{name}.gz is corrupt"
                for made in (f"{name}.gz", name):
                    place(partial / made, raw / made)
        return None
    except _TooSlow:
        return f"not done after {seconds:g} s"


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise `_TooSlow` in a block that takes longer.

    It is a second limit, for what a name server or the head of an answer takes: only a signal can interrupt that, so it
    is missing outside the main thread, and on Windows.
    """
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise _TooSlow

    handler = signal.signal(signal.SIGALRM, stop)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)


def _copy(partial: Path, name: str, folder: str, timeout_seconds: float) -> str | None:
    """Copy and unpack one archive from a file address; return why it failed, or None."""
    archive = Path(url2pathname(urlsplit(folder).path)) / f"{name}.gz"
    try:
        size = archive.stat().st_size
        if not archive.is_file():
            return f"{name}.gz is no file"
        if size > MOST_BYTES:
            return f"{name}.gz is larger than {MOST_BYTES:,} bytes"
        content = archive.read_bytes()
    except OSError as error:
        return f"{error.strerror} for {name}.gz"
    return _keep(partial, name, content)


def _keep(partial: Path, name: str, content: bytes) -> str | None:
    """Write an archive and what it holds; return that it is corrupt, or None."""
    (partial / f"{name}.gz").write_bytes(content)
    if (unpacked := read_archive(partial / f"{name}.gz")) is None:
        return f"{name}.gz is corrupt"
    (partial / name).write_bytes(unpacked)
    return None


def _download(partial: Path, name: str, folder: str, timeout_seconds: float) -> str | None:
    """Fetch and unpack one archive that torchvision knows by its md5; return why it failed, or None.

    It is read here: torchvision's downloader has neither a limit in time nor one in size.
    """
    md5s: dict[str, str] = dict(import_torchvision("torchvision.datasets").MNIST.resources)
    ends_at = time.monotonic() + TIMEOUTS_PER_MIRROR * timeout_seconds
    try:
        request = Request(f"{folder}{name}.gz", headers={"User-Agent": "digits_sweep"})
        with urlopen(request, timeout=timeout_seconds) as response:
            content = _read(response, ends_at)
    except (OSError, HTTPException, ValueError) as error:
        return _reason(error, name, timeout_seconds)
    if content is None:
        return f"{name}.gz is larger than {MOST_BYTES:,} bytes"
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5s[f"{name}.gz"]:
        return f"{name}.gz is corrupt (md5 differs)"
    return _keep(partial, name, content)


def _read(response: HTTPResponse, ends_at: float) -> bytes | None:
    """Return the body of an answer; None if it is larger than any archive. On a terminal, show how far it is.

    Raises `_TooSlow` if it is not done by `ends_at`.
    """
    content, shown = bytearray(), sys.stderr is not None and sys.stderr.isatty()
    while piece := response.read1(2**16):
        content += piece
        if len(content) > MOST_BYTES:
            return None
        if time.monotonic() > ends_at:
            raise _TooSlow
        if shown and response.length is not None:
            print(f"\r  {len(content) / max(len(content) + response.length, 1):.0%} ", end="", file=sys.stderr)
    if shown:
        print(file=sys.stderr)
    return bytes(content)


def _reason(error: Exception, name: str, timeout_seconds: float) -> str:
    """Return what went wrong, in few words."""
    text = str(error)
    if isinstance(error, HTTPError):
        # It is the answer too, whose connection would stay open.
        error.close()
        return f"HTTP {error.code} for {name}.gz"
    if isinstance(error, TimeoutError) or "timed out" in text:
        return f"no answer within {timeout_seconds:g} s"
    return re.sub(r"<urlopen error (?:\[Errno -?\d+\] )?(.*)>", r"\1", text) + f" for {name}.gz"
