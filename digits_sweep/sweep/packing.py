"""Which runs share a job of a cluster: a job for every run of milliseconds is mostly the start of jobs."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from math import fsum
from statistics import median
from typing import Any

from digits_sweep.config.keys import results_of
from digits_sweep.config.plan import PlannedRun
from digits_sweep.results.record import HISTORY_FILE, RECORD_FILE
from digits_sweep.results.run import RecordedRun

# Slurm and PyTorch take some 10 s to start a job: of five minutes that is a thirtieth. The queue takes longer.
SECONDS_PER_JOB = 300.0
# Besides, no job is planned to take more of its time limit than this.
SHARE_OF_LIMIT = 0.5
# What hardly changes how long a run takes.
HARDLY = ("seed", "optimizer.lr", "optimizer.weight_decay", "scaling.reference_lr")


def alike(config: Mapping[str, Any]) -> str:
    """Return what this configuration, as a record has it, has in common with those whose runs take equally long."""
    return repr(sorted((key, value) for key, value in results_of(dict(config)).items() if key not in HARDLY))


def seconds_of(run: RecordedRun) -> float | None:
    """Return how long a run took or will take in all, with its data, evaluations and files; None if nothing is known.

    From its start to its last change on disk, in whole seconds, unless it was resumed; at least what was measured: the
    seconds of its epochs, of its start and of writing.
    """
    if not (run.history or run.record.status.has_ended):
        return None
    spent = fsum(row.seconds for row in run.history) + run.record.seconds_recording + (run.record.seconds_setup or 0.0)
    if not run.record.resumed_after:
        spent = max(spent, _between_start_and_last_change(run))
    return spent if run.record.status.has_ended else spent * max(1.0, _most_epochs(run) / max(1, run.epochs))


def _between_start_and_last_change(run: RecordedRun) -> float:
    """Return how long a run took by the clock; 0 if that is not known."""
    file = RECORD_FILE if run.record.status.has_ended else HISTORY_FILE
    try:
        return (run.folder / file).lstat().st_mtime - datetime.fromisoformat(run.record.started_at or "").timestamp()
    except (OSError, ValueError, OverflowError):
        return 0.0


def _most_epochs(run: RecordedRun) -> float:
    """Return how many epochs a run will have at most; of a command, which knows that itself, those it has."""
    epochs, most = run.number("trainer.num_epochs"), run.number("trainer.max_examples")
    samples = run.record.train_samples
    if epochs is None or run.record.config.get("command") is not None:
        return run.epochs
    return min(epochs, most / samples) if most and samples else epochs


def expected(
    runs: Iterable[RecordedRun], seconds: Callable[[RecordedRun], float | None] = seconds_of
) -> dict[str, float]:
    """Return how many seconds runs take, the median of those that are `alike`, by what they have in common."""
    taken: dict[str, list[float]] = {}
    for run in runs:
        if (value := seconds(run)) is not None:
            taken.setdefault(alike(run.record.config), []).append(value)
    return {kind: median(values) for kind, values in taken.items()}


def in_jobs_of(count: int, runs: Sequence[PlannedRun]) -> list[list[PlannedRun]]:
    """Return runs job by job, so many in each."""
    return [list(runs[start : start + count]) for start in range(0, len(runs), count)]


def by_seconds(
    runs: Sequence[PlannedRun], seconds: Mapping[str, float], limit_seconds: float, tried: Collection[str] = ()
) -> tuple[list[list[PlannedRun]], list[PlannedRun]]:
    """Return runs job by job, as many as are worth one, and those that wait until one like them shows how long it
    takes.

    `seconds` has what is known, by what is `alike`; `limit_seconds` is a job's time limit. The first run of a kind of
    which nothing is known gets a job of its own, unless one of that kind is being `tried`.
    """
    most = min(SECONDS_PER_JOB, SHARE_OF_LIMIT * limit_seconds)
    first: dict[str, list[PlannedRun]] = {}
    jobs: list[list[PlannedRun]] = []
    waiting: list[PlannedRun] = []
    taken = 0.0
    for run in runs:
        kind = alike(asdict(run.config))
        if kind not in seconds:
            if kind in first or kind in tried:
                waiting.append(run)
            else:
                first[kind] = [run]
        elif jobs and taken + seconds[kind] <= most:
            jobs[-1].append(run)
            taken += seconds[kind]
        else:
            jobs.append([run])
            taken = seconds[kind]
    return [*first.values(), *jobs], waiting
