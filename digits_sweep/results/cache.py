"""What took long to make and is kept in the user's cache folder: read only if it is whole and nobody else's."""

import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path

from digits_sweep.results.files import make_folder, replace_file

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
