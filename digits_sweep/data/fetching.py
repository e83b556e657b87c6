"""Fetch MNIST's archives from a mirror, within a time limit, and say why if that fails."""

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

from digits_sweep.data.archives import FILES, read_archive, read_intact
from digits_sweep.data.placing import is_free, place, workbench
from digits_sweep.data.torchvision_import import import_torchvision

# A mirror that is never silent may still never finish. With the default timeout of 10 s it has 5 minutes, for which
# 40 kB/s suffice.
TIMEOUTS_PER_MIRROR = 30

# Errors of the disk, which another mirror would not solve.
DISK_ERRORS = (errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EPERM, errno.EROFS)


class _TooSlow(Exception):
    """Not an OSError: after one on https, torchvision tries the whole archive again on http."""


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

    Only a signal can interrupt torchvision's downloader, so there is no such limit outside the main thread, nor on
    Windows.
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
    """Copy and unpack one archive from a file address, which torchvision cannot do; return why it failed, or None."""
    archive = Path(url2pathname(urlsplit(folder).path)) / f"{name}.gz"
    try:
        content = archive.read_bytes()
    except OSError as error:
        return f"{error.strerror} for {name}.gz"
    (partial / archive.name).write_bytes(content)
    if (unpacked := read_archive(partial / archive.name)) is None:
        return f"{name}.gz is corrupt"
    (partial / name).write_bytes(unpacked)
    return None


def _download(partial: Path, name: str, folder: str, timeout_seconds: float) -> str | None:
    """Fetch and unpack one archive with torchvision, which checks its md5; return why it failed, or None.

    torchvision sets no time limit, so it is set here. Its progress bar is shown on a terminal only.
    """
    mnist: Any = import_torchvision("torchvision.datasets").MNIST

    class OneArchive(mnist):
        """One archive of one mirror, so that an error has one cause; unlike MNIST, it reads nothing afterwards."""

        raw_folder = str(partial)

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
        # torchvision's frames hold the failed responses, whose connections would stay open.
        clear_frames(error.__traceback__)
        return _reason(error, name, timeout_seconds)
    finally:
        socket.setdefaulttimeout(before)
    return None


def _reason(error: Exception, name: str, timeout_seconds: float) -> str:
    """Return what went wrong, in few words. torchvision passes most errors on as text, after a heading of its own."""
    text = str(error).rpartition("got:\n")[2].strip()
    if isinstance(error, TimeoutError) or "timed out" in text:
        return f"no answer within {timeout_seconds:g} s"
    if text == "File not found or corrupted.":
        return f"{name}.gz is corrupt (md5 differs)"
    if refused := re.match(r"HTTP Error (\d+)", text):
        return f"HTTP {refused[1]} for {name}.gz"
    return re.sub(r"<urlopen error (?:\[Errno -?\d+\] )?(.*)>", r"\1", text) + f" for {name}.gz"
