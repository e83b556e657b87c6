"""One writer for each folder, and how many of them write side by side."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

from digits_sweep.errors import CannotRecord, FolderInUse, UnreadableRecord
from digits_sweep.results.changes import open_own
from digits_sweep.results.files import SMALL_BYTES, read_json, write_json

# A worker of a killed process may outlive it for some seconds, and holds its lock as long.
PATIENCE_SECONDS = 15.0


@dataclass(frozen=True)
class Owner:
    """The process that writes in a folder: `owner.json` there, for people and for messages.

    `started` is when it started, in ticks since the machine did, and `boot` names that start of the machine: its number
    may belong to another process by now. A container has the same name and numbers each time that it starts.
    """

    pid: int
    host: str
    since: str
    started: int | None = None
    boot: str | None = None

    @property
    def is_here(self) -> bool:
        """Whether this process is, or was, one of this machine since it started."""
        return self.host == socket.gethostname() and self.boot in (None, _boot())

    def is_gone(self) -> bool:
        """Return whether this process has surely ended. That can only be known of a process of this machine."""
        if not self.is_here or os.name != "posix":
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return self.started is not None and self.started != _ticks_at_start(self.pid)


def this_process() -> Owner:
    """Return this process as an owner of a folder."""
    since = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Owner(os.getpid(), socket.gethostname(), since, _ticks_at_start(os.getpid()), _boot())


def _boot() -> str | None:
    """Return what names the machine's present start, as Linux says it; None if that is not known."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return None


def _ticks_at_start(pid: int) -> int | None:
    """Return when a process started, as Linux counts it; None if that is not known."""
    try:
        # The second field, the name of the program in parentheses, may contain anything.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


@contextmanager
def only_writer(folder: Path, waits: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold `folder` for this process while the block runs.

    The lock is the operating system's, which releases it however a process ends; an `owner.json` that is left behind
    is then ignored. If another process holds the folder, report it through `waits` and wait for that process. Raises
    `FolderInUse` instead if there is no `waits`, `CannotRecord` if the file system has no locks, and OSError if the
    folder cannot be written.
    """
    lock, owner_file = FileLock(folder / ".lock"), folder / "owner.json"
    try:
        # To take a lock cuts its file to nothing.
        os.close(open_own(folder / ".lock", os.O_CREAT))
        lock.acquire(timeout=0)
    except Timeout:
        _acquire_from(lock, folder, _owner(owner_file), waits)
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CannotRecord(
            f"{folder / '.lock'}: cannot be locked ({reason}); choose outputs on another disk"
        ) from error
    try:
        write_json(owner_file, this_process())
        yield
    finally:
        # What went wrong in the block is not hidden by what goes wrong here.
        with suppress(OSError):
            owner_file.unlink(missing_ok=True)
        lock.release()


def _acquire_from(lock: FileLock, folder: Path, owner: Owner | None, waits: Callable[[str], None] | None) -> None:
    with suppress(Timeout):
        lock.acquire(timeout=PATIENCE_SECONDS if owner and owner.is_gone() else 0)
        return
    who = f"process {owner.pid} on {owner.host} (since {owner.since})" if owner else "another process"
    writing = f"{folder}: {who} is writing there"
    if waits is None:
        raise FolderInUse(f"{writing}; wait until it ends, or stop it")
    waits(f"{writing}; waiting for its end")
    lock.acquire()


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold the lock `path` for this process while the block runs; wait for the process that has it.

    Raises OSError if the file cannot be made.
    """
    os.close(open_own(path, os.O_CREAT))
    with FileLock(path):
        yield


def writers_in(sweep_dir: Path) -> int:
    """Return how many processes of this machine hold the folder of a run in `sweep_dir` at the moment."""
    owners = (writer_of(path.parent) for path in sweep_dir.glob("*/owner.json"))
    return sum(owner is not None and owner.is_here for owner in owners)


def writer_of(folder: Path) -> Owner | None:
    """Return the process that writes in `folder`; None if it has ended, which another machine cannot tell."""
    owner = _owner(folder / "owner.json")
    return None if owner is None or owner.is_gone() else owner


def _owner(path: Path) -> Owner | None:
    try:
        owner = read_json(path, SMALL_BYTES, Owner)
    except UnreadableRecord:
        return None
    return owner if 0 < owner.pid < 2**31 else None
