"""A file that only grows, and is cut back to what was committed: its size and its digest say what belongs to a run."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from digits_sweep.errors import UnreadableRecord
from digits_sweep.results.disk.files import append_to_file, latest_readable, replace_file, shorten_file
from digits_sweep.results.disk.reading import HISTORY_BYTES, read_file

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
