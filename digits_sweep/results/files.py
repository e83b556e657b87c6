"""Files that survive: written whole or not at all, appended to and cut back, and read within limits.

What is read may come from somebody else: no link is followed, nothing is waited for, and memory is bounded.
"""

import csv
import hashlib
import io
import json
import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from digits_sweep.errors import UnreadableRecord
from digits_sweep.results import changes

# The most bytes that a file of each kind may have. What this program writes is far smaller: a record has some 5 kB, a
# manifest 2 kB a run, a history 80 bytes an epoch, a checkpoint 12 bytes a weight with Adam.
SMALL_BYTES = 64 * 2**10
MOST_NAMED = 100
RECORD_BYTES = 2**20
HISTORY_BYTES = 64 * 2**20
MANIFEST_BYTES = 64 * 2**20
LOSSES_BYTES = 4 * 2**30
CHECKPOINT_BYTES = 4 * 2**30

# What a file may be made of, whatever its size: parsed, each value of JSON takes some 100 bytes and a row 500.
MOST_VALUES = 5_000_000
MOST_ROWS = 1_000_000
DEEPEST = 32

LINK = "a symbolic link, which is not followed"


def read_file(path: Path, limit_bytes: int) -> bytes:
    """Return the content of a regular file of at most `limit_bytes`.

    Neither `path` nor the folder that it lies in is followed if it is a symbolic link, and a pipe or a device is not
    waited for. Raises `UnreadableRecord` if the file is any of these, missing, or larger.
    """
    with _opened(path, limit_bytes) as file:
        # A file that grows meanwhile is read no further than to the size that it was opened with.
        return file.read(os.fstat(file.fileno()).st_size)


def digest_file(path: Path, limit_bytes: int) -> tuple[int, str]:
    """Return size and SHA-256 of a file, read piece by piece. Raises `UnreadableRecord` as `read_file` does."""
    with _opened(path, limit_bytes) as file:
        size, digest = 0, hashlib.sha256()
        while size <= limit_bytes and (piece := file.read(2**20)):
            size += len(piece)
            digest.update(piece)
        return size, digest.hexdigest()


def read_json(path: Path, limit_bytes: int) -> dict[str, Any]:
    """Return the object in a JSON file. Raises `UnreadableRecord` as `read_file` and `parse_json` do."""
    return parse_json(read_file(path, limit_bytes), path.name)


def parse_json(content: bytes, name: str) -> dict[str, Any]:
    """Return the object that JSON in UTF-8 holds; `name` is that of its file, for messages.

    Every number is finite and fits a float, every text can be written as UTF-8. Raises `UnreadableRecord` if that does
    not hold, if nothing or something else is there, or if it is nested or made of more parts than any file of ours.
    """
    try:
        if sum(map(content.count, (b",", b"[", b"{"))) > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values")
        found = json.loads(content.decode("utf-8"), parse_constant=_no_constant)
        if not isinstance(found, dict):
            raise ValueError("not an object of keys and values")
        check_values(found)
    except RecursionError as error:
        raise UnreadableRecord(f"{name}: nested more than {DEEPEST} deep") from error
    except ValueError as error:
        raise UnreadableRecord(f"{name}: {reason_of(error)}") from error
    return found


def check_values(found: dict[str, Any]) -> None:
    """Check that a dictionary holds what JSON can hold, as `parse_json` describes it. Raises ValueError otherwise.

    It goes through the values level by level, because a recursion could be made too deep, and counts them, because a
    pickle may refer to one list a thousand times over.
    """
    level, count = [found], 0
    for _ in range(DEEPEST):
        nested: list[Any] = []
        for holder in level:
            count += len(holder)
            if count > MOST_VALUES:
                raise ValueError(f"more than {MOST_VALUES:,} values")
            for each in [*holder, *holder.values()] if isinstance(holder, dict) else holder:
                if isinstance(each, dict | list):
                    nested.append(each)
                else:
                    _check_value(each)
        level = nested
    if level:
        raise ValueError(f"nested more than {DEEPEST} deep")


def _check_value(value: Any) -> None:
    if isinstance(value, str):
        if not value.isascii():
            value.encode("utf-8")
    elif isinstance(value, int | float):
        if not abs(value) <= sys.float_info.max:
            raise ValueError("a number beyond 1.8e308")
    elif value is not None:
        raise ValueError(f"a {type(value).__name__} is no value of JSON")


def read_csv(path: Path, limit_bytes: int, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of a CSV file. Raises `UnreadableRecord` as `read_file` and `parse_csv` do."""
    return parse_csv(read_file(path, limit_bytes), path.name, columns)


def parse_csv(content: bytes, name: str, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of CSV in UTF-8, each with a text for every one of `columns`; `name` is that of its file.

    Raises `UnreadableRecord` if the header or a row is another one.
    """
    try:
        text = content.decode("utf-8")
        if text.count("\n") + text.count("\r") > MOST_ROWS:
            raise ValueError(f"more than {MOST_ROWS:,} rows")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        if not rows or rows.pop(0) != list(columns):
            raise ValueError(f"its columns are not {','.join(columns)}")
        if any(len(row) != len(columns) for row in rows):
            raise ValueError("a row has more or fewer cells than columns")
    except (ValueError, csv.Error) as error:
        raise UnreadableRecord(f"{name}: {reason_of(error)}") from error
    return [dict(zip(columns, row, strict=True)) for row in rows]


def run_folders(sweep_dir: Path) -> tuple[list[str], list[str]]:
    """Return the names of the folders in `sweep_dir`, and those of its symbolic links; neither if it cannot be read.

    A link is not followed, whatever it leads to.
    """
    try:
        with os.scandir(sweep_dir) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
            links = [entry.name for entry in found if entry.is_symlink()]
            return [entry.name for entry in found if entry.is_dir(follow_symlinks=False)], links
    except OSError:
        return [], []


def check_plain(folder: Path, unused: str = "") -> None:
    """Check that a folder, which somebody else may have sent, holds files and folders only, however deep.

    Where it may be written, a link would lead elsewhere; nothing that is there is written or read in a folder called
    `unused`. Raises `UnreadableRecord` with the first that is not one.
    """
    for place, names, files in os.walk(folder, onerror=_unreadable_folder):
        for name in (*names, *files):
            # What another process is just writing may have its name by now.
            with suppress(FileNotFoundError):
                mode = os.lstat(os.path.join(place, name)).st_mode  # noqa: PTH118
                if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
                    path = Path(place, name).relative_to(folder)
                    raise UnreadableRecord(f"{path} is a {_kind(mode)}: nothing is written beside it; remove it first")
        names[:] = [name for name in names if name != unused]


def _unreadable_folder(error: OSError) -> None:
    raise UnreadableRecord(f"{Path(error.filename).name}: {reason_of(error)}") from error


@contextmanager
def _opened(path: Path, limit_bytes: int) -> Iterator[BinaryIO]:
    try:
        # Looked at before it is opened, because opening a device may do something.
        if stat.S_ISLNK(path.parent.lstat().st_mode):
            raise UnreadableRecord(f"{path.parent.name}: {LINK}")
        _check_kind(path.name, path.lstat(), limit_bytes)
        flags = sum(getattr(os, flag, 0) for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY", "O_CLOEXEC"))
        with os.fdopen(os.open(path, os.O_RDONLY | flags), "rb") as file:
            _check_kind(path.name, os.fstat(file.fileno()), limit_bytes)
            yield file
    # ValueError: a name with a NUL in it.
    except (OSError, ValueError) as error:
        raise UnreadableRecord(f"{path.name}: {reason_of(error)}") from error


def _check_kind(name: str, found: os.stat_result, limit_bytes: int) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise UnreadableRecord(f"{name}: {LINK}")
    if not stat.S_ISREG(found.st_mode):
        raise UnreadableRecord(f"{name}: not a file but a {_kind(found.st_mode)}")
    if found.st_size > limit_bytes:
        raise UnreadableRecord(f"{name}: {found.st_size:,} bytes are more than the {limit_bytes:,} that are read")


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "folder", stat.S_IFLNK: "symbolic link", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "device")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")


def named(value: Any) -> str:
    """Return a value of a file for a message, which nobody would read if it were long."""
    text = str(value)
    return text if len(text) <= MOST_NAMED else f"{text[:MOST_NAMED]}..."


def reason_of(error: Exception) -> str:
    """Return the first line of an error, without the path of the file."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, UnicodeEncodeError):
        return "half a character (a lone surrogate)"
    return (text.splitlines() or [type(error).__name__])[0]


Content = TypeVar("Content")

# No file takes that long to write: a temporary one that is older was left behind.
OLD_SECONDS = 3_600


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


Rows = TypeVar("Rows")


class GrowingFile:
    """A file beside a run's record, with the digest of its content kept up to date.

    `start` is what it begins with. What is appended need not survive a power cut if `durable` is false: then
    somebody else must be able to make it again.
    """

    def __init__(self, path: Path, start: bytes = b"", durable: bool = False) -> None:
        self.path = path
        self.start = start
        self.durable = durable
        self.size = 0
        self._digest = hashlib.sha256()

    def restore(self, content: bytes) -> None:
        """Make the file hold `start` and `content`, and nothing else; write only what differs."""
        expected = self.start + content
        try:
            found = read_file(self.path, HISTORY_BYTES)
        except UnreadableRecord:
            found = b""
        if not found.startswith(expected):
            replace_file(self.path, expected, durable=self.durable)
        elif len(found) > len(expected):
            shorten_file(self.path, len(expected))
        self.size, self._digest = len(expected), hashlib.sha256(expected)

    def append(self, content: bytes) -> None:
        """Append `content`. Raises OSError if it cannot be written."""
        append_to_file(self.path, content, self.durable)
        self.size += len(content)
        self._digest.update(content)

    @property
    def signature(self) -> dict[str, Any]:
        """Size in bytes and SHA-256 of what was appended so far, as the record has them."""
        return {"bytes": self.size, "sha256": self._digest.hexdigest()}


def read_rows(path: Path, signature: dict[str, Any] | None, parse: Callable[[bytes, str], Rows]) -> Rows:
    """Return what `parse` makes of a file's content and name; with a record's `signature`, of what it says is there.

    Raises `UnreadableRecord` if the file cannot be read or is another one.
    """
    if signature is None:
        rows, _ = latest_readable(path, lambda each: parse(read_file(each, HISTORY_BYTES), each.name))
        return rows
    content = read_file(path, HISTORY_BYTES)
    if not fits(content, signature):
        raise UnreadableRecord(f"{path.name}: does not fit record.json")
    return parse(content[: signature["bytes"]], path.name)


def fits(content: bytes, signature: dict[str, Any]) -> bool:
    """Return whether `content` begins with what `signature` says. What follows is not committed yet."""
    size = signature.get("bytes")
    if not isinstance(size, int) or len(content) < size:
        return False
    return hashlib.sha256(content[:size]).hexdigest() == signature.get("sha256")
