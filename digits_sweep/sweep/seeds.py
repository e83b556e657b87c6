"""`seeds=until_decided`: a seed for every configuration, then the next, until the winner is decided.

Which runs come next is a pure function of what is recorded, so that a sweep which is resumed makes the same runs.
"""

from collections.abc import Callable, Collection
from dataclasses import asdict, replace

from digits_sweep.config.keys import results_of
from digits_sweep.config.plan import Plan, PlannedRun
from digits_sweep.report.ranking import still_compared
from digits_sweep.report.statistics import FEWEST_PAIRS
from digits_sweep.report.study import study_of
from digits_sweep.results.record import Status
from digits_sweep.results.sweep import RecordedSweep
from digits_sweep.shell import Screen
from digits_sweep.sweep.resume import is_finished

# Launches the runs of a plan in a sweep's folder; returns the exit code.
Launch = Callable[[Plan, RecordedSweep, Screen], int]


def launch_due(planned: Plan, sweep: RecordedSweep, screen: Screen, launch: Launch) -> int:
    """Launch the runs of a plan in its sweep, with `seeds=until_decided` wave after wave as long as some are due.

    Returns the exit code of the launch that was stopped, 1 if one has not ended its runs, else 0.
    """
    if planned.settings.seeds is None:
        return launch(planned, sweep, screen)
    launched: set[str] = set()
    while wave := due(planned, sweep, launched):
        launched |= {run.folder for run in wave}
        if code := launch(replace(planned, runs=tuple(wave)), sweep, screen):
            return code
        sweep.refresh()
        if not all(_has_ended(run, sweep, launched) for run in wave):
            return 1
    return 0


def due(planned: Plan, sweep: RecordedSweep, launched: Collection[str] = ()) -> list[PlannedRun]:
    """Return the runs of a plan that are to be trained next; none if the winner is decided or no seed is left.

    First all that no decision can do without, then a seed of the leader and of the configurations over which its lead
    is undecided, the first that one of them lacks. A run that failed when it was `launched` is not tried again.
    Without `seeds=until_decided` all runs of a plan are due.
    """
    if planned.settings.seeds is None:
        return list(planned.runs)
    lanes = _by_configuration(planned)
    if first := [run for lane in lanes for run in lane[:FEWEST_PAIRS] if not _has_ended(run, sweep, launched)]:
        return first
    study = study_of(sweep)
    names = dict(zip(study.runs["run_dir"], study.runs["configuration"], strict=True))
    compared = set(still_compared(study))
    waves = zip(*(lane for lane in lanes if names.get(lane[0].folder) in compared), strict=True)
    lacking = ([run for run in wave if not _has_ended(run, sweep, launched)] for wave in waves)
    return next(filter(None, lacking), [])


def _by_configuration(planned: Plan) -> list[list[PlannedRun]]:
    """Return the runs of every configuration, a run for each seed."""
    lanes: dict[str, dict[int, PlannedRun]] = {}
    for run in planned.runs:
        values = {key: value for key, value in results_of(asdict(run.config)).items() if key != "seed"}
        lanes.setdefault(repr(values), {}).setdefault(run.config.seed, run)
    return [list(lane.values()) for lane in lanes.values()]


def _has_ended(run: PlannedRun, sweep: RecordedSweep, launched: Collection[str]) -> bool:
    recorded = sweep.runs.get(run.folder)
    if recorded is None:
        return False
    has_failed = recorded.record.status is Status.FAILED and run.folder in launched
    return has_failed or is_finished(recorded, run.config)
