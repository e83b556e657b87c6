"""Writing files so that no reader ever sees half of one, and reading them so that a damaged one is named."""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from digits_sweep.errors import UnreadableRecord

Content = TypeVar("Content")

LONGEST_NAME = 120


def safe_name(wanted: str) -> str:
    """Return `wanted` as one plain path component.

    What is not a letter, a digit or one of `._=-` becomes `-`; a name that had to be changed or cut ends with a digest
    of `wanted`, so that two names never become one.
    """
    name = re.sub(r"[^A-Za-z0-9._=-]", "-", wanted)[:LONGEST_NAME]
    if name == wanted and name.strip("."):
        return name
    return f"{name}-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}"


def replace_file(path: Path, content: str | bytes, keep_previous: bool = False) -> None:
    """Replace `path` by `content` (text in UTF-8) in one step: it holds the old or the new, also after a power cut.

    `keep_previous` keeps what was there before as `previous(path)`. Raises OSError if the folder cannot be written or
    is full; `path` is then as it was.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        if keep_previous and path.exists():
            _keep(path)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def previous(path: Path) -> Path:
    """Return the name under which the content before the present one is kept."""
    return path.with_name(f"{path.name}.previous")


def _keep(path: Path) -> None:
    """Give the present content its second name; the first one stays, so that at no moment there is none."""
    linked = path.with_name(f".{path.name}.link")
    linked.unlink(missing_ok=True)
    try:
        os.link(path, linked)
    except OSError:
        # A file system without hard links.
        shutil.copyfile(path, linked)
    linked.replace(previous(path))


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
    """Rename a file that cannot be read, so that what is written next does not replace it."""
    for name in (path, previous(path)):
        if name.exists():
            name.replace(name.with_name(f"{name.name}.unreadable"))


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that a killed process left in `folder`."""
    for leftover in folder.glob(".*.*"):
        if leftover.name.startswith((".record.json.", ".history.csv.", ".checkpoint.pt.", ".summary.csv.")):
            leftover.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Make the renaming itself durable. Only POSIX systems can open a folder for that."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
