"""One folder, one process that writes in it; and how many of them write beside one another."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

from digits_sweep.errors import FolderInUse
from digits_sweep.results.files import replace_file

# A worker of a killed process may outlive it for some seconds, and holds its lock as long.
PATIENCE_SECONDS = 15.0


@dataclass(frozen=True)
class Owner:
    """The process that writes in a folder: `owner.json` there, for people and for messages."""

    pid: int
    host: str
    since: str

    def is_gone(self) -> bool:
        """Whether this process has surely ended: only of this machine's own can that be known."""
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False


@contextmanager
def only_writer(folder: Path, waits: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold `folder` for this process while the block runs.

    The lock is the operating system's, which takes it back from a process that ends in whatever way; an `owner.json`
    that is still there is then nobody's. Where another process holds it, `waits` is told and that process waited for;
    without `waits`, `FolderInUse` is raised. Raises OSError where the folder cannot be written.
    """
    lock, owner_file = FileLock(folder / ".lock"), folder / "owner.json"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _acquire_from(lock, folder, _owner(owner_file), waits)
    try:
        since = datetime.now(timezone.utc).isoformat(timespec="seconds")
        replace_file(owner_file, json.dumps(asdict(Owner(os.getpid(), socket.gethostname(), since))) + "\n")
        yield
    finally:
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


def writers_in(sweep_dir: Path) -> int:
    """How many processes of this machine hold a run's folder in `sweep_dir` just now."""
    owners = [_owner(path) for path in sweep_dir.glob("*/owner.json")]
    return sum(each is not None and each.host == socket.gethostname() and not each.is_gone() for each in owners)


def _owner(path: Path) -> Owner | None:
    try:
        owner = Owner(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return owner if isinstance(owner.pid, int) and 0 < owner.pid < 2**31 else None
