"""`python -m benchmarks.many_runs [RUNS]`: what a sweep of very many runs takes that trains none of them.

Plans it, writes the records of its runs before they start, writes them again as a cluster's jobs would leave them, and
builds the table: with all that is new, and with a hundred runs that are.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from digits_sweep.config.plan import plan
from digits_sweep.results.lock import writers_in
from digits_sweep.results.record import (
    HISTORY_FILE,
    EpochRow,
    Status,
    header_of,
    read_record,
    rows_as_csv,
    write_record,
)
from digits_sweep.results.sweep import RecordedSweep, publish_summary, read_manifest
from digits_sweep.shell import Screen
from digits_sweep.sweep import preflight, session

EPOCHS = 30


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long the block took by the clock and on the processor, in seconds."""
    started, before = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - started, time.process_time() - before
    print(f"{what:55} {wall:8.2f} s  ({cpu:.2f} s of a core)", flush=True)


def end(folder: Path) -> None:
    """Leave a run as its job does that has trained to the end."""
    rows = [EpochRow(n, 2.0 / n, 0.1, 0.01, 1e5, True, n * 10, n * 1_000) for n in range(1, EPOCHS + 1)]
    (folder / HISTORY_FILE).write_bytes(header_of(EpochRow) + rows_as_csv(rows))
    started_at = datetime.now(timezone.utc).isoformat()
    record = replace(read_record(folder), status=Status.COMPLETED, train_samples=1_000, started_at=started_at)
    write_record(folder, record)


def measure(count: int, outputs: Path) -> None:
    """Print what each step takes for `count` runs."""
    typed = ["-m", f"seed=range(0,{count // 5})", "data.batch_size=5,20,100,300,500", "data=mnist_sample"]
    with timed("plan, and a row for every run (dry_run=true)"):
        planned = plan([*typed, f"max_runs={count}", f"outputs={outputs}", "num_threads=1", "engine=native"])
        preflight.check(planned)
        preflight.preview(planned, None)
    with timed("sweep.json and the records before the first run starts"):
        opened = session.opened(planned, None, Screen(quiet=True))
        sweep = opened.__enter__()
    folders = [sweep.folder / run.folder for run in planned.runs]
    with timed("a job reads its record and sweep.json"):
        read_record(folders[-1])
        read_manifest(sweep.folder)
    with timed("a run counts those beside it"):
        writers_in(sweep.folder)
    for folder in folders:
        end(folder)
    with timed("the table, all runs new"):
        sweep.refresh()
        publish_summary(sweep, outputs)
    for folder in folders[:100]:
        end(folder)
    with timed("the table, 100 runs new"):
        sweep.refresh()
        publish_summary(sweep, outputs)
    with timed("status: the sweep is read from its folder"):
        RecordedSweep(sweep.folder)
    opened.__exit__(None, None, None)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        measure(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000, Path(folder))
