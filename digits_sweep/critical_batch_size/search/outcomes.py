"""What recorded runs resulted in, goal by goal."""

import math
from collections.abc import Sequence

from digits_sweep.config.keys import differing
from digits_sweep.config.plan import PlannedRun
from digits_sweep.critical_batch_size.search.runs import Goal
from digits_sweep.critical_batch_size.search.trials import Outcome
from digits_sweep.errors import CannotResume
from digits_sweep.results.run.evaluations import EvaluationRow
from digits_sweep.results.run.record import Record, Status
from digits_sweep.results.run.targets import targets_of
from digits_sweep.results.sweep import RecordedSweep


def outcomes(sweep: RecordedSweep, run: PlannedRun, goals: Sequence[Goal]) -> list[Outcome] | None:
    """Return what a recorded run means for every goal; None if it has not ended, or cannot be read.

    A run that diverged or failed is a miss. Raises `CannotResume` if another run was recorded in its place.
    """
    record = sweep.records.get(run.folder)
    if record is None or run.folder in sweep.misfits or record.status is Status.INTERRUPTED:
        return None
    if record.config and (found := differing(record.config, run.config)):
        raise CannotResume(f"{sweep.folder / run.folder}: {'; '.join(found)}")
    return [_outcome(record, sweep.evaluations[run.folder], goal) for goal in goals]


def _outcome(record: Record, rows: Sequence[EvaluationRow], goal: Goal) -> Outcome:
    values = [value for row in rows if math.isfinite(value := getattr(row, goal.target))]
    trained = int(record.summary.get("iterations") or 0)
    best = min(values, default=math.inf)
    if record.status is not Status.COMPLETED:
        return Outcome(math.inf, best, trained)
    (found,) = targets_of("", {goal.target: [goal.threshold]}, rows)
    return Outcome(math.inf if found.iterations is None else found.iterations, best, trained)
