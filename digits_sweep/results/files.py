"""Files that survive: written whole or not at all, and read within limits.

What is read may come from somebody else: no link is followed, nothing is waited for, and memory is bounded. What took
long to make lies in the user's cache folder: it is read only if it is whole and nobody else's.
"""

import csv
import hashlib
import io
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

from digits_sweep.errors import NewerFormat, UnreadableRecord, escape_controls, one_line, reason_of
from digits_sweep.results import changes

if TYPE_CHECKING:
    import pandas as pd

Content = TypeVar("Content")

# The most bytes that a file of each kind may have. What this program writes is far smaller: a record has some 5 kB, a
# manifest 60 bytes a run, a table of a study or a history 100 bytes a row, a checkpoint 12 bytes a weight with Adam.
SMALL_BYTES, RECORD_BYTES, STUDY_BYTES, HISTORY_BYTES, MANIFEST_BYTES = 2**16, 2**20, 2**23, 2**26, 2**26
LOSSES_BYTES = CHECKPOINT_BYTES = 2**32
# A list or a dictionary in a file is nested no deeper than that, and so are folders.
DEEPEST = 32
LONGEST_QUOTE = 100
# Of a log no more is read to show its end.
LAST_BYTES = 10_000
# No file takes that long to write: a temporary one that is older was left behind.
OLD_SECONDS = 3_600
KINDS = {stat.S_IFDIR: "folder", stat.S_IFLNK: "symbolic link", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
LINK = "a symbolic link, which is not followed"
# What makes a spreadsheet read a cell as a formula: these in front, in a spreadsheet that splits at semicolons too.
_FORMULA = re.compile("(^|[;|\n])(?=[=+\\-@\uff0b\uff0d\uff1d\uff20])")


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
            # The first name stays, so that at no moment there is none.
            linked = path.with_name(f".{path.name}.link")
            changes.remove(linked)
            changes.link(path, linked)
            changes.rename(linked, previous(path))
        changes.rename(temporary, path)
    except BaseException:
        changes.remove(temporary)
        raise
    if durable and flushes_folder:
        changes.flush_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by a value, such as a dataclass, as JSON. Raises as `as_json` does, and OSError."""
    replace_file(path, as_json(value))


def as_json(value: Any) -> bytes:
    """Return a value, such as a dataclass, as JSON that people can read.

    Raises ValueError for a number that is not finite, TypeError for what neither JSON nor NumPy's numbers are.
    """
    plain = msgspec.to_builtins(value, enc_hook=_of_numpy)
    return json.dumps(plain, indent=2, allow_nan=False, ensure_ascii=False).encode() + b"\n"


def _of_numpy(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} is nothing that JSON holds")


def write_table(path: Path, table: "pd.DataFrame") -> None:
    """Replace `path` by a table as CSV for people. Raises OSError if it cannot be written."""
    replace_file(path, as_csv(table))


def as_csv(table: "pd.DataFrame") -> str:
    """Return a table as CSV for people.

    No cell is a formula: a text that begins with `=`, `+`, `-` or `@` gets a single quote in front. Control characters
    are written out. Numbers are as pandas writes them.
    """
    harmless = table.rename(columns=_cell)
    for name, column in harmless.items():
        if column.dtype.kind not in "biuf":
            harmless[name] = column.map(_cell, na_action="ignore")
    return harmless.to_csv(index=False, lineterminator="\n")


def _cell(value: object) -> object:
    return _FORMULA.sub(r"\1'", one_line(value)) if isinstance(value, str) else value


def previous(path: Path) -> Path:
    """Return the name under which the content before the present one is kept."""
    return path.with_name(f"{path.name}.previous")


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


def set_aside(folder: Path, names: Sequence[str]) -> Path:
    """Move the files `names` of `folder`, and those before them, into a new folder in it, which is returned.

    Raises OSError if that fails.
    """
    numbered = (folder / f"set_aside{'' if number == 1 else f'_{number}'}" for number in range(1, 10**6))
    aside = next(free for free in numbered if not free.exists())
    changes.make_folder(aside)
    for path in (folder / name for name in names):
        for each in (path, previous(path)):
            if os.path.lexists(each):
                changes.rename(each, aside / each.name)
    changes.flush_folder(aside)
    changes.flush_folder(folder)
    return aside


def remove_leftovers(folder: Path, least_seconds: float = 0) -> None:
    """Remove temporary files that a killed process left in `folder`.

    Where other processes may write at the moment, only those that are at least `least_seconds` old.
    """
    for leftover in folder.glob(".*.*"):
        if re.fullmatch(r"\.[a-z_]+\.(json|csv|safetensors|npy|html)\.(link|[0-9a-f]{8})", leftover.name):
            with suppress(FileNotFoundError):
                if time.time() - leftover.lstat().st_mtime >= least_seconds:
                    changes.remove(leftover)


def read_file(path: Path, limit_bytes: int, first_bytes: int | None = None) -> bytes:
    """Return the content of a regular file of at most `limit_bytes`, or only so many of its first bytes.

    Neither `path` nor the folder that it lies in is followed if it is a symbolic link, and a pipe or a device is not
    waited for. Raises `UnreadableRecord` if the file is any of these, missing, larger, or more than memory has room
    for: a file with holes takes no room on a disk.
    """
    try:
        # Looked at before it is opened, because opening a device may do something.
        if path.parent.is_symlink():
            raise UnreadableRecord(f"{path.parent.name}: {LINK}")
        _check_kind(path.name, path.lstat(), limit_bytes)
        flags = sum(getattr(os, flag, 0) for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY", "O_CLOEXEC"))
        with os.fdopen(os.open(path, os.O_RDONLY | flags), "rb") as file:
            found = os.fstat(file.fileno())
            _check_kind(path.name, found, limit_bytes)
            # A file that grows meanwhile is read no further than to the size that it was opened with.
            return file.read(found.st_size if first_bytes is None else min(found.st_size, first_bytes))
    except MemoryError as error:
        raise UnreadableRecord(f"{path.name}: its {found.st_size:,} bytes do not fit into memory") from error
    # ValueError: a name with a NUL in it.
    except (OSError, ValueError) as error:
        raise UnreadableRecord(f"{path.name}: {reason_of(error)}") from error


def _check_kind(name: str, found: os.stat_result, limit_bytes: int) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise UnreadableRecord(f"{name}: {LINK}")
    if not stat.S_ISREG(found.st_mode):
        raise UnreadableRecord(f"{name}: not a file but a {_kind(found)}")
    if found.st_size > limit_bytes:
        raise UnreadableRecord(f"{name}: {found.st_size:,} bytes are more than the {limit_bytes:,} that are read")


def _kind(found: os.stat_result) -> str:
    return KINDS.get(stat.S_IFMT(found.st_mode), "device")


def read_json(path: Path, limit_bytes: int, kind: type[Content]) -> Content:
    """Return what a JSON file holds, as `kind`. Raises `UnreadableRecord` as `read_file` and `decode_json` do."""
    return decode_json(read_file(path, limit_bytes), kind, path.name)


def decode_json(content: bytes, kind: type[Content], name: str) -> Content:
    """Return what JSON in UTF-8 holds, as the dataclass or other type `kind`; `name` is that of its file, for messages.

    Raises `UnreadableRecord` if it holds something else, or is nested deeper than any file of ours.
    """
    try:
        value = msgspec.json.decode(content, type=kind)
    except RecursionError as error:
        raise UnreadableRecord(f"{name}: nested more than {DEEPEST} deep") from error
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise UnreadableRecord(f"{name}: {reason_of(error)}") from error
    if _is_deeper(msgspec.to_builtins(value) if hasattr(value, "__dataclass_fields__") else value):
        raise UnreadableRecord(f"{name}: nested more than {DEEPEST} deep")
    return value


def _is_deeper(value: Any) -> bool:
    """Return whether a value is nested more than `DEEPEST` deep. Level by level: a recursion could be made too deep."""
    level = [value]
    for _ in range(DEEPEST):
        holders = [each for each in level if isinstance(each, dict | list)]
        level = [each for holder in holders for each in (holder.values() if isinstance(holder, dict) else holder)]
    return bool(level)


def read_csv(path: Path, limit_bytes: int, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of a CSV file in UTF-8, each with a text for every one of `columns`.

    Raises `UnreadableRecord` as `read_file` does, and if the header or a row is another one.
    """
    try:
        text = read_file(path, limit_bytes).decode("utf-8")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        if not rows or rows.pop(0) != list(columns):
            raise ValueError(f"its columns are not {','.join(columns)}")
        return [dict(zip(columns, row, strict=True)) for row in rows]
    except (ValueError, csv.Error) as error:
        raise UnreadableRecord(f"{path.name}: {reason_of(error)}") from error


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

    Where it may be written, a link would lead elsewhere, and a second name of a file may be that of somebody's own.
    Nothing that is there is written or read in the folder `unused` in it. Raises `UnreadableRecord` with the first that
    is something else.
    """
    for parent, names, files in os.walk(folder, onerror=_unreadable_folder):
        if len(Path(parent).relative_to(folder).parts) > DEEPEST:
            raise UnreadableRecord(f"a folder in it is nested more than {DEEPEST} deep; remove it first")
        for name in (*names, *files):
            path = Path(parent, name)
            # What another process is just writing may have its name by now.
            with suppress(FileNotFoundError):
                found = path.lstat()
                what = None
                if not stat.S_ISDIR(found.st_mode) and not stat.S_ISREG(found.st_mode):
                    what = f"a {_kind(found)}"
                elif stat.S_ISREG(found.st_mode) and found.st_nlink > 1 and not _is_ours(path, found):
                    what = "a file with another name elsewhere"
                if what:
                    where = path.relative_to(folder)
                    raise UnreadableRecord(f"{where} is {what}: nothing is written beside it; remove it first")
        if parent == str(folder):
            names[:] = [name for name in names if name != unused]


def _is_ours(path: Path, found: os.stat_result) -> bool:
    """Return whether a file has only the names that this program gives it while it keeps the previous content."""
    first = path.with_name(re.sub(r"^\.(.+)\.link$|^(.+)\.previous$", r"\1\2", path.name))
    names = (first, previous(first), first.with_name(f".{first.name}.link"))
    return sum(each.exists() and each.lstat().st_ino == found.st_ino for each in names) == found.st_nlink


def _unreadable_folder(error: OSError) -> None:
    raise UnreadableRecord(f"{Path(error.filename).name}: {reason_of(error)}") from error


class _Started(Protocol):
    """What a file says of when its folder was started."""

    @property
    def counter(self) -> int: ...

    @property
    def started_at(self) -> str: ...


def by_start(parent: Path, read: Callable[[Path], _Started]) -> list[Path]:
    """Return the folders in `parent` that `read` can read, oldest first.

    They are ordered by the counter in what it returns, then by the start in UTC: the name of a folder and the clock of
    a machine may be changed.
    """
    ordered = []
    for name in run_folders(parent)[0]:
        with suppress(UnreadableRecord):
            content = read(parent / name)
            ordered.append((content.counter, content.started_at, name))
    return [parent / name for _, _, name in sorted(ordered)]


def newest_own(folders: Sequence[Path], file: str, what: str) -> Path:
    """Return the last of `folders` whose `file` is this user's: others may use the same outputs.

    Raises FileNotFoundError, with the owner of the last one, if none is this user's; `what` says what they are.
    """
    if own := [folder for folder in folders if is_own(folder / file)]:
        return own[-1]
    last = folders[-1]
    reason = f"no {what} of yours; the newest is {owner_of(last / file)}'s: resume={last}"
    raise FileNotFoundError(f"{last.parent}: {reason}")


def is_own(path: Path) -> bool:
    """Return whether a file is this user's, as far as the system tells users apart."""
    return not hasattr(os, "getuid") or path.lstat().st_uid == os.getuid()


def last_lines(path: Path, most: int, start: int = 0) -> list[str]:
    """Return at most so many last lines of a log, from the byte `start` on and harmless; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(start, path.stat().st_size - LAST_BYTES))
            text = file.read(LAST_BYTES).decode("utf-8", "replace")
    except OSError:
        return []
    return [escape_controls(line) for line in text.strip().splitlines()[-most:]]


def owner_of(path: Path) -> str:
    """Return the name of the user that a file belongs to, or the number if that has no name here."""
    try:
        return path.owner()
    except (KeyError, NotImplementedError):
        return str(path.lstat().st_uid)


def check_format(name: str, found: Any, known: int) -> None:
    """Raise `NewerFormat` if a file has a newer format than the `known` one, `UnreadableRecord` if it has another."""
    if found != known:
        newer = isinstance(found, int) and found > known
        raise (NewerFormat if newer else UnreadableRecord)(f"{name}: its format {named(found)} is not known here")


def named(value: Any) -> str:
    """Return a value of a file for a message, which nobody would read if it were long."""
    text = str(value)
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}..."


# Only this user may write in a folder of the cache, and read what is kept there.
OF_A_FOLDER, OF_A_FILE = 0o700, 0o600


def cache_file(*names: str) -> Path | None:
    """Return the path of a file in the user's cache folder, whose folders are made, or None if it cannot be kept there.

    That is if the user has no home, the folder cannot be made, or others may write there.
    """
    # RuntimeError: there is no home.
    with suppress(OSError, RuntimeError):
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        path = base.joinpath("digits_sweep", *names)
        if base.is_absolute() and _made(path.parent) and _is_out_of_others_reach(path.parent):
            return path
    return None


def _made(folder: Path) -> bool:
    """Make a folder and its parents, whatever the umask is, and return True. Raises OSError."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    for parent in reversed(missing):
        make_folder(parent)
        parent.chmod(OF_A_FOLDER)
    return True


def read_kept(path: Path) -> bytes | None:
    """Return what `keep` wrote; None if it is not there, damaged, or may be somebody else's."""
    with suppress(OSError):
        if all(map(_is_out_of_others_reach, (path, _digest_of(path)))):
            content = path.read_bytes()
            if _digest_of(path).read_bytes() == _digest(content):
                return content
    return None


def keep(path: Path, content: bytes) -> None:
    """Keep a file, and its digest beside it, so that a power cut leaves all of it or what `read_kept` refuses.

    Raises OSError if it cannot be written.
    """
    for file, text in ((path, content), (_digest_of(path), _digest(content))):
        replace_file(file, text)
        file.chmod(OF_A_FILE)


def _digest_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _digest(content: bytes) -> bytes:
    return f"{hashlib.sha256(content).hexdigest()}\n".encode()


def _is_out_of_others_reach(path: Path) -> bool:
    """Return whether only this user and the superuser can change what is at `path`, as ssh asks it of a key's folder.

    Raises OSError if there is nothing.
    """
    if os.name != "posix":
        return True
    real = path.resolve(strict=True)
    for above in {path, real, *path.parents, *real.parents}:
        status = above.stat()
        # In a folder such as /tmp everyone may write, but rename or remove only what is their own.
        shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
        if shared or status.st_uid not in (0, os.geteuid()):
            return False
    return True
