"""A run from lines of JSON, one a line: what a shell script, or a program without Python, can write."""

import json
from collections.abc import Iterable
from typing import Any

from digits_sweep.errors import CannotRecord
from digits_sweep.recorder.recorder import Recorder

LONGEST_QUOTE = 100


def record_lines(lines: Iterable[str]) -> None:
    """Record the run that `lines` tell of, as the command's help says; it ends with them.

    Raises `CannotRecord`, with the number of the line, for what is no such line or cannot be recorded.
    """
    run: _Run | None = None
    try:
        for number, line in enumerate(lines, 1):
            if line.strip():
                run = _taken(number, line, run)
        if run is None:
            raise CannotRecord('no line on standard input; the first one is such as {"train_samples": 60000}')
    except BaseException as error:
        if run:
            run.recorder.end(error)
        raise
    run.recorder.end()


def _taken(number: int, line: str, run: "_Run | None") -> "_Run":
    """Take a line; the first one makes the recorder. Raises `CannotRecord` with its number."""
    try:
        values = json.loads(line)
        if not isinstance(values, dict) or not values:
            raise ValueError("not an object with a name for each value")
    except ValueError as error:
        raise CannotRecord(f"line {number} is no JSON ({error}): {line.strip()[:LONGEST_QUOTE]}") from error
    try:
        if run is None:
            return _Run(Recorder(values.pop("sweep", None), **values))
        run.take(values)
    except (CannotRecord, TypeError) as error:
        raise CannotRecord(f"line {number}: {error}") from error
    return run


class _Run:
    """A run as far as its lines go."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.epochs, self.steps = recorder, 0, 0
        recorder.start()
        self._start_epoch()

    def _start_epoch(self) -> None:
        self.steps, self.seconds_before = 0, self.recorder.clock.seconds
        self.recorder.start_epoch()

    def take(self, values: dict[str, Any]) -> None:
        """Take a step, an evaluation or the end of an epoch. Raises `CannotRecord`, and TypeError for unknown names."""
        if "loss" in values:
            self.recorder.step(**values)
            self.steps += 1
        elif "epoch" in values:
            self._end_epoch(**values)
        else:
            self.recorder.evaluated(**values)
            if not self.steps:
                # An epoch starts behind the evaluation that comes before it.
                self._start_epoch()

    def _end_epoch(self, epoch: int, seconds: float | None = None) -> None:
        self.epochs += 1
        if epoch != self.epochs:
            raise CannotRecord(f"epoch {epoch} ends, must be {self.epochs}: they count up from 1")
        self.recorder.clock.stop()
        if seconds is not None:
            self.recorder.clock.seconds = self.seconds_before + seconds
        self.recorder.end_epoch()
        self._start_epoch()
