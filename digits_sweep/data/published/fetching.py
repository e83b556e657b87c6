"""Fetch a data set's archives from a mirror, within a time limit, and say why if that fails."""

import hashlib
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, url2pathname, urlopen

from digits_sweep.data.published.archives import Published, archive_of, is_intact, read_archive
from digits_sweep.data.published.placing import is_free, place, workbench

# A mirror that is never silent may still never finish. With the default timeout of 10 s it has 5 minutes for a data set
# of up to BYTES_PER_MIRROR bytes, and for a larger one as much more: 120 kB/s suffice.
TIMEOUTS_PER_MIRROR, BYTES_PER_MIRROR = 30, 2**25


class _TooSlow(Exception):
    """Not an OSError: it is the end of the whole mirror."""


def fetch(
    published: Published, raw: Path, mirror: str, timeout_seconds: float, report: Callable[[str], None]
) -> str | None:
    """Fetch the missing files of a data set from one mirror; return why that failed, or None.

    Nothing in `raw` is replaced: an archive is fetched and unpacked in a folder of its own there, and moved to its
    place if it is intact and the place is free.
    """
    fetch_one = {"file": _copy, "http": _download, "https": _download}.get(mirror.partition(":")[0].lower())
    if fetch_one is None:
        return "not an address that starts with https:, http: or file:"
    folder = mirror.rstrip("/") + "/"
    seconds = TIMEOUTS_PER_MIRROR * timeout_seconds * published.most_bytes / BYTES_PER_MIRROR
    try:
        with workbench(raw) as partial, _at_most(seconds):
            for name in [name for name in published.files if is_free(raw / name)]:
                archive = archive_of(name)
                report(f"fetching {folder}{archive} to {raw}")
                failure = fetch_one(published, partial / archive, folder, timeout_seconds, time.monotonic() + seconds)
                if failure := failure or _unpack(published, partial / archive, name):
                    return failure
                for made in dict.fromkeys((archive, name)):
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


def _unpack(published: Published, archive: Path, name: str) -> str | None:
    """Unpack an archive beside it if that is how it is read; return that it is corrupt, or None."""
    if name != archive.name:
        content = read_archive(published, archive)
        if content is not None:
            archive.with_name(name).write_bytes(content)
    return None if is_intact(published, archive.with_name(name)) else f"{archive.name} is corrupt"


def _copy(published: Published, archive: Path, folder: str, timeout_seconds: float, ends_at: float) -> str | None:
    """Copy an archive from a file address; return why it failed, or None."""
    source = Path(url2pathname(urlsplit(folder).path)) / archive.name
    try:
        size = source.stat().st_size
        if not source.is_file():
            return f"{archive.name} is no file"
        if size > published.most_bytes:
            return f"{archive.name} is larger than {published.most_bytes:,} bytes"
        file = source.open("rb")
    except OSError as error:
        return f"{error.strerror} for {archive.name}"
    with file, archive.open("wb") as copy:
        shutil.copyfileobj(file, copy)
    return None


def _download(published: Published, archive: Path, folder: str, timeout_seconds: float, ends_at: float) -> str | None:
    """Fetch an archive that is known by its md5; return why it failed, or None.

    It is read here: torchvision's downloader has neither a limit in time nor one in size.
    """
    digest, length = hashlib.md5(usedforsecurity=False), 0
    pieces = _pieces(f"{folder}{archive.name}", timeout_seconds, ends_at)
    with archive.open("wb") as file:
        while True:
            # What the mirror does wrong is caught, not what the disk does.
            try:
                piece = next(pieces, b"")
            except (OSError, HTTPException, ValueError) as error:
                return _reason(error, archive.name, timeout_seconds)
            if not piece:
                break
            length += len(piece)
            if length > published.most_bytes:
                pieces.close()
                return f"{archive.name} is larger than {published.most_bytes:,} bytes"
            digest.update(piece)
            file.write(piece)
    return (
        None if digest.hexdigest() == published.archives[archive.name] else f"{archive.name} is corrupt (md5 differs)"
    )


def _pieces(address: str, timeout_seconds: float, ends_at: float) -> Generator[bytes, None, None]:
    """Yield the body of an answer piece by piece. On a terminal, show how far it is.

    Raises `_TooSlow` if it is not done by `ends_at`, and what `urlopen` raises.
    """
    request = Request(address, headers={"User-Agent": "digits_sweep"})
    done, shown = 0, sys.stderr is not None and sys.stderr.isatty()
    with urlopen(request, timeout=timeout_seconds) as response:
        while piece := response.read1(2**16):
            done += len(piece)
            if time.monotonic() > ends_at:
                raise _TooSlow
            if shown and response.length is not None:
                print(f"\r  {done / max(done + response.length, 1):.0%} ", end="", file=sys.stderr)
            yield piece
    if shown:
        print(file=sys.stderr)


def _reason(error: Exception, archive: str, timeout_seconds: float) -> str:
    """Return what went wrong, in few words."""
    text = str(error)
    if isinstance(error, HTTPError):
        # It is the answer too, whose connection would stay open.
        error.close()
        return f"HTTP {error.code} for {archive}"
    if isinstance(error, TimeoutError) or "timed out" in text:
        return f"no answer within {timeout_seconds:g} s"
    return re.sub(r"<urlopen error (?:\[Errno -?\d+\] )?(.*)>", r"\1", text) + f" for {archive}"
