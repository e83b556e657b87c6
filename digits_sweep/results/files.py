"""Writing files so that no reader ever sees half of one, and reading them back so that a damaged one is named."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Content = TypeVar("Content")


class UnreadableRecord(Exception):
    """A file of a run or a sweep that cannot be read back. The text names the file and says what is wrong with it."""


def replace_file(path: Path, content: str | bytes, keep_previous: bool = False) -> None:
    """Put `content` (text in UTF-8) at `path` in one step: it holds the old or the new, also after a power cut.

    `keep_previous` keeps what was there before as `previous(path)`. Raises OSError where the folder cannot be written
    or is full; `path` is then as it was.
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
    """Where the content before the present one is kept."""
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
    """What `read` makes of `path`, or else of `previous(path)`, with what was wrong with the newer one.

    Raises `UnreadableRecord`, the one for `path`, where neither can be read.
    """
    try:
        return read(path), None
    except UnreadableRecord as error:
        try:
            return read(previous(path)), str(error)
        except UnreadableRecord:
            raise error from None


def set_aside(path: Path) -> None:
    """Rename a file that cannot be read, so that what is written next does not take its place."""
    for name in (path, previous(path)):
        if name.exists():
            name.replace(name.with_name(f"{name.name}.unreadable"))


def remove_leftovers(folder: Path) -> None:
    """Remove what a process that was killed had begun to write in `folder`."""
    for leftover in folder.glob(".*.*"):
        if leftover.name.startswith((".record.json.", ".history.csv.", ".checkpoint.pt.", ".summary.csv.")):
            leftover.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Make the renaming itself last. Only POSIX systems can open a folder for that."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
