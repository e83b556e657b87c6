"""What a run is asked to do, and the time that recording it takes."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from digits_sweep.config.schema import Config
from digits_sweep.console import Screen
from digits_sweep.errors import CannotRecord
from digits_sweep.results.manifest import Manifest
from digits_sweep.results.run.history import EpochRow
from digits_sweep.results.run.record import Record

# Asked after every epoch with the epochs so far; a text is the reason to end the run there.
Enough = Callable[[Record, Sequence[EpochRow]], str | None]


@dataclass(frozen=True)
class Job:
    """What a run is asked to do, and where it reports to."""

    config: Config
    run_dir: Path
    manifest: Manifest | None
    enough: Enough | None
    screen: Screen


@contextmanager
def recording(record: Record) -> Iterator[None]:
    """Time what is written in the block. Raises `CannotRecord` if it cannot be written."""
    started = time.perf_counter()
    try:
        yield
    except OSError as error:
        where = error.filename2 or error.filename or "the run's folder"
        raise CannotRecord(f"{where}: {error.strerror or error}; nothing recorded before is lost") from error
    record.seconds_recording += time.perf_counter() - started
