"""Telling trackers what a sweep's folder says, as it grows."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from digits_sweep.results.files import UnreadableRecord, replace_file
from digits_sweep.results.record import read_history, read_record
from digits_sweep.trackers import start
from digits_sweep.trackers.protocol import Tracker

# In the folder of a run: what each tracker calls it, and how far it has been told.
TOLD = "trackers.json"


@dataclass
class Told:
    """What one tracker knows of one run: its name for it, how many epochs, and the status that it was closed with."""

    known_as: str | None = None
    epochs: int = 0
    ended: str | None = None


class Follower:
    """Every tracker of a sweep, and what each has been told so far.

    A tracker that raises is turned off with one line to `warn`; the others go on.
    """

    def __init__(self, sweep_dir: Path, trackers: dict[str, dict[str, str]], warn: Callable[[str], None]) -> None:
        self.sweep_dir, self.warn = sweep_dir, warn
        self.trackers: dict[str, Tracker] = {}
        self.open: set[tuple[str, Path]] = set()
        for name, settings in trackers.items():
            try:
                self.trackers[name] = start(name, settings)
            except Exception as error:
                self._off(name, error)

    def follow(self, last: bool = False) -> None:
        """Tell every tracker what is new on disk. `last`: what has not ended by now is closed as it stands."""
        for folder in sorted(path.parent for path in self.sweep_dir.glob("*/record.json")):
            for name in list(self.trackers):
                try:
                    self._tell(name, folder, last)
                except UnreadableRecord:
                    # Its row in the summary says what is wrong with it.
                    continue
                except Exception as error:
                    self._off(name, error)

    def _tell(self, name: str, folder: Path, last: bool) -> None:
        tracker, record, all_told = self.trackers[name], read_record(folder), _told(folder)
        told = all_told.get(name, Told())
        history = read_history(folder)
        if told.epochs > len(history):
            told = Told(told.known_as)
        new = history[told.epochs :]
        ended = record.status if record.status != "interrupted" or last else None
        if not record.config or (not new and ended in (None, told.ended)):
            return
        if (name, folder) not in self.open:
            told.known_as = tracker.begin(folder, record, told.known_as)
            self.open.add((name, folder))
        for row in new:
            tracker.epoch(str(told.known_as), row)
        if ended:
            tracker.end(str(told.known_as), folder, record)
            self.open.discard((name, folder))
        all_told[name] = Told(told.known_as, told.epochs + len(new), ended)
        content = {each: asdict(state) for each, state in all_told.items()}
        replace_file(folder / TOLD, json.dumps(content) + "\n")

    def _off(self, name: str, error: Exception) -> None:
        self.trackers.pop(name, None)
        reason = (str(error).splitlines() or [""])[0]
        self.warn(f"WARNING: tracker {name} is off from here: {type(error).__name__}: {reason}")


def _told(folder: Path) -> dict[str, Told]:
    try:
        content = json.loads((folder / TOLD).read_text(encoding="utf-8"))
        return {str(name): _checked(Told(**state)) for name, state in content.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        # Nothing told yet, or nothing that can be relied on: from the start, then.
        return {}


def _checked(told: Told) -> Told:
    """Raises TypeError where a file that others can write to holds something else."""
    if not isinstance(told.known_as, str | None) or not isinstance(told.ended, str | None):
        raise TypeError("known_as and ended are text")
    if not isinstance(told.epochs, int) or told.epochs < 0:
        raise TypeError("epochs is a whole number")
    return told
