"""Writing files so that no reader ever sees half of one, and that survives a power cut if it has to."""

import hashlib
import re
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from digits_sweep.errors import UnreadableRecord
from digits_sweep.results.disk import changes

Content = TypeVar("Content")

LONGEST_NAME = 120
# No file takes that long to write: a temporary one that is older was left behind.
OLD_SECONDS = 3_600


def safe_name(wanted: str) -> str:
    """Return `wanted` as one plain path component.

    What is not a letter, a digit or one of `._=-` becomes `-`; a name that had to be changed or cut ends with a digest
    of `wanted`, so that two names never become one.
    """
    name = re.sub(r"[^A-Za-z0-9._=-]", "-", wanted)[:LONGEST_NAME]
    if name == wanted and name.strip("."):
        return name
    return f"{name}-{hashlib.sha256(wanted.encode(errors='surrogatepass')).hexdigest()[:8]}"


def make_folder(folder: Path) -> None:
    """Create `folder` and its parents, so that they survive a power cut. Raises OSError if that fails."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        changes.make_folder(each)
        changes.flush_folder(each.parent)


def replace_file(
    path: Path, content: str | bytes, keep_previous: bool = False, durable: bool = True, flushes_folder: bool = True
) -> None:
    """Replace `path` by `content` (text in UTF-8) in one step: a reader finds the old or the new.

    `durable`: also after a power cut, or as soon as its folder is flushed if `flushes_folder` is false. `keep_previous`
    keeps what was there before as `previous(path)`. Raises OSError if the folder cannot be written or is full; `path`
    is then as it was.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        changes.write(temporary, content.encode() if isinstance(content, str) else content)
        if durable:
            changes.flush(temporary)
        if keep_previous and path.exists():
            _keep(path)
        changes.rename(temporary, path)
    except BaseException:
        changes.remove(temporary)
        raise
    if durable and flushes_folder:
        changes.flush_folder(path.parent)


def append_to_file(path: Path, content: bytes, durable: bool = True) -> None:
    """Append `content`. Raises OSError if that fails; part of `content` may then be at the end of the file."""
    is_new = not path.exists()
    changes.append(path, content)
    if durable:
        changes.flush(path)
        if is_new:
            changes.flush_folder(path.parent)


def shorten_file(path: Path, size: int) -> None:
    """Cut a file back to its first `size` bytes."""
    changes.shorten(path, size)
    changes.flush(path)


def previous(path: Path) -> Path:
    """Return the name under which the content before the present one is kept."""
    return path.with_name(f"{path.name}.previous")


def _keep(path: Path) -> None:
    """Give the present content its second name; the first one stays, so that at no moment there is none."""
    linked = path.with_name(f".{path.name}.link")
    changes.remove(linked)
    changes.link(path, linked)
    changes.rename(linked, previous(path))


def latest_readable(path: Path, read: Callable[[Path], Content]) -> tuple[Content, str | None]:
    """Return what `read` makes of `path`, or else of `previous(path)`, with what was wrong with the newer one.

    Raises `UnreadableRecord`, the one for `path`, if neither can be read.
    """
    try:
        return read(path), None
    except UnreadableRecord as error:
        try:
            return read(previous(path)), str(error)
        except UnreadableRecord:
            raise error from None


def set_aside(path: Path) -> None:
    """Rename a file that cannot be used, and the one before it, to names that are free."""
    for name in (path, previous(path)):
        if name.exists():
            numbers = (f"{name.name}.unreadable{'' if number == 1 else f'.{number}'}" for number in range(1, 10**6))
            changes.rename(name, next(free for free in map(name.with_name, numbers) if not free.exists()))


def remove_leftovers(folder: Path, least_seconds: float = 0) -> None:
    """Remove temporary files that a killed process left in `folder`.

    Where other processes may write at the moment, only those that are at least `least_seconds` old.
    """
    for leftover in folder.glob(".*.*"):
        if re.fullmatch(r"\.[a-z_]+\.(json|csv|pt|npy|html)\.(link|[0-9a-z_]{8})", leftover.name):
            with suppress(FileNotFoundError):
                if time.time() - leftover.lstat().st_mtime >= least_seconds:
                    changes.remove(leftover)
