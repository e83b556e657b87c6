"""The line that announces a wave of runs: which batch sizes, which rates, how many seeds, and about how long."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from statistics import fmean

from digits_sweep.config.keys import written
from digits_sweep.config.plan import PlannedRun
from digits_sweep.report.analysis.sentences.formatting import counted, seconds
from digits_sweep.results.run.record import NAME as RECORD
from digits_sweep.results.sweep import RecordedSweep


class Progress:
    """Counts waves, and estimates what is left from what the recorded runs took.

    `speed` is how many times faster than one after the other the runs of this command went: launchers run them side by
    side.
    """

    def __init__(self, sweep: RecordedSweep) -> None:
        self.sweep, self.speed, self.wave = sweep, 1.0, 0
        self._started, self._before = time.monotonic(), 0.0

    def announce(self, runs: Sequence[PlannedRun], later: Mapping[int, int]) -> str:
        """Return the line of a wave of `runs`; `later` counts the least runs that follow, by batch size."""
        self.wave += 1
        self._started, self._before = time.monotonic(), sum(self._took().values())
        sizes = dict.fromkeys(run.config.data.batch_size for run in runs)
        what = "; ".join(f"{size} at {_rates(size, runs)}" for size in sizes)
        return f"wave {self.wave}, batch size {what}: {counted(len(runs), 'run')}{self._how_long(runs, later)}"

    def finished(self) -> None:
        """Note that the wave has been trained."""
        wall, own = time.monotonic() - self._started, sum(self._took().values()) - self._before
        self.speed = max(1.0, own / wall) if wall > 0 else 1.0

    def _how_long(self, runs: Sequence[PlannedRun], later: Mapping[int, int]) -> str:
        took = self._took()
        if not took:
            return ""
        by_size: dict[int, list[float]] = {}
        for name, each in took.items():
            by_size.setdefault(int(self.sweep.records[name].summary.get("batch_size", 0)), []).append(each)
        overall = fmean(took.values())
        means = {size: fmean(each) for size, each in by_size.items()}
        now = sum(means.get(run.config.data.batch_size, overall) for run in runs) / self.speed
        rest = sum(count * means.get(size, overall) for size, count in later.items()) / self.speed
        return f", about {_duration(now)}; {_duration(now + rest)} or more until the end"

    def _took(self) -> dict[str, float]:
        """The seconds from the start of every recorded run to its last record; starts are recorded to the second."""
        found = {}
        for name, record in self.sweep.records.items():
            try:
                started = datetime.fromisoformat(str(record.summary.get("started_at")))
                ended = (self.sweep.folder / name / RECORD).stat().st_mtime
            except (ValueError, OSError):
                continue
            # A run that was resumed another day did not take that long.
            if not record.resumed_after:
                found[name] = max(0.0, ended - started.timestamp() - 0.5)
        return found


def _duration(value: float) -> str:
    return seconds(max(1, round(value))).replace(".0 s", " s")


def _rates(size: int, runs: Sequence[PlannedRun]) -> str:
    rates: dict[float, int] = {}
    for run in runs:
        if run.config.data.batch_size == size:
            rates[run.config.optimizer.lr] = rates.get(run.config.optimizer.lr, 0) + 1
    return ", ".join(f"lr {written(lr)} ({counted(seeds, 'seed')})" for lr, seeds in rates.items())
