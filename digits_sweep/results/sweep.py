"""One sweep on disk: the records of its runs, read once."""

import os
from pathlib import Path

from digits_sweep.errors import UnreadableRecord
from digits_sweep.results.disk.files import previous
from digits_sweep.results.disk.reading import run_folders
from digits_sweep.results.manifest import NAME, Manifest, read_manifest
from digits_sweep.results.run.evaluations import NAME as EVALUATIONS
from digits_sweep.results.run.evaluations import EvaluationRow, read_evaluations
from digits_sweep.results.run.history import NAME as HISTORY
from digits_sweep.results.run.history import EpochRow, read_history
from digits_sweep.results.run.record import NAME as RECORD
from digits_sweep.results.run.record import Record, read_record


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
        record = self.folder / name / RECORD
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
            self.histories[name] = read_history(self.folder / name, record.files.get(HISTORY))
        except UnreadableRecord as error:
            if record.epochs:
                self.misfits[name] = str(error)
        if signature_of := record.files.get(EVALUATIONS):
            try:
                self.evaluations[name] = read_evaluations(self.folder / name, signature_of)
            except UnreadableRecord as error:
                self.misfits[name] = str(error)

    def _refuse_copy(self, name: str, record: Record) -> None:
        """A copied folder is the same run again: it must not count as a second seed."""
        if record.folder not in (None, name):
            raise UnreadableRecord(f"a copy of {record.folder}, which is not counted again")
        if self.manifest and name not in self.manifest.runs:
            raise UnreadableRecord(f"not a run of this sweep: {NAME} does not name it")

    def _forget(self, name: str) -> None:
        for known in (self._seen, self.records, self.histories, self.evaluations, self.unreadable, self.misfits):
            known.pop(name, None)

    def _signature(self, name: str) -> tuple[int, int]:
        """What changes if the record is replaced: it is always a new file."""
        try:
            stat = (self.folder / name / RECORD).lstat()
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
