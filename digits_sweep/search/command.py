"""The command of a search: --help, the folder that it opens or resumes, its workers, and how it ends."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from digits_sweep.config.launchers import AUTO
from digits_sweep.errors import CannotSearch, not_installed
from digits_sweep.machine import free_memory, usable_cores
from digits_sweep.shell import (
    INTERRUPTED,
    TERMINATED,
    Screen,
    Terminated,
    as_typed,
    in_this_folder,
    stoppable,
    write_line,
)

if TYPE_CHECKING:
    from digits_sweep.config.plan import Plan
    from digits_sweep.search.critical import Critical
    from digits_sweep.search.tune import Tune

# A worker with torch, its data and a small network takes so much memory; more workers than these gain nothing.
WORKER_BYTES, MOST_WORKERS = 700 * 2**20, 8


def run_search(name: str, about: str, arguments: Sequence[str]) -> int:
    """Run the search `tune` or `critical_batch_size` and return the exit code; `about` is for `--help`.

    A goal that no run reaches is a result: the code is 0. Raises a `DigitsSweepError` or OSError if the search is
    refused or results cannot be written.
    """
    if {"-h", "--help"} & set(arguments):
        _show_help(name, about)
        return 0
    screen = Screen()
    search = _read(name, arguments, screen)
    with stoppable():
        return _conduct(search, screen)


def _show_help(name: str, about: str) -> None:
    from digits_sweep.config.compose import CONF

    keys, prefix = (CONF / f"{name}.yaml").read_text(encoding="utf-8"), name.partition("_")[0]
    resumes = "resume=latest, or resume=FOLDER, with the same command" if prefix == "critical" else "The same command"
    write_line(f"{about}\n\nIts keys are {prefix}.KEY=VALUE:\n\n{keys}\n{resumes} resumes a study.")
    write_line("Every other key is one of the runs: python -m digits_sweep --help")


def _read(name: str, arguments: Sequence[str], screen: Screen) -> "Critical | Tune":
    """Read the command line. What takes seconds to import (torch, pandas, Optuna) comes after: a mistake waits less."""
    from dataclasses import replace

    from digits_sweep.search.settings import read_critical, read_tune

    if name == "critical_batch_size":
        study = read_critical(arguments)
        from digits_sweep.search.critical import Critical, fitted_to_data, takes_quick_goals

        if takes_quick_goals(study):
            study = read_critical(arguments, goals_follow=True)
        return Critical(fitted_to_data(study, screen.say))
    search = read_tune(arguments)
    if find_spec("optuna") is None:
        raise CannotSearch(not_installed("optuna", "optuna"))
    from digits_sweep.search.tune import Tune
    from digits_sweep.sweep.fitting import fitted

    return Tune(replace(search, planned=fitted(search.planned, screen.say)))


def _conduct(search: "Critical | Tune", screen: Screen) -> int:
    """Search in a folder, say how that has ended, and return the exit code."""
    from digits_sweep.search.study import Stopped, opened
    from digits_sweep.sweep import preflight

    preflight.check(search.request.planned, screen.say)
    planned = side_by_side(search, screen)
    stop: Stopped | None = None
    with opened(search.folder, search.parent, planned, screen) as study:
        try:
            search.conduct(study)
        except Stopped as stopped:
            stop = stopped
        except KeyboardInterrupt as signal:
            stop = Stopped(TERMINATED if isinstance(signal, Terminated) else INTERRUPTED)
    screen.say(f"this study {study.folder}")
    if stop is None:
        return 0
    screen.say(f"not completed: {', '.join(stop.unfinished)}" if stop.unfinished else "stopped")
    again = as_typed(search.module, *search.request.command, *search.resumed_by(study.folder))
    screen.say(f"resume with: {in_this_folder(again)}")
    return int(stop.code or 1)


def side_by_side(search: "Critical | Tune", screen: Screen) -> "Plan":
    """Return the plan of a search with a worker a core, as far as memory goes, unless it names a launcher.

    Runs follow one another if they are compared by their seconds, and on a GPU, which they would share. On a cluster,
    where waves follow one another too, runs share jobs unless `runs_per_job` is typed.
    """
    from omegaconf import open_dict

    from digits_sweep.training.device import resolve_device, threads_for

    planned = search.request.planned
    if planned.launcher.is_slurm and not search.is_timed:
        with open_dict(planned.hydra.launcher):
            planned.hydra.launcher.setdefault("runs_per_job", AUTO)
    settings = planned.settings
    workers = workers_here(threads_for(settings.num_threads))
    is_on_cpu = resolve_device(settings.device).type == "cpu"
    if search.is_timed or "hydra/launcher" in planned.typed or workers < 2 or not is_on_cpu:
        return planned
    try:
        from hydra_plugins.hydra_joblib_launcher.config import JobLibLauncherConf
    except ImportError:
        missing = not_installed("hydra-joblib-launcher", "joblib")
        screen.say(f"one run after the other; {workers} at a time need a package: {missing}")
        return planned
    with open_dict(planned.hydra):
        planned.hydra.launcher = JobLibLauncherConf(n_jobs=workers)
        planned.hydra.runtime.choices["hydra/launcher"] = "joblib"
    screen.say(f"{workers} runs at a time; hydra/launcher=basic: one after the other")
    return planned


def workers_here(num_threads: int) -> int:
    """Return how many runs of so many threads this process can train at a time."""
    return max(1, min(usable_cores() // num_threads, free_memory() // WORKER_BYTES, MOST_WORKERS))
