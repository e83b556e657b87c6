"""One sweep on disk: `sweep.json`, which says what it sets out to do, and the records of its runs."""

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from digits_sweep.errors import UnreadableRecord
from digits_sweep.results.files import replace_file
from digits_sweep.results.record import Record, read_record

# 1: the first one. 2: `configs`.
FORMAT = 2
NAME = "sweep.json"


@dataclass(frozen=True)
class DatasetChoice:
    """The data set that runs use which ask for `requested`, the digest of its content, and why it differs, if so."""

    requested: str
    used: str
    digest: str
    note: str | None


@dataclass(frozen=True)
class Manifest:
    """`command` as typed; folder and configuration of every run, in order; what each data set was resolved to."""

    command: list[str]
    runs: list[str]
    configs: list[dict[str, Any]]
    datasets: list[DatasetChoice]

    def dataset(self, requested: str) -> DatasetChoice:
        """Return the data set for runs that ask for `requested`. Raises KeyError if the sweep has none."""
        for choice in self.datasets:
            if choice.requested == requested:
                return choice
        raise KeyError(requested)

    def number_of(self, folder: str) -> int:
        """Return the place of a run in the sweep, from 0. Raises ValueError if it is no run of the sweep."""
        return self.runs.index(folder)


def write_manifest(sweep_dir: Path, manifest: Manifest) -> None:
    """Write `sweep.json`. Raises OSError if it cannot be written."""
    replace_file(sweep_dir / NAME, json.dumps({"format": FORMAT, **asdict(manifest)}, indent=2) + "\n")


def read_manifest(sweep_dir: Path) -> Manifest:
    """Read `sweep.json` in `sweep_dir`. Raises `UnreadableRecord` if it is missing, corrupt or of another format."""
    path = sweep_dir / NAME
    try:
        stat = path.stat()
        return _manifest(path, stat.st_mtime_ns, stat.st_size)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnreadableRecord(f"{path}: no manifest of a sweep ({error})") from error


@lru_cache(maxsize=8)
def _manifest(path: Path, modified: int, size: int) -> Manifest:
    """Every run of a sweep asks for the manifest: it is parsed once as long as the file stays what it is."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["format"] != FORMAT:
        raise ValueError(f"not of format {FORMAT}")
    manifest = Manifest(
        command=[_checked(argument, str) for argument in content["command"]],
        runs=[_checked(folder, str) for folder in content["runs"]],
        configs=[_checked(config, dict) for config in content["configs"]],
        datasets=[DatasetChoice(**choice) for choice in content["datasets"]],
    )
    if len(manifest.configs) != len(manifest.runs):
        raise ValueError("not as many configurations as runs")
    for choice in manifest.datasets:
        _checked(choice.used, str), _checked(choice.digest, str), _checked(choice.requested, str)
    return manifest


def _checked(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is not what belongs there")
    return value


def newest_sweep(outputs: Path) -> Path:
    """Return the folder of the sweep that was started last. Raises FileNotFoundError if there is none."""
    sweeps = sorted(path.parent for path in (outputs / "sweeps").glob(f"*/{NAME}"))
    if not sweeps:
        raise FileNotFoundError(f"{outputs / 'sweeps'}: no sweep here yet; run python -m digits_sweep -m first")
    return sweeps[-1]


class RecordedSweep:
    """A sweep as its folder has it, every file read once.

    `manifest` is None if `sweep.json` cannot be read. `records` has the record of every run by its folder's name, in
    the sweep's order, and `unreadable` the reason for every run whose record cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: dict[str, Record] = {}
        self.unreadable: dict[str, str] = {}
        self._seen: dict[str, tuple[int, int]] = {}
        self.refresh()

    def refresh(self) -> bool:
        """Read what has changed on disk since the last time; return whether anything has."""
        try:
            self.manifest: Manifest | None = read_manifest(self.folder)
        except UnreadableRecord:
            self.manifest = None
        present = {path.parent.name for path in self.folder.glob("*/record.json*")}
        gone = self._seen.keys() - present
        for name in gone:
            self._forget(name)
        changed = [name for name in present if self._signature(name) != self._seen.get(name)]
        for name in changed:
            self._read(name)
        self.records = dict(sorted(self.records.items(), key=lambda item: (item[1].number, item[0])))
        return bool(gone or changed)

    def _read(self, name: str) -> None:
        signature = self._signature(name)
        self._forget(name)
        self._seen[name] = signature
        try:
            self.records[name] = read_record(self.folder / name)
        except UnreadableRecord as error:
            self.unreadable[name] = str(error)

    def _forget(self, name: str) -> None:
        for known in (self._seen, self.records, self.unreadable):
            known.pop(name, None)

    def _signature(self, name: str) -> tuple[int, int]:
        """What changes if the record is replaced: it is always a new file."""
        try:
            stat = (self.folder / name / "record.json").stat()
        except OSError:
            return (0, 0)
        return (stat.st_ino, stat.st_mtime_ns)
