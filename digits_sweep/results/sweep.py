"""A sweep on disk: what it sets out to do (`sweep.json`), the records of its runs, and the tables made of them."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from digits_sweep.config.keys import results_of, with_moved_keys
from digits_sweep.config.schema import LOSSES, TargetsConfig
from digits_sweep.config.text import safe_name
from digits_sweep.errors import NewerFormat, UnreadableRecord, as_csv
from digits_sweep.results.columns import COLUMNS, cell_of, settings_of, swept_keys
from digits_sweep.results.files import MANIFEST_BYTES, named, previous, read_json, reason_of, replace_file, run_folders
from digits_sweep.results.record import (
    EVALUATIONS_FILE,
    HISTORY_FILE,
    RECORD_FILE,
    EpochRow,
    EvaluationRow,
    Record,
    Status,
    read_evaluations,
    read_history,
    read_record,
)
from digits_sweep.results.targets import TargetRow, targets_of, write_targets

# 1: the first one. 2: `configs`. 3: `id`, `started_at` and `counter`.
MANIFEST_FORMAT = 3
MANIFEST_FILE = "sweep.json"


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
    replace_file(
        sweep_dir / MANIFEST_FILE, json.dumps({"format": MANIFEST_FORMAT, **asdict(manifest)}, indent=2) + "\n"
    )


def read_manifest(sweep_dir: Path) -> Manifest:
    """Read `sweep.json` in `sweep_dir`.

    Raises `NewerFormat` if a newer version of this program wrote it, `UnreadableRecord` if it is missing or corrupt.
    """
    # The folder is named by the user, who may do so by a link; what lies in it is not followed.
    path = sweep_dir.resolve() / MANIFEST_FILE
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
    if (written_in := content.pop("format", None)) not in (2, MANIFEST_FORMAT):
        newer = isinstance(written_in, int) and written_in > MANIFEST_FORMAT
        raise (NewerFormat if newer else UnreadableRecord)(
            f"{MANIFEST_FILE}: its format {named(written_in)} is not known here"
        )
    content["configs"] = [with_moved_keys(config) for config in content["configs"]]
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
        return (sweep_dir / MANIFEST_FILE).lstat().st_mtime_ns
    except OSError:
        return -1


def next_counter(outputs: Path) -> int:
    """Return the counter of a sweep that starts now."""
    return 1 + max((read_manifest(folder).counter for folder in sweeps_in(outputs)), default=0)


class RecordedSweep:
    """A sweep as its folder has it, every file read once.

    `manifest` is None if `sweep.json` cannot be read. `records` has the record of every run by its folder's name, in
    the sweep's order, `histories` its epochs and `evaluations` its evaluations at frozen weights. `unreadable` has the
    reason for every run that cannot be counted, `misfits` the reason for every run of which something else does not fit
    its record.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: dict[str, Record] = {}
        self.histories: dict[str, list[EpochRow]] = {}
        self.evaluations: dict[str, list[EvaluationRow]] = {}
        self.unreadable: dict[str, str] = {}
        self.misfits: dict[str, str] = {}
        self._seen: dict[str, tuple[int, int]] = {}
        self.refresh()

    def refresh(self) -> bool:
        """Read what has changed on disk since the last time; return whether anything has."""
        try:
            self.manifest: Manifest | None = read_manifest(self.folder)
        except UnreadableRecord:
            self.manifest = None
        folders, links = run_folders(self.folder)
        present = {name for name in folders if self._has_record(name)}
        gone = self._seen.keys() - present
        for name in gone:
            self._forget(name)
        changed = [name for name in present if self._signature(name) != self._seen.get(name)]
        for name in changed:
            self._read(name)
        for name in links:
            self.unreadable[name] = f"{name}: a symbolic link, which is not followed"
        self.records = dict(sorted(self.records.items(), key=lambda item: (item[1].number, item[0])))
        return bool(gone or changed)

    def _has_record(self, name: str) -> bool:
        record = self.folder / name / RECORD_FILE
        return os.path.lexists(record) or os.path.lexists(previous(record))

    def _read(self, name: str) -> None:
        signature = self._signature(name)
        self._forget(name)
        self._seen[name] = signature
        try:
            record = read_record(self.folder / name)
            self._refuse_copy(name, record)
        except UnreadableRecord as error:
            self.unreadable[name] = str(error)
            return
        self.records[name] = record
        self.histories[name], self.evaluations[name] = [], []
        try:
            self.histories[name] = read_history(self.folder / name, record.files.get(HISTORY_FILE))
        except UnreadableRecord as error:
            if record.epochs:
                self.misfits[name] = str(error)
        if signature_of := record.files.get(EVALUATIONS_FILE):
            try:
                self.evaluations[name] = read_evaluations(self.folder / name, signature_of)
            except UnreadableRecord as error:
                self.misfits[name] = str(error)

    def _refuse_copy(self, name: str, record: Record) -> None:
        """A copied folder is the same run again: it must not count as a second seed."""
        if record.folder not in (None, name):
            raise UnreadableRecord(f"a copy of {record.folder}, which is not counted again")
        if self.manifest and name not in self.manifest.runs:
            raise UnreadableRecord(f"not a run of this sweep: {MANIFEST_FILE} does not name it")

    def _forget(self, name: str) -> None:
        for known in (self._seen, self.records, self.histories, self.evaluations, self.unreadable, self.misfits):
            known.pop(name, None)

    def _signature(self, name: str) -> tuple[int, int]:
        """What changes if the record is replaced: it is always a new file."""
        try:
            stat = (self.folder / name / RECORD_FILE).lstat()
        except OSError:
            return (0, 0)
        return (stat.st_ino, stat.st_mtime_ns)


def read_sweep(folder: Path) -> RecordedSweep:
    """Read the sweep in `folder`.

    Raises `UnreadableRecord` if it holds no sweep: neither a `sweep.json` that can be read nor a run.
    """
    sweep = RecordedSweep(folder)
    if not (sweep.manifest or sweep.records or sweep.unreadable):
        raise UnreadableRecord(f"{folder}: not a sweep: it has neither a sweep.json nor a run with a record.json")
    return sweep


# What pandas raises if a value is not of its column's type.
UNFITTING = (ValueError, TypeError, OverflowError)


def load_sweep(sweep_dir: os.PathLike[str] | str) -> pd.DataFrame:
    """Return the table of a sweep, from the records in its run folders: a row a run.

    Its columns are `COLUMNS`, then one by its full name for each key that was swept and has none there, as text.
    A run that never got below the threshold has NA in `first_epoch_below_threshold`; a run whose record cannot be read
    is there as `failed`, with its folder and what is wrong. `run_dir` is relative to the sweep's folder. Raises
    `UnreadableRecord` if the folder is no sweep's.
    """
    return table_of(read_sweep(Path(sweep_dir)))


def table_of(sweep: RecordedSweep) -> pd.DataFrame:
    """Return the table of a sweep that has been read, as `load_sweep` does."""
    # A completed run keeps its number of epochs if the sweep grows: that is no second value.
    planned = [config for config in sweep.manifest.configs if config] if sweep.manifest else []
    swept = swept_keys(planned or [record.config for record in sweep.records.values()])
    rows = [_row(name, record, swept, sweep.misfits.get(name)) for name, record in sweep.records.items()]
    rows += [_unreadable(name, why) for name, why in sorted(sweep.unreadable.items())]
    try:
        return _table(rows, swept)
    except UNFITTING:
        return _table([_fitting(row) for row in rows], swept)


def _table(rows: list[dict[str, Any]], swept: Sequence[str] = ()) -> pd.DataFrame:
    types = {column.name: column.dtype for column in COLUMNS} | dict.fromkeys(swept, "string")
    # A whole number beyond 64 bits is refused by pandas; NumPy's warning before that helps nobody.
    with np.errstate(invalid="ignore"):
        return pd.DataFrame(rows, columns=list(types)).astype(types)


def load_history(sweep_dir: os.PathLike[str] | str) -> pd.DataFrame:
    """Return every epoch of every run of a sweep: `run_dir` and the columns of `history.csv`, in the table's order.

    A run whose history cannot be read has no row.
    """
    return history_of(read_sweep(Path(sweep_dir)))


def history_of(sweep: RecordedSweep) -> pd.DataFrame:
    """Return the epochs of a sweep that has been read, as `load_history` does."""
    rows = [{"run_dir": name, **asdict(row)} for name in sweep.records for row in sweep.histories[name]]
    types = {each.name: each.type for each in fields(EpochRow)}
    return pd.DataFrame(rows, columns=["run_dir", *types]).astype(types)


def _row(name: str, record: Record, swept: Sequence[str], misfit: str | None) -> dict[str, Any]:
    """Return a run's cells: what its record has, the keys that were swept, and what is known of the record itself."""
    config = results_of(record.config)
    return {
        **settings_of(record),
        **record.summary,
        **{key: cell_of(config, key) for key in swept},
        "status": str(record.status),
        "run_dir": name,
        "resumes": len(record.resumed_after),
        "error": "; ".join(filter(None, [record.error_line, misfit])) or None,
    }


def _fitting(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row, or if a cell is not of its column's type the row that says so."""
    try:
        _table([row])
    except UNFITTING as error:
        return _unreadable(row["run_dir"], f"record.json: {error}")
    return row


def _unreadable(name: str, why: str) -> dict[str, Any]:
    return {"status": str(Status.FAILED), "run_dir": name, "error": why.splitlines()[0]}


def publish_summary(sweep: RecordedSweep, outputs: Path) -> bool:
    """Rebuild the sweep's own `summary.csv` and `targets.csv`, and `outputs/summary.csv` if it is the newest there.

    Return whether it is. `run_dir` is relative to the folder of the table. Raises OSError if one of the two cannot be
    written.
    """
    table = table_of(sweep)
    _write(sweep.folder / "summary.csv", table)
    if targets := targets_in(sweep):
        write_targets(sweep.folder, targets)
    sweeps = sweeps_in(outputs)
    if not sweeps or sweeps[-1].resolve() != sweep.folder.resolve():
        return False
    folders = pd.array([_relative(sweep.folder / name, outputs) for name in table["run_dir"]], dtype="string")
    _write(outputs / "summary.csv", table.assign(run_dir=folders))
    return True


def targets_in(sweep: RecordedSweep) -> list[TargetRow]:
    """Return a row for every target of every run that is evaluated, reached or not."""
    found: list[TargetRow] = []
    for name, record in sweep.records.items():
        if name in sweep.evaluations and record.files.get(EVALUATIONS_FILE):
            found += targets_of(name, _targets_asked(record), sweep.evaluations[name])
    return found


def _targets_asked(record: Record) -> dict[str, list[float]]:
    """Return the thresholds in a record's configuration; what is no list of numbers above 0 is none."""
    keys = results_of(record.config)
    asked = {each.name: keys.get(f"evaluation.targets.{each.name}") for each in fields(TargetsConfig)}
    return {name: list(values or ()) for name, values in asked.items() if _are_thresholds(values)}


def _are_thresholds(values: Any) -> bool:
    numbers = isinstance(values, list) and all(type(each) in (int, float) for each in values)
    return numbers and bool(LOSSES.holds(values))


def _write(path: Path, table: pd.DataFrame) -> None:
    replace_file(path, as_csv(table), durable=False)


def _relative(folder: Path, start: Path) -> str:
    folder, start = folder.resolve(), start.resolve()
    return folder.relative_to(start).as_posix() if folder.is_relative_to(start) else folder.as_posix()
