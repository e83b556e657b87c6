"""The changes of the disk, one small function each, so that tests can record them and stop after any.

All raise OSError if they fail.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

SECOND_NAME = "a file with another name elsewhere, which is not written"
# What file systems answer that cannot flush a folder, or do not need to.
NO_FOLDER_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)


def make_folder(folder: Path) -> None:
    """Make a folder, if there is none. Its parent exists."""
    folder.mkdir(exist_ok=True)


def write(path: Path, content: bytes) -> None:
    """Write a new file; the user's umask says who may read it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def append(path: Path, content: bytes) -> None:
    """Append to a file, which is made if there is none. A link is not followed."""
    with os.fdopen(open_own(path, os.O_CREAT | os.O_APPEND), "ab") as file:
        file.write(content)


def overwrite(path: Path, content: bytes) -> None:
    """Overwrite the first bytes of a file, fewer than a disk sector has, in one step. A link is not followed."""
    descriptor = open_own(path)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)


def shorten(path: Path, size: int) -> None:
    """Cut a file back to its first `size` bytes. A link is not followed."""
    descriptor = open_own(path)
    try:
        os.ftruncate(descriptor, size)
    finally:
        os.close(descriptor)


def open_own(path: Path, flags: int = 0) -> int:
    """Open a file to change what is in it; return its descriptor.

    A link is not followed, a pipe not waited for, and OSError raised for a file that has a second name: what lies in a
    folder from somebody else may be one of the user's own files too.
    """
    careful = sum(getattr(os, flag, 0) for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
    descriptor = os.open(path, os.O_WRONLY | flags | careful, 0o666)
    if os.fstat(descriptor).st_nlink > 1:
        os.close(descriptor)
        raise OSError(errno.EMLINK, SECOND_NAME, str(path))
    return descriptor


def link(path: Path, linked: Path) -> None:
    """Give a file a second name; a copy if the file system has no links."""
    try:
        os.link(path, linked, follow_symlinks=False)
    except (OSError, NotImplementedError):
        shutil.copyfile(path, linked, follow_symlinks=False)


def rename(path: Path, target: Path) -> None:
    """Give a file another name, in place of the file that has it."""
    with _freed_later(target):
        path.replace(target)


@contextmanager
def _freed_later(path: Path) -> Iterator[None]:
    """Let what the block removes at `path` be freed by another thread: it can take longer than to write a file."""
    held = None
    if os.name == "posix":
        # A link is not followed, and a pipe not waited for.
        with suppress(OSError):
            held = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        yield
    finally:
        if held is not None:
            in_background(partial(os.close, held))


def remove(path: Path) -> None:
    """Remove a file, if there is one."""
    path.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Wait until the content of a file is on the disk."""
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """Wait until names in a folder are on the disk. Only POSIX systems can open a folder for that."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in NO_FOLDER_FLUSH:
                raise
        finally:
            os.close(descriptor)


def in_background(work: Callable[[], None]) -> Future[None]:
    """Let another thread do `work`, which waits for the disk; the result raises what it raised."""
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="digits_sweep")
    try:
        return thread.submit(work)
    finally:
        thread.shutdown(wait=False)
