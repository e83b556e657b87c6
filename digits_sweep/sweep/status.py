"""How a sweep stands, whoever runs it and wherever: run by run, and how to end what it has started."""

import os
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd

from digits_sweep.report.words import counted, seconds
from digits_sweep.results.files import is_own
from digits_sweep.results.lock import only_writer, writer_of
from digits_sweep.results.record import Record, Status
from digits_sweep.results.run import RecordedRun
from digits_sweep.results.sweep import RecordedSweep, publish_summary, read_sweep
from digits_sweep.sweep import slurm
from digits_sweep.sweep.own_command import COMMAND_LOG
from digits_sweep.sweep.packing import alike, expected

LOG = "digits_sweep.log"


@dataclass(frozen=True)
class RunStatus:
    """A run: how it stands, its finished epochs and how many there will be, about how many seconds are left, and where.

    `state` is that of its record, or `queued` or `running`. Empty is what is not known.
    """

    run: str
    state: str
    epoch: int | None = None
    epochs: int | None = None
    seconds_left: float | None = None
    job: str | None = None
    where: str | None = None
    log: str | None = None


HEADER = tuple(each.name.replace("_", " ") for each in fields(RunStatus))


def status_of(folder: os.PathLike[str] | str) -> pd.DataFrame:
    """Return how every run of the sweep in `folder` stands, as a table with the columns of `RunStatus`.

    Raises `UnreadableRecord` if the folder is no sweep's.
    """
    rows = [asdict(row) for row in statuses(read_sweep(Path(folder).expanduser()))]
    whole = {"epoch": "Int64", "epochs": "Int64", "seconds_left": "Float64"}
    return pd.DataFrame(rows, columns=[each.name for each in fields(RunStatus)]).astype(whole)


def statuses(sweep: RecordedSweep) -> list[RunStatus]:
    """Return how every run of a sweep stands, in the sweep's order."""
    names = sweep.manifest.runs if sweep.manifest else [*sweep.runs, *sweep.planned]
    jobs = slurm.read_jobs(sweep.folder)
    alive, sharing = slurm.living(jobs) or {}, Counter(job.id for job in jobs.values())
    return [
        _status(name, sweep, job, alive.get(name), job is not None and sharing[job.id] > 1)
        for name, job in ((name, jobs.get(name)) for name in names)
    ]


def _status(
    name: str, sweep: RecordedSweep, job: slurm.Job | None, queued: slurm.Queued | None, is_shared: bool
) -> RunStatus:
    folder, run = sweep.folder / name, sweep.runs.get(name)
    record = run.record if run else sweep.planned.get(name)
    if record is None:
        return RunStatus(name, str(Status.UNKNOWN), log=sweep.unreadable.get(name))
    owner = writer_of(folder)
    state, where = str(run.status if run else Status.PLANNED), None
    if queued and queued.state == "PENDING":
        state, where = "queued", queued.reason
    # Of the runs that share a job one trains, the one whose folder is held.
    elif queued and (not is_shared or run is None or run.status is Status.INTERRUPTED):
        state, where = "queued" if is_shared else "running", queued.node
    if owner:
        state, where = "running", f"{owner.host}, process {owner.pid}"
    logs = (folder / each for each in (COMMAND_LOG, LOG) if (folder / each).exists())
    done = run.epochs if run else 0
    epochs, pace = _epochs(record), run.seconds_per_epoch if run and state == "running" else None
    left = None if epochs is None or pace is None else max(0, epochs - done) * pace
    return RunStatus(name, state, done, epochs, left, job.id if job else None, where, str(next(logs, "")) or None)


def _epochs(record: Record) -> int | None:
    """Return how many epochs a run is to have; None for a command, which knows that itself."""
    epochs = (record.config.get("trainer") or {}).get("num_epochs")
    return epochs if isinstance(epochs, int) and record.config.get("command") is None else None


def cpu_hours(sweep: RecordedSweep) -> str:
    """Say how many CPU hours the epochs of a sweep have taken, and about how many are to come.

    An hour of a run counts as often as it has threads. What is left of a run is taken from runs that are alike.
    """
    of_an_epoch = expected(sweep.runs.values(), _cpu_seconds_of_an_epoch)
    used = sum(row.seconds * (run.record.num_threads or 1) for run in sweep.runs.values() for row in run.history)
    left, unknown = 0.0, 0
    unfinished = {name: run for name, run in sweep.runs.items() if run.status is Status.INTERRUPTED}
    records = {name: run.record for name, run in unfinished.items()} | sweep.planned
    for name, record in records.items():
        epochs, known = _epochs(record), of_an_epoch.get(alike(record.config))
        if epochs is None or known is None:
            unknown += 1
        else:
            done = unfinished[name].epochs if name in unfinished else 0
            left += max(0, epochs - done) * known
    so_far = f"CPU hours of epochs: {used / 3_600:.3g} so far, about {left / 3_600:.3g} to come"
    return f"{so_far}, without {counted(unknown, 'run')} of which nothing is known yet" if unknown else so_far


def _cpu_seconds_of_an_epoch(run: RecordedRun) -> float | None:
    seconds = run.seconds_per_epoch
    return None if seconds is None else seconds * (run.record.num_threads or 1)


def shown(rows: list[RunStatus]) -> Iterator[list[str]]:
    """Yield rows as text, in the order of `HEADER`."""
    for row in rows:
        left = "" if row.seconds_left is None else seconds(row.seconds_left)
        cells = asdict(row) | {"seconds_left": left}
        yield ["" if value is None else str(value) for value in cells.values()]


def refresh_tables(sweep: RecordedSweep, outputs: Path) -> None:
    """Rebuild `summary.csv`, which nobody does once the process that launched a sweep has ended.

    Raises `FolderInUse` if that process still does it, OSError if it cannot be written.
    """
    with only_writer(sweep.folder):
        publish_summary(sweep, outputs)


def cancel(sweep: RecordedSweep, say: Callable[[str], None]) -> int:
    """End what a sweep has started: jobs of Slurm, the process that launches it, those of its runs; return how many.

    Only what this user's own files name is ended, and of processes only those of this machine that are surely the ones
    that wrote them.
    """
    ended = 0
    jobs = slurm.read_jobs(sweep.folder) if _is_own_file(sweep.folder / slurm.JOBS_FILE) else {}
    if alive := slurm.living(jobs) or {}:
        ids = sorted({jobs[run].id for run in alive})
        if (why := slurm.cancel(ids)) is None:
            say(f"cancelled {counted(len(ids), 'job')}: {' '.join(ids)}")
            ended += len(ids)
        else:
            say(f"scancel: {why}")
    # A second signal would end a process before it has saved anything.
    signalled = {os.getpid()}
    for folder in (sweep.folder, *(sweep.folder / name for name in sweep.runs if name not in alive)):
        owner = writer_of(folder) if _is_own_file(folder / "owner.json") else None
        if owner is None or owner.pid in signalled:
            continue
        if owner.host != socket.gethostname():
            say(f"{folder}: process {owner.pid} on {owner.host} is another machine's; end it there")
        elif owner.started is not None:
            os.kill(owner.pid, signal.SIGTERM)
            signalled.add(owner.pid)
            say(f"stopped process {owner.pid}, which wrote in {folder}")
            ended += 1
    return ended


def _is_own_file(path: Path) -> bool:
    """Return whether there is such a file, and it is this user's."""
    return path.is_file() and not path.is_symlink() and is_own(path)
