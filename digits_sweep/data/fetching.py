"""Fetching MNIST's archives from a mirror: the time that it is given, and what is said of one that fails."""

import errno
import io
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from http.client import HTTPException
from pathlib import Path
from traceback import clear_frames
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from digits_sweep.data.archives import FILES, read_whole, unpack
from digits_sweep.data.torchvision_import import import_torchvision

# A mirror that is never silent may still take for ever. At the usual 10 s this leaves it 5 minutes: 40 kB/s will do.
TIMEOUTS_PER_MIRROR = 30

# Errors of the disk, which no other mirror mends.
DISK_ERRORS = (errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EPERM, errno.EROFS)


class _TooSlow(Exception):
    """No OSError: torchvision answers one of those on https by trying the whole archive again on http."""


def fetch(raw: Path, mirror: str, timeout_seconds: float, report: Callable[[str], None]) -> str | None:
    """Fetch from one mirror what is missing; why that failed, where it did. What is not whole is not kept."""
    fetch_one = {"file": _copy, "http": _download, "https": _download}.get(mirror.partition(":")[0].lower())
    if fetch_one is None:
        return "not an address that begins with https:, http: or file:"
    folder, seconds = mirror.rstrip("/") + "/", TIMEOUTS_PER_MIRROR * timeout_seconds
    try:
        with _at_most(seconds):
            for name in [name for name in FILES if not (raw / name).exists()]:
                report(f"fetching {folder}{name}.gz to {raw}")
                failure = fetch_one(raw, name, folder, timeout_seconds)
                if failure or read_whole(raw / name) is None:
                    return failure or f"{name}.gz is corrupt"
        return None
    except _TooSlow:
        return f"not done after {seconds:g} s"
    finally:
        for name in FILES:
            if read_whole(raw / name) is None:
                (raw / name).unlink(missing_ok=True)
                (raw / f"{name}.gz").unlink(missing_ok=True)


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise `_TooSlow` in a block that takes longer.

    torchvision's downloader can be interrupted by a signal only, so that there is no such limit in another thread than
    the main one, nor on Windows.
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


def _copy(raw: Path, name: str, folder: str, timeout_seconds: float) -> str | None:
    """Copy and unpack one archive, which torchvision's downloader cannot do from a file address; why not, where not."""
    archive = Path(url2pathname(urlsplit(folder).path)) / f"{name}.gz"
    try:
        content = archive.read_bytes()
    except OSError as error:
        return f"{error.strerror} for {name}.gz"
    (raw / archive.name).write_bytes(content)
    return None if unpack(raw / archive.name) else f"{name}.gz is corrupt"


def _download(raw: Path, name: str, folder: str, timeout_seconds: float) -> str | None:
    """Fetch and unpack one archive with torchvision, which checks its md5; why not, where not.

    torchvision sets no time limit: it is set here. Its progress bar is shown on a terminal only.
    """
    mnist: Any = import_torchvision("torchvision.datasets").MNIST

    class OneArchive(mnist):
        """One archive of one mirror, so that what goes wrong has a name; unlike MNIST, nothing is read afterwards."""

        raw_folder = str(raw)

        def __init__(self) -> None:
            self.mirrors = [folder]
            self.resources = [(archive, md5) for archive, md5 in mnist.resources if archive == f"{name}.gz"]

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(timeout_seconds)
    try:
        with nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO()):
            OneArchive().download()
    except (OSError, RuntimeError, HTTPException, ValueError) as error:
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise
        # torchvision's frames keep the refused answers, whose connections would stay open.
        clear_frames(error.__traceback__)
        return _reason(error, name, timeout_seconds)
    finally:
        socket.setdefaulttimeout(before)
    return None


def _reason(error: Exception, name: str, timeout_seconds: float) -> str:
    """What went wrong, in few words. torchvision passes most errors on as text, after a heading of its own."""
    text = str(error).rpartition("got:\n")[2].strip()
    if isinstance(error, TimeoutError) or "timed out" in text:
        return f"no answer within {timeout_seconds:g} s"
    if text == "File not found or corrupted.":
        return f"{name}.gz is corrupt (md5 differs)"
    if refused := re.match(r"HTTP Error (\d+)", text):
        return f"HTTP {refused[1]} for {name}.gz"
    return re.sub(r"<urlopen error (?:\[Errno -?\d+\] )?(.*)>", r"\1", text) + f" for {name}.gz"
