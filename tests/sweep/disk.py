"""A disk that is made of the recorded changes of a run: as a killed process leaves it, or a power cut."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from math import prod
from pathlib import Path
from typing import Any
from unittest import mock

from digits_sweep.results import changes as disk_changes

CHANGES = ("make_folder", "write", "append", "overwrite", "shorten", "link", "rename", "remove", "flush")


@dataclass(frozen=True)
class Change:
    """One call of a function by which the program changes the disk."""

    name: str
    arguments: tuple[Any, ...]


@contextmanager
def recorded_changes() -> Iterator[list[Change]]:
    """All changes that the program makes in the block, in their order."""
    changes: list[Change] = []

    def recording(name: str) -> Any:
        really = getattr(disk_changes, name)

        def change(*arguments: Any) -> Any:
            changes.append(Change(name, arguments))
            return really(*arguments)

        return mock.patch.object(disk_changes, name, change)

    patches = [recording(name) for name in (*CHANGES, "flush_folder")]
    for each in patches:
        each.start()
    try:
        yield changes
    finally:
        for each in patches:
            each.stop()


@dataclass(eq=False)
class File:
    """A file's content, and what of it is on the disk for sure."""

    content: bytes = b""
    flushed: bytes = b""

    @property
    def zeros(self) -> bytes:
        """What is left if the file system has flushed the new length, and not the new data."""
        return self.flushed + bytes(max(0, len(self.content) - len(self.flushed)))


@dataclass
class Disk:
    """Names and files; `flushed` are the names that are on the disk for sure."""

    names: dict[Path, File] = field(default_factory=dict)
    flushed: dict[Path, File] = field(default_factory=dict)

    def change(self, change: Change, part: float = 1.0) -> None:
        """Apply a change; of one that writes, only the first `part` of its bytes."""
        path, *rest = change.arguments
        match change.name:
            case "write":
                self.names[path] = File(rest[0][: int(part * len(rest[0]))])
            case "append":
                self.names.setdefault(path, File()).content += rest[0][: int(part * len(rest[0]))]
            case "overwrite":
                # A sector is written as a whole or not at all.
                file = self.names[path]
                file.content = (rest[0] if part == 1 else file.content[: len(rest[0])]) + file.content[len(rest[0]) :]
            case "shorten":
                self.names[path].content = self.names[path].content[: rest[0]]
            case "link":
                self.names[rest[0]] = self.names[path]
            case "rename":
                self.names[rest[0]] = self.names.pop(path)
            case "remove":
                self.names.pop(path, None)
            case "flush":
                self.names[path].flushed = self.names[path].content
            case "flush_folder":
                self.flushed = {name: file for name, file in self.flushed.items() if name.parent != path}
                self.flushed |= {name: file for name, file in self.names.items() if name.parent == path}

    def after_power_cuts(self, most: int, chance: random.Random) -> list[dict[Path, bytes]]:
        """What a power cut may leave: of everything that was not flushed each subset, or `most` of them by chance.

        A name is there as before or as after its change, and a file has what was flushed, all of it, or zeros in place
        of the rest; so a new name may be there without the data.
        """
        paths = sorted({*self.names, *self.flushed})
        names = [_different([self.flushed.get(path), self.names.get(path)]) for path in paths]
        files = {id(file): file for several in names for file in several if file}
        choices = [*names, *(_different([file.flushed, file.content, file.zeros]) for file in files.values())]
        if prod(map(len, choices)) <= most:
            combinations = list(product(*choices))
        else:
            combinations = [tuple(map(chance.choice, choices)) for _ in range(most)]
        found = []
        for chosen in combinations:
            contents = dict(zip(files, chosen[len(paths) :], strict=True))
            present = ((path, file) for path, file in zip(paths, chosen, strict=False) if file)
            found.append({path: contents[id(file)] for path, file in present})
        return found


def _different(values: list[Any]) -> list[Any]:
    return [value for number, value in enumerate(values) if value not in values[:number]]


def write_files(contents: dict[Path, bytes], folder: Path, root: Path) -> None:
    """Make files below `root` real ones in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in contents.items():
        real = folder / path.relative_to(root)
        real.parent.mkdir(parents=True, exist_ok=True)
        real.write_bytes(content)


def disk_after(changes: list[Change], count: int, part: float = 1.0) -> Disk:
    """The disk after the first `count` changes and a `part` of the next one, if it writes."""
    disk = Disk()
    for change in changes[:count]:
        disk.change(change)
    if part < 1 and count < len(changes) and changes[count].name in ("write", "append", "overwrite"):
        disk.change(changes[count], part)
    return disk
