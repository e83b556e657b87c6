"""Jobs of a Slurm cluster: submitted by submitit, watched by what Slurm says of them, launched again if they are lost.

`jobs.json` in a sweep's folder has the last job of every run, so that a later command attaches to what still lives.
"""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
from hydra.core.singleton import Singleton

from digits_sweep.config.launchers import SUBMITIT_FOLDER
from digits_sweep.errors import UnreadableRecord
from digits_sweep.report.words import counted, listed
from digits_sweep.results.files import MANIFEST_BYTES, last_lines, read_json, write_json

JOBS_FILE = "jobs.json"
# Slurm's controller serves a whole cluster: it is asked no more often than that.
SECONDS_BETWEEN_LOOKS, SECONDS_BETWEEN_LINES = 2.0, 60.0
# How often the accounts are asked who has cancelled a job.
MOST_LOOKS = 5
# A controller that is restarted, or has much to do, does not answer for a while.
PATIENCE_SECONDS = 60.0
# How a job ends that nobody has ended on purpose: it is launched again. One that is out of time was queued again as
# often as `hydra.launcher.max_num_timeout` says.
LOST = ("NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "FAILED", "BOOT_FAIL", "COMPLETED")
LAST_LINES = 10


@dataclass(frozen=True)
class Job:
    """A job by its number, `12_3` for example, and the folder in `.submitit` with its logs."""

    id: Annotated[str, msgspec.Meta(pattern=r"^\d{1,12}(_\d{1,9})?$")]
    folder: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]

    def logs(self, sweep_dir: Path) -> Path:
        """Return the folder with what it printed."""
        return sweep_dir / SUBMITIT_FOLDER / self.folder / self.id


@dataclass(frozen=True)
class Jobs:
    """`jobs.json`: the last job of every run that was submitted, by the run's folder."""

    jobs: dict[str, Job] = field(default_factory=dict)
    format: int = 1


def read_jobs(sweep_dir: Path) -> dict[str, Job]:
    """Return the last job of every run of a sweep that was submitted; none if that cannot be read."""
    try:
        return read_json(sweep_dir / JOBS_FILE, MANIFEST_BYTES, Jobs).jobs
    except UnreadableRecord:
        return {}


def write_jobs(sweep_dir: Path, jobs: Mapping[str, Job]) -> None:
    """Write `jobs.json`. Raises OSError if it cannot be written."""
    write_json(sweep_dir / JOBS_FILE, Jobs(dict(jobs)))


@dataclass(frozen=True)
class Queued:
    """A job of this user's that waits or runs: its state in Slurm's words, why it waits, where it runs, time left."""

    state: str
    reason: str = ""
    node: str = ""
    left: str = ""

    def __str__(self) -> str:
        why = f" ({self.reason})" if self.state == "PENDING" else f" on {self.node}" if self.node else ""
        return f"{self.state.lower()}{why}"


def queue() -> dict[str, Queued] | None:
    """Return this user's jobs that wait or run, by their numbers; None if Slurm does not answer."""
    said = _answer("squeue", "--me", "--noheader", "--array", "--format=%i|%T|%r|%N|%L")
    if said is None:
        return None
    return {
        id_: Queued(*rest) for id_, *rest in (line.split("|") for line in said.splitlines() if line.count("|") == 4)
    }


def _answer(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def living(jobs: Mapping[str, Job]) -> dict[str, Queued] | None:
    """Return those of `jobs` that wait or run, and are not about to end, by the run; None if Slurm does not answer."""
    if (queued := queue() if jobs else {}) is None:
        return None
    return {run: now for run, job in jobs.items() if (now := queued.get(job.id)) and now.state != "COMPLETING"}


def end_of(job: Job) -> str:
    """Return how a job has ended, in Slurm's words: `CANCELLED by ann`, `NODE_FAIL`; UNKNOWN if Slurm has forgotten it.

    Its accounts know who cancelled a job, but hear of its end a moment late.
    """
    shown = _answer("scontrol", "show", "job", "--oneliner", job.id) or ""
    state = match[1] if (match := re.search(r"\bJobState=([A-Z_]+)", shown)) else None
    for again in range(MOST_LOOKS) if state in (None, "CANCELLED") else ():
        said = _answer("sacct", "-X", "-n", "-P", "--format=State", "-j", job.id)
        first, _, user = (said or "").strip().partition(" by ")
        if first in (state, "CANCELLED") or (state is None and first):
            return f"{first} by {_name(user)}" if user else first
        if said is None or again == MOST_LOOKS - 1:
            break
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return state or "UNKNOWN"


def cancel(ids: Sequence[str]) -> str | None:
    """Cancel jobs; return why that is not possible, None if it is."""
    try:
        done = subprocess.run(["scancel", *ids], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (done.stderr.strip().splitlines() or ["no reason given"])[0] if done.returncode else None


def _name(user: str) -> str:
    """Return the name of a user by the number, which it stays if it has none here."""
    # Windows has no such module, and no Slurm.
    import pwd

    try:
        return pwd.getpwuid(int(user)).pw_name
    except (KeyError, ValueError):
        return user


class RunsOfAJob:
    """What a job does: one run after the other by Hydra's `launcher`, whatever becomes of the one before.

    Queued again because of its time limit, it does the same: a run that has ended is then left as it is.
    """

    def __init__(self, launcher: Any) -> None:
        self.launcher = launcher
        self.is_queued_again = False

    def __call__(self, name: str, runs: Sequence[Sequence[Any]]) -> None:
        """Do the runs, each the arguments of Hydra's launcher. Raises what kept the first of them from running."""
        _answer("scontrol", "update", f"jobid={_own_id()}", f"jobname={name}")
        ends = []
        for run in runs:
            ends.append(self.launcher(*run))
            # A run takes the end of its process for its own.
            if self.is_queued_again:
                sys.exit("queued again")
        for end in ends:
            _ = end.return_value

    def checkpoint(self, *arguments: Any) -> Any:
        """Return what the job does when it runs again: submitit asks, and then ends the process."""
        from submitit.helpers import DelayedSubmission

        self.is_queued_again = True
        return DelayedSubmission(RunsOfAJob(self.launcher), *arguments)


def _own_id() -> str:
    """Return the number of the job that this process is part of."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID", "")


def submit(launcher: Any, packs: Sequence[Mapping[str, Sequence[str]]], token: str) -> Iterator[list[Job]]:
    """Submit a job for each of `packs` by submitit, as Hydra's `launcher` does, but wait for none.

    A pack has the overrides of every run of the job, by the run's name. They are arrays no larger than the cluster
    takes; yields the jobs of every array as soon as it is accepted. Raises what submitit raises if one is not.
    """
    import submitit
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf

    parameters = {name: value for name, value in launcher.params.items() if name != "runs_per_job"}
    folder, timeouts = parameters.pop("submitit_folder"), parameters.pop("max_num_timeout")
    executor = submitit.AutoExecutor(folder=folder, cluster="slurm", slurm_max_num_timeout=timeouts)
    shared = BaseQueueConf.__dataclass_fields__
    executor.update_parameters(
        **{name if name in shared else f"slurm_{name}": value for name, value in parameters.items()}
    )
    size, state = _largest_array(), Singleton.get_state()
    for start in range(0, len(packs), size):
        piece = packs[start : start + size]
        runs = [
            [(list(each), "hydra.sweep.dir", number, f"job_id_for_{number}", state) for each in pack.values()]
            for number, pack in enumerate(piece, start)
        ]
        names = [_name_of_job(parameters["name"], list(pack)) for pack in piece]
        submitted = executor.map_array(RunsOfAJob(launcher), names, runs)
        yield [Job(str(each.job_id), token) for each in submitted]


def _name_of_job(sweep: str, runs: Sequence[str]) -> str:
    """Return the name of a job once it runs: that of the sweep, which its array has, and of its first run."""
    return f"{sweep}_{runs[0]}" + (f"_and_{len(runs) - 1}_more" if len(runs) > 1 else "")


def _largest_array() -> int:
    """Return how many jobs an array of this cluster may have."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", _answer("scontrol", "show", "config") or "")
    return max(1, int(found[1])) if found else 1_000


def wait_for(
    jobs: Mapping[str, Job], say: Callable[[str], None], is_enough: Callable[[], bool] = lambda: False
) -> bool:
    """Wait until none of `jobs` waits or runs any more, which returns True, or until `is_enough`.

    `say` gets a line whenever their states are others, but no more than one a minute if only their numbers are. A job
    is gone if two answers in a row lack it: between two states it may be in no list.
    """
    shown, gone = _Shown(say), Counter[str]()
    ids = {job.id for job in jobs.values()}
    while ids:
        if (queued := queue()) is not None:
            gone.update(id_ for id_ in ids if id_ not in queued)
            ids -= {id_ for id_, times in gone.items() if times > 1}
            gone = Counter({id_: times for id_, times in gone.items() if id_ not in queued})
            shown.show(Counter(str(replace(job, node="")) for id_, job in queued.items() if id_ in ids))
        if is_enough():
            return False
        if ids:
            time.sleep(SECONDS_BETWEEN_LOOKS)
    return True


class _Shown:
    """The line about jobs: what it said last, and when."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self._states: dict[str, int] = {}
        self._due = 0.0

    def show(self, states: Mapping[str, int]) -> None:
        """Say how many jobs are in which state, if that is worth a line."""
        is_due = states.keys() != self._states.keys() or time.monotonic() >= self._due
        if states and states != self._states and is_due:
            self.say("jobs: " + ", ".join(f"{count} {state}" for state, count in sorted(states.items())))
            self._states, self._due = dict(states), time.monotonic() + SECONDS_BETWEEN_LINES


def lost(jobs: Mapping[str, Job], runs: Iterable[str], sweep_dir: Path, say: Callable[[str], None]) -> list[str]:
    """Return those of `runs` to launch again, whose jobs have ended before them; say why the others are not.

    A cancelled job is somebody's decision, and nothing is known of one that Slurm has forgotten.
    """
    again = []
    end_by_job = {job: end_of(job) for job in dict.fromkeys(jobs[run] for run in runs if run in jobs)}
    ends: dict[str, list[str]] = {}
    for run in runs:
        end = end_by_job[jobs[run]] if run in jobs else "UNKNOWN"
        ends.setdefault(end, []).append(run)
        if end.partition(" ")[0] in LOST:
            again.append(run)
    for end, names in ends.items():
        say(f"{end.lower().replace('_', ' ')}: {listed(names)}")
        if end.partition(" ")[0] != "CANCELLED" and names[0] in jobs:
            for line in cause_of(jobs[names[0]].logs(sweep_dir)):
                say(f"  {line}")
    return again


def cause_of(logs: Path) -> list[str]:
    """Return what a job left that says why it ended: the last lines of standard error, or a hint if there are none.

    A job's logs are made on its node, in the sweep's folder.
    """
    if not any(logs.glob("*_log.*")):
        return [f"no log in {logs}: does its node have that folder, under the same path?"]
    paths = () if logs.is_symlink() else sorted(logs.glob("*_log.err"))
    plain = (path for path in paths if path.is_file() and not path.is_symlink())
    lines = [line for path in plain for line in last_lines(path, LAST_LINES)]
    return [*lines[-LAST_LINES:], f"its logs: {logs}"]


def go_on(jobs: Collection[Job]) -> str:
    """Return the line that says which jobs go on without this process."""
    ids = " ".join(sorted({job.id for job in jobs}))
    return f"{counted(len(jobs), 'job')} still in Slurm's queue; a resume attaches to them, scancel {ids} ends them"
