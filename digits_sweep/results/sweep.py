"""A sweep on disk: what it sets out to do (`sweep.json`), the records of its runs, and the tables made of them."""

import math
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from digits_sweep.config.keys import SETTING, results_of, value_of, with_moved_keys
from digits_sweep.config.text import expand_home, safe_name
from digits_sweep.errors import InvalidConfig, UnreadableRecord, reason_of
from digits_sweep.results.columns import COLUMNS, cell_of, swept_keys
from digits_sweep.results.files import (
    MANIFEST_BYTES,
    as_json,
    by_start,
    check_format,
    decode_json,
    newest_own,
    previous,
    read_file,
    read_json,
    run_folders,
    write_json,
    write_table,
)
from digits_sweep.results.record import (
    EVALUATIONS_FILE,
    FORMAT,
    HISTORY_FILE,
    MEASURES_FILE,
    MOST_ROWS,
    RECORD_FILE,
    ROW_BYTES,
    Count,
    EpochRow,
    Record,
    Status,
)
from digits_sweep.results.run import RecordedRun, read_run
from digits_sweep.results.targets import DIRECTIONS, TARGETS_FILE, TargetRow, targets_of, targets_table, unknown_targets

MANIFEST_FILE = "sweep.json"
# How much memory the runs of a sweep may take in all: a million rows. Parsed, a record takes some four times its file.
MOST_BYTES, RECORD_FACTOR = ROW_BYTES * MOST_ROWS, 4
# What pandas raises if a value is not of its column's type.
UNFITTING = (ValueError, TypeError, OverflowError)


@dataclass(frozen=True)
class DatasetChoice:
    """The data set for runs that ask for `requested`, the digest of its content, and why it is another one if so."""

    requested: str
    used: str
    digest: str
    note: str | None


@dataclass(frozen=True)
class Manifest:
    """What a sweep sets out to do.

    `command` as typed; the folder of every run, in order; what each data set was resolved to. `id` is the sweep's own,
    `started_at` its start in UTC, and `counter` one more than that of the sweeps that were there before.
    """

    command: list[str]
    runs: list[str]
    datasets: list[DatasetChoice]
    id: str = ""
    started_at: str = ""
    counter: Count = 0
    format: int = FORMAT

    def with_runs(self, command: list[str], runs: list[str], datasets: list[DatasetChoice]) -> "Manifest":
        """Return what the same sweep sets out to do now."""
        return replace(
            self, command=command, runs=runs, datasets=datasets, id=self.id or secrets.token_hex(8), format=FORMAT
        )

    def dataset(self, requested: str) -> DatasetChoice:
        """Return the data set for runs that ask for `requested`. Raises KeyError if the sweep has none."""
        for choice in self.datasets:
            if choice.requested == requested:
                return choice
        raise KeyError(requested)


def new_manifest(counter: int = 0) -> Manifest:
    """Return the manifest of a sweep that starts now, without a run so far."""
    return Manifest(
        [], [], [], id=secrets.token_hex(8), started_at=datetime.now(timezone.utc).isoformat(), counter=counter
    )


def write_manifest(sweep_dir: Path, manifest: Manifest) -> None:
    """Write `sweep.json`. Raises OSError if it cannot be written."""
    write_json(sweep_dir / MANIFEST_FILE, manifest)


def check_size(command: Sequence[str], runs: Sequence[str]) -> None:
    """Raise `InvalidConfig` if the `sweep.json` of these runs would be too large to be read back."""
    size = len(as_json(new_manifest().with_runs(list(command), list(runs), [])))
    if size > MANIFEST_BYTES:
        most = f"{MANIFEST_BYTES:,} that are read of one; make several sweeps"
        raise InvalidConfig(f"{len(runs):,} runs: {MANIFEST_FILE} would have {size:,} bytes, more than the {most}")


def read_manifest(sweep_dir: Path) -> Manifest:
    """Read `sweep.json` in `sweep_dir`.

    Raises `NewerFormat` if a newer version of this program wrote it, `UnreadableRecord` if it is missing or corrupt.
    """
    # The folder is named by the user, who may do so by a link; what lies in it is not followed.
    path = sweep_dir.resolve() / MANIFEST_FILE
    try:
        found = path.lstat()
        return _manifest(path, found.st_mtime_ns, found.st_size)
    except UnreadableRecord as error:
        raise type(error)(f"{sweep_dir}: {error}") from error
    except (OSError, ValueError) as error:
        raise UnreadableRecord(f"{path}: no manifest of a sweep ({reason_of(error)})") from error


@lru_cache(maxsize=1_024)
def _manifest(path: Path, modified: int, size: int) -> Manifest:
    """Every run of a sweep asks for the manifest: it is parsed once as long as the file stays what it is."""
    content = read_file(path, MANIFEST_BYTES)
    known = decode_json(content, dict[str, Any], MANIFEST_FILE).get("format")
    if known != 3:
        check_format(MANIFEST_FILE, known, FORMAT)
    manifest = decode_json(content, Manifest, MANIFEST_FILE)
    if len(set(manifest.runs)) < len(manifest.runs):
        raise ValueError("it has a run twice")
    if unsafe := next((folder for folder in manifest.runs if safe_name(folder) != folder), None):
        raise ValueError(f"{unsafe!r} is not the name of a run's folder")
    return manifest


def configs_of_format_3(sweep_dir: Path) -> dict[str, dict[str, Any]]:
    """Return the configurations that `sweep.json` held, by the folder of the run; now each is in the run's record."""

    @dataclass
    class Configs:
        runs: list[str]
        configs: list[dict[str, Any]] | None = None

    found = read_json(sweep_dir / MANIFEST_FILE, MANIFEST_BYTES, Configs)
    return dict(zip(found.runs, map(with_moved_keys, found.configs or []), strict=False))


def sweeps_in(outputs: Path) -> list[Path]:
    """Return the folders of the sweeps in `outputs`, oldest first."""
    return by_start(outputs / "sweeps", read_manifest)


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


def newest_own_sweep(outputs: Path) -> Path:
    """Return the folder of the sweep that this user has started last: others may use the same `outputs`.

    Raises what `newest_sweep` does, and FileNotFoundError, with the owner of the newest one, if none is this user's.
    """
    newest_sweep(outputs)
    return newest_own(sweeps_in(outputs), MANIFEST_FILE, "sweep")


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

    `manifest` is None if `sweep.json` cannot be read. `runs` has every run that has started, by the name of its folder
    and in the sweep's order; `planned` the records of those that have not. `unreadable` has the reason for every run
    that cannot be counted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs: dict[str, RecordedRun] = {}
        self.planned: dict[str, Record] = {}
        self.unreadable: dict[str, str] = {}
        self._seen: dict[str, tuple[int, ...]] = {}
        # The memory that every run takes, and all of them.
        self._bytes_of: dict[str, int] = {}
        self._bytes = 0
        # While runs train, a thread keeps the tables up to date.
        self._refreshing = threading.Lock()
        self.refresh()

    def refresh(self) -> bool:
        """Read what has changed on disk since the last time; return whether anything has."""
        with self._refreshing:
            return self._refresh()

    def _refresh(self) -> bool:
        try:
            self.manifest: Manifest | None = read_manifest(self.folder)
        except UnreadableRecord:
            self.manifest = None
        folders, links = run_folders(self.folder)
        present = {name: signature for name in folders if (signature := self._signature(name))}
        gone = self._seen.keys() - present
        for name in gone:
            self._forget(name)
        changed = [name for name, signature in present.items() if signature != self._seen.get(name)]
        for name in changed:
            self._read(name, present[name])
        for name in links:
            self.unreadable[name] = f"{name}: a symbolic link, which is not followed"
        if changed:
            self.runs = dict(sorted(self.runs.items(), key=lambda item: (item[1].record.number, item[0])))
        return bool(gone or changed)

    def config_of(self, name: str) -> dict[str, Any] | None:
        """Return the recorded configuration of a run, whether it has started or not; None if it cannot be read."""
        if name in self.runs:
            return self.runs[name].record.config
        return self.planned[name].config if name in self.planned else None

    def _read(self, name: str, signature: tuple[int, ...]) -> None:
        self._forget(name)
        self._seen[name] = signature
        try:
            run = self._read_run(name, signature)
            self._refuse_copy(run)
        except UnreadableRecord as error:
            self.unreadable[name] = str(error)
            return
        if run.record.status is Status.PLANNED:
            self.planned[name] = run.record
        else:
            self.runs[name] = run

    def _read_run(self, name: str, signature: tuple[int, ...]) -> RecordedRun:
        """Read a run within what the others leave of the memory that a sweep may take."""
        left = (MOST_BYTES - self._bytes) // ROW_BYTES
        if left <= 0:
            raise UnreadableRecord(f"{name}: the runs before it take the {MOST_BYTES:,} bytes that are read of a sweep")
        run = read_run(self.folder / name, left)
        of_rows = ROW_BYTES * (len(run.history) + len(run.evaluations) + len(run.measures))
        self._bytes_of[name] = of_rows + RECORD_FACTOR * sum(signature[3:4])
        self._bytes += self._bytes_of[name]
        return run

    def _refuse_copy(self, run: RecordedRun) -> None:
        """A copied folder is the same run again: it must not count as a second seed."""
        if run.record.folder not in (None, run.name):
            raise UnreadableRecord(f"a copy of {run.record.folder}, which is not counted again")
        if self.manifest and run.name not in self.manifest.runs:
            raise UnreadableRecord(f"not a run of this sweep: {MANIFEST_FILE} does not name it")

    def _forget(self, name: str) -> None:
        self._bytes -= self._bytes_of.pop(name, 0)
        for known in (self._seen, self.runs, self.planned, self.unreadable):
            known.pop(name, None)

    def _signature(self, name: str) -> tuple[int, ...]:
        """What changes if the record is replaced, which is always a new file, or an epoch appended; () if no record."""
        record = self.folder / name / RECORD_FILE
        if not os.path.lexists(record) and not os.path.lexists(previous(record)):
            return ()
        parts: list[int] = [0]
        for path in (record, *map(record.with_name, (HISTORY_FILE, EVALUATIONS_FILE, MEASURES_FILE))):
            try:
                found = path.lstat()
            except OSError:
                continue
            parts += [found.st_ino, found.st_mtime_ns, found.st_size]
        return tuple(parts)


def read_sweep(folder: Path) -> RecordedSweep:
    """Read the sweep in `folder`.

    Raises `UnreadableRecord` if it holds no sweep: neither a `sweep.json` that can be read nor a run.
    """
    sweep = RecordedSweep(folder)
    if not (sweep.manifest or sweep.runs or sweep.unreadable):
        raise UnreadableRecord(f"{folder}: not a sweep: it has neither a sweep.json nor a run with a record.json")
    return sweep


def load_sweep(sweep_dir: os.PathLike[str] | str) -> pd.DataFrame:
    """Return the table of a sweep, from the records in its run folders: a row a run that has started.

    Its columns are `COLUMNS`, then one by its full name for each key that was swept and has none there, as text.
    A run that never got below the threshold has NA in `first_epoch_below_threshold`; a run whose record cannot be read
    is there as `unknown`, with its folder and what is wrong. `run_dir` is relative to the sweep's folder. Raises
    `UnreadableRecord` if the folder is no sweep's.
    """
    return table_of(read_sweep(Path(expand_home(os.fspath(sweep_dir)))))


def table_of(sweep: RecordedSweep) -> pd.DataFrame:
    """Return the table of a sweep that has been read, as `load_sweep` does."""
    # A completed run keeps its number of epochs if the sweep grows: that is no second value.
    names = sweep.manifest.runs if sweep.manifest else list(sweep.runs)
    configs = [config for name in [*names, *sweep.runs] if (config := sweep.config_of(name))]
    swept = swept_keys(configs)
    rows = [_row(run, swept) for run in sweep.runs.values()]
    rows += [_unknown(name, why) for name, why in sorted(sweep.unreadable.items())]
    try:
        return _table(rows, swept)
    except UNFITTING:
        return _table([_fitting(row) for row in rows], swept)


def _row(run: RecordedRun, swept: Sequence[str]) -> dict[str, Any]:
    """Return a run's cells: those that every table has, and the keys that were swept."""
    config = results_of(run.record.config)
    return run.row | {key: cell_of(config, key) for key in swept}


def _fitting(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row, or if a cell is not of its column's type the row that says so."""
    try:
        _table([row])
    except UNFITTING as error:
        return _unknown(row["run_dir"], f"{RECORD_FILE}: {error}")
    return row


def _unknown(name: str, why: str) -> dict[str, Any]:
    return {"status": str(Status.UNKNOWN), "run_dir": name, "error": why.splitlines()[0]}


def _table(rows: list[dict[str, Any]], swept: Sequence[str] = ()) -> pd.DataFrame:
    types = {column.name: column.dtype for column in COLUMNS} | dict.fromkeys(swept, "string")
    # A whole number beyond 64 bits is refused by pandas; NumPy's warning before that helps nobody.
    with np.errstate(invalid="ignore"):
        return pd.DataFrame(rows, columns=list(types)).astype(types)


def load_history(sweep_dir: os.PathLike[str] | str) -> pd.DataFrame:
    """Return every epoch of every run of a sweep: `run_dir` and the columns of `history.csv`, in the table's order.

    A run whose history cannot be read has no row.
    """
    return history_of(read_sweep(Path(expand_home(os.fspath(sweep_dir)))))


def history_of(sweep: RecordedSweep) -> pd.DataFrame:
    """Return the epochs of a sweep that has been read, as `load_history` does."""
    rows = [{"run_dir": run.name, **asdict(row)} for run in sweep.runs.values() for row in run.history]
    types = {"epoch": int, "complete": bool, "iterations": int, "examples": int}
    names = [each.name for each in fields(EpochRow)]
    return pd.DataFrame(rows, columns=["run_dir", *names]).astype({name: types.get(name, float) for name in names})


def publish_summary(sweep: RecordedSweep, outputs: Path) -> bool:
    """Rebuild the sweep's own `summary.csv` and `targets.csv`, and `outputs/summary.csv` if it is the newest there.

    Return whether it is. `run_dir` is relative to the folder of the table. Raises OSError if one of the two cannot be
    written.
    """
    table = table_of(sweep)
    write_table(sweep.folder / "summary.csv", table)
    if targets := list(targets_in(sweep)):
        write_table(sweep.folder / TARGETS_FILE, targets_table(targets))
    sweeps = sweeps_in(outputs)
    if not sweeps or sweeps[-1].resolve() != sweep.folder.resolve():
        return False
    folders = pd.array([_relative(sweep.folder / name, outputs) for name in table["run_dir"]], dtype="string")
    write_table(outputs / "summary.csv", table.assign(run_dir=folders))
    return True


def targets_in(sweep: RecordedSweep) -> Iterator[TargetRow]:
    """Yield a row for every target of every run that is evaluated: reached, not reached, or unknown."""
    of_any: dict[str, list[float]] = {}
    directions_of_any: dict[str, str] = {}
    for run in sweep.runs.values():
        targets, directions = _targets_of(run.record)
        if run.misfits.keys() & {EVALUATIONS_FILE, MEASURES_FILE}:
            yield from unknown_targets(run.name, targets, directions)
        elif run.evaluations:
            on_balance = bool(value_of(run.record.config, "evaluation.on_balance"))
            yield from targets_of(run.name, targets, run.evaluations, directions, run.measures, on_balance)
        else:
            continue
        directions_of_any |= directions
        for name, values in targets.items():
            of_any[name] = list(dict.fromkeys([*of_any.get(name, []), *values]))
    for name in sorted(sweep.unreadable):
        yield from unknown_targets(name, of_any, directions_of_any)


def _targets_of(record: Record) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Return the thresholds in a record's configuration, and the directions of those that are not to be below.

    What is no list of finite numbers is no target.
    """
    evaluation = record.config.get("evaluation")
    parts = [evaluation.get(name) if isinstance(evaluation, dict) else None for name in ("targets", "directions")]
    targets, directions = (part if isinstance(part, dict) else {} for part in parts)
    known = {name: values for name, values in targets.items() if SETTING.fullmatch(name) and _are_thresholds(values)}
    return known, {name: way for name, way in directions.items() if name in known and way in DIRECTIONS}


def _are_thresholds(values: Any) -> bool:
    numbers = isinstance(values, list) and all(type(each) in (int, float) for each in values)
    return numbers and all(map(math.isfinite, values))


def _relative(folder: Path, start: Path) -> str:
    folder, start = folder.resolve(), start.resolve()
    return folder.relative_to(start).as_posix() if folder.is_relative_to(start) else folder.as_posix()
