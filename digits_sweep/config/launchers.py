"""Hydra's launchers: a row for each one that this program knows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from digits_sweep.errors import InvalidConfig


@dataclass(frozen=True)
class Launcher:
    """A launcher as `hydra/launcher=NAME` names it.

    `extra` is the optional dependency that brings it. `in_process` launchers train in the process of the command, one
    run after the other; `stops_early` says whether `fail_fast` can end the sweep; `resumed_keys` are the keys below
    `hydra.launcher` that a resume repeats from the recorded command. `is_slurm`: its runs are jobs of a Slurm cluster,
    which go on without this program. `elsewhere`: jobs run on other machines than the command, with other devices.
    """

    name: str
    extra: str | None = None
    in_process: bool = False
    stops_early: bool = False
    resumed_keys: tuple[str, ...] = ()
    is_slurm: bool = False
    elsewhere: bool = False


# Where submitit keeps its jobs in a sweep's folder: in a new folder each time, which it fills with links of its own.
SUBMITIT_FOLDER = ".submitit"

OF_A_QUEUE = ("timeout_min", "cpus_per_task", "mem_gb", "gpus_per_node")
OF_SLURM = ("partition", "account", "qos", "gpus_per_task", "runs_per_job", *OF_A_QUEUE)
# Below these a user may name what this program and Hydra's launcher do not know: Hydra wants a plus before them.
RUNS_PER_JOB, SITE_OPTIONS = "hydra.launcher.runs_per_job", "hydra.launcher.additional_parameters"
OPEN_KEYS = (RUNS_PER_JOB, SITE_OPTIONS, "hydra.launcher.ray.init", "hydra.launcher.ray.remote")

LAUNCHERS = {
    launcher.name: launcher
    for launcher in (
        Launcher("basic", in_process=True, stops_early=True),
        Launcher("joblib", extra="joblib", stops_early=True, resumed_keys=("n_jobs",)),
        Launcher("slurm", extra="slurm", resumed_keys=OF_SLURM, is_slurm=True, elsewhere=True),
        Launcher("submitit_slurm", extra="slurm", resumed_keys=OF_SLURM, is_slurm=True, elsewhere=True),
        Launcher("submitit_local", extra="slurm", resumed_keys=OF_A_QUEUE),
        Launcher("ray", extra="ray"),
        Launcher("ray_cluster", extra="ray", elsewhere=True),
    )
}


def launcher_called(name: str) -> Launcher:
    """Return the row of a launcher; one that has no row, such as a plugin of the user's, starts all runs at once."""
    return LAUNCHERS.get(name, Launcher(name))


def as_added(override: str) -> str:
    """Return an override as Hydra takes it: with two pluses if its key may be one that nobody has declared."""
    is_open = any(override.startswith((f"{key}=", f"{key}.")) for key in OPEN_KEYS)
    return f"++{override}" if is_open else override


AUTO = "auto"


def runs_per_job(launcher: Launcher, settings: Mapping[str, Any]) -> int | None:
    """Return how many runs share a job of a cluster; None: as many as `auto` finds worth it.

    Raises `InvalidConfig` for another value, and for a launcher whose runs are no jobs.
    """
    value = settings.get("runs_per_job", 1)
    if "runs_per_job" in settings and not launcher.is_slurm:
        raise InvalidConfig(f"{RUNS_PER_JOB}={value}: is for hydra/launcher=slurm; leave it out")
    if value != AUTO and not (type(value) is int and value >= 1):
        raise InvalidConfig(f"{RUNS_PER_JOB}={value}: must be auto or a whole number from 1 up")
    return None if value == AUTO else value
