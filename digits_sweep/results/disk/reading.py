"""Read files that may come from somebody else: no link is followed, nothing is waited for, and memory is bounded."""

import csv
import hashlib
import io
import json
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from digits_sweep.errors import UnreadableRecord

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
