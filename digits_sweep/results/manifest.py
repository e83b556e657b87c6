"""What a sweep sets out to do: `sweep.json` in its folder, and which sweep of several is the newest."""

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from digits_sweep.errors import NewerFormat, UnreadableRecord
from digits_sweep.results.disk.files import replace_file, safe_name
from digits_sweep.results.disk.reading import MANIFEST_BYTES, named, read_json, reason_of, run_folders

# 1: the first one. 2: `configs`. 3: `id`, `started_at` and `counter`.
FORMAT = 3
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
    """What a sweep sets out to do.

    `command` as typed; folder and configuration of every run, in order; what each data set was resolved to. `id` is the
    sweep's own, `started_at` its start in UTC, and `counter` one more than that of the sweeps that were there before.
    """

    command: list[str]
    runs: list[str]
    configs: list[dict[str, Any]]
    datasets: list[DatasetChoice]
    id: str = ""
    started_at: str = ""
    counter: int = 0

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
    """Read `sweep.json` in `sweep_dir`.

    Raises `NewerFormat` if a newer version of this program wrote it, `UnreadableRecord` if it is missing or corrupt.
    """
    # The folder is named by the user, who may do so by a link; what lies in it is not followed.
    path = sweep_dir.resolve() / NAME
    try:
        stat = path.lstat()
        return _manifest(path, stat.st_mtime_ns, stat.st_size)
    except UnreadableRecord as error:
        raise type(error)(f"{sweep_dir}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableRecord(f"{path}: no manifest of a sweep ({reason_of(error)})") from error


@lru_cache(maxsize=1_024)
def _manifest(path: Path, modified: int, size: int) -> Manifest:
    """Every run of a sweep asks for the manifest: it is parsed once as long as the file stays what it is."""
    content = read_json(path, MANIFEST_BYTES)
    if (written_in := content.pop("format", None)) not in (2, FORMAT):
        newer = isinstance(written_in, int) and written_in > FORMAT
        raise (NewerFormat if newer else UnreadableRecord)(f"{NAME}: its format {named(written_in)} is not known here")
    content["datasets"] = [DatasetChoice(**choice) for choice in content["datasets"]]
    manifest = Manifest(**content)
    for texts in (manifest.command, manifest.runs, [manifest.id, manifest.started_at]):
        _check(texts, str)
    _check(manifest.configs, dict)
    if type(manifest.counter) is not int or abs(manifest.counter) >= 2**63:
        raise ValueError("its counter is no whole number")
    if len(set(manifest.runs)) < len(manifest.runs):
        raise ValueError("it has a run twice")
    if len(manifest.configs) != len(manifest.runs):
        raise ValueError("not as many configurations as runs")
    if unsafe := next((folder for folder in manifest.runs if safe_name(folder) != folder), None):
        raise ValueError(f"{unsafe!r} is not the name of a run's folder")
    for choice in manifest.datasets:
        _check([choice.used, choice.digest, choice.requested, choice.note or ""], str)
    return manifest


def _check(values: Any, kind: type) -> None:
    for value in values:
        if not isinstance(value, kind):
            raise TypeError(f"{value!r} is not what belongs there")


def sweeps_in(outputs: Path) -> list[Path]:
    """Return the folders of the sweeps in `outputs`, the one that was started first first.

    They are ordered by the counter in `sweep.json`, then by their start in UTC: the name of a folder and the clock of a
    machine may be changed. Sweeps of format 2 have neither, and come first by name.
    """
    folder = outputs / "sweeps"
    found = []
    for name in run_folders(folder)[0]:
        try:
            manifest = read_manifest(folder / name)
        except UnreadableRecord:
            continue
        found.append((manifest.counter, manifest.started_at, name))
    return [folder / name for _, _, name in sorted(found)]


def newest_sweep(outputs: Path) -> Path:
    """Return the folder of the sweep that was started last.

    Raises FileNotFoundError if there is none, and `UnreadableRecord` if a `sweep.json` that was written after it cannot
    be read: that may be the newest.
    """
    sweeps, folder = sweeps_in(outputs), outputs / "sweeps"
    written = {name: _written_at(folder / name) for name in run_folders(folder)[0]}
    last = written[sweeps[-1].name] if sweeps else -1
    for name in written.keys() - {sweep.name for sweep in sweeps}:
        if written[name] > last:
            read_manifest(folder / name)
    if not sweeps:
        raise FileNotFoundError(f"{folder}: no sweep here yet; run python -m digits_sweep -m first")
    return sweeps[-1]


def _written_at(sweep_dir: Path) -> int:
    """When `sweep.json` was written, in nanoseconds; -1 if there is none."""
    try:
        return (sweep_dir / NAME).lstat().st_mtime_ns
    except OSError:
        return -1


def next_counter(outputs: Path) -> int:
    """Return the counter of a sweep that starts now."""
    return 1 + max((read_manifest(folder).counter for folder in sweeps_in(outputs)), default=0)
