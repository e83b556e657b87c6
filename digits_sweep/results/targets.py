"""Targets: where a run's evaluations first meet its thresholds, and `targets.csv`, a row a run and target."""

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import pandas as pd

from digits_sweep.results.record import EvaluationRow, MeasureRow

TARGETS_FILE = "targets.csv"
# How a value stands to its threshold. Losses and errors are to fall below theirs.
BELOW = "<"
DIRECTIONS: dict[str, Callable[[float, float], bool]] = {
    BELOW: operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


@dataclass(frozen=True)
class Point:
    """A value after so many iterations, examples and seconds of training. Iterations between two are not whole."""

    iterations: float
    examples: float
    seconds: float
    value: float


@dataclass(frozen=True)
class Crossing:
    """Where a value met a threshold for the first time: at `crossed`, between two evaluations.

    `before` is the last evaluation that did not, `at` the first one that did. If there is none, the threshold is
    missed: `crossed` and `at` are None, and `before` is the last evaluation of all. If the first evaluation of all
    meets it, `before` is None, and `crossed` is that evaluation: the value met it then at the latest.
    """

    crossed: Point | None
    before: Point | None
    at: Point | None

    @property
    def reached(self) -> bool:
        """Whether the value ever met the threshold."""
        return self.at is not None


def crossing(points: Sequence[Point], threshold: float, direction: str = BELOW, on_balance: bool = False) -> Crossing:
    """Find where the values of `points`, which are in rising order, first meet `threshold` as `direction` says.

    With `on_balance`, that is where values that miss it give way to values that meet it. Between two evaluations the
    logarithm of a value that is to fall is taken to be linear in the iterations, a value that is to rise itself;
    examples and seconds are shared out over these evenly. A value that is NaN meets nothing.
    """
    meets = DIRECTIONS[direction]
    if on_balance:
        index = _index_on_balance(points, threshold, direction)
    else:
        index = next((number for number, point in enumerate(points) if meets(point.value, threshold)), None)
    if index is None:
        return Crossing(None, points[-1] if points else None, None)
    if index == 0:
        return Crossing(points[0], None, points[0])
    before, at = points[index - 1], points[index]
    return Crossing(_between(before, at, threshold, falls=direction.startswith(BELOW)), before, at)


# A value counts as at most so many times its threshold, and as no less than its reciprocal: 0 has no logarithm.
FARTHEST = 20.0


def _index_on_balance(points: Sequence[Point], threshold: float, direction: str) -> int | None:
    """Return the index from which on values meet `threshold` on balance; None if there is none.

    It is where the sum of what values, or their logarithms, lie off their threshold is largest: there the monotone
    curve crosses that fits them best by least squares (isotonic regression; Barlow et al. 1972, Statistical Inference
    under Order Restrictions). The first value that meets it comes the sooner, the more often a value that moves up and
    down is looked at; this one does not.
    """
    falls, meets = direction.startswith(BELOW), DIRECTIONS[direction]
    total = most = 0.0
    index = 0
    for number, point in enumerate(points, 1):
        if falls and threshold > 0:
            off = math.log(min(max(point.value / threshold, 1 / FARTHEST), FARTHEST))
        else:
            off = point.value - threshold if falls else threshold - point.value
        total += off if math.isfinite(off) else 0.0
        if total >= most and not meets(point.value, threshold):
            most, index = total, number
    return index if index < len(points) else None


def _between(before: Point, at: Point, threshold: float, falls: bool) -> Point:
    first, middle, last = before.value, threshold, at.value
    if not math.isfinite(first) or not math.isfinite(last):
        return at
    # An error may be 0 and a likelihood negative: these have no logarithm.
    if falls and last > 0:
        first, middle, last = math.log(first), math.log(middle), math.log(last)
    # Two numbers may be so close that their logarithms are equal.
    share = (first - middle) / (first - last) if first != last else 1.0
    return Point(
        iterations=before.iterations + share * (at.iterations - before.iterations),
        examples=before.examples + share * (at.examples - before.examples),
        seconds=before.seconds + share * (at.seconds - before.seconds),
        value=threshold,
    )


@dataclass(frozen=True)
class TargetRow:
    """One row of `targets.csv`: a run and a target, `train_loss` below 1.6 for example; `direction` is `<` then.

    `reached` is None if it is not known, because the run's evaluations cannot be read. The first three numbers are
    interpolated between the evaluation `*_before` and the one `*_at`; of a miss, `*_before` is the run's last
    evaluation. `classes_never_predicted` is that of the evaluation `*_at`.
    """

    run_dir: str
    target: str
    threshold: float
    reached: bool | None
    iterations: float | None
    examples: float | None
    seconds: float | None
    iterations_before: int | None
    iterations_at: int | None
    examples_before: int | None
    examples_at: int | None
    seconds_before: float | None
    seconds_at: float | None
    classes_never_predicted: int | None
    direction: str = BELOW


def targets_of(
    run_dir: str,
    targets: Mapping[str, Sequence[float]],
    rows: Sequence[EvaluationRow],
    directions: Mapping[str, str] | None = None,
    measures: Sequence[MeasureRow] = (),
    on_balance: bool = False,
) -> Iterator[TargetRow]:
    """Yield a row for every target of a run, reached or not; `on_balance` as in `crossing`.

    `targets` are the thresholds in its configuration's `evaluation.targets`, by the column of `evaluations.csv` or one
    of the `measures`; `directions` says how a value is to stand to them if that is not below.
    """
    for target, thresholds in targets.items():
        direction = (directions or {}).get(target, BELOW)
        points = [
            Point(row.iterations, row.examples, row.seconds, value) for row, value in values_of(target, rows, measures)
        ]
        for threshold in thresholds:
            found = crossing(points, threshold, direction, on_balance)
            classes = (
                row.classes_never_predicted for row in rows if found.at and row.iterations == found.at.iterations
            )
            columns: dict[str, Any] = {"classes_never_predicted": next(classes, None)}
            for name in ("iterations", "examples", "seconds"):
                columns[name] = getattr(found.crossed, name, None)
                columns |= {f"{name}_before": getattr(found.before, name, None)}
                columns |= {f"{name}_at": getattr(found.at, name, None)}
            yield TargetRow(run_dir, target, threshold, found.reached, **columns, direction=direction)


def values_of(
    measure: str, rows: Sequence[EvaluationRow], measures: Sequence[MeasureRow]
) -> Iterator[tuple[EvaluationRow, float]]:
    """Yield the evaluations that have a value of `measure`, with that value."""
    others = {row.iterations: row.value for row in measures if row.measure == measure}
    for row in rows:
        value = others.get(row.iterations) if others else getattr(row, measure, None)
        if value is not None:
            yield row, value


def unknown_targets(
    run_dir: str, targets: Mapping[str, Sequence[float]], directions: Mapping[str, str] | None = None
) -> Iterator[TargetRow]:
    """Yield a row for every target of a run whose evaluations cannot be read."""
    columns: dict[str, Any] = dict.fromkeys((each.name for each in fields(TargetRow)[3:]), None)
    for target, thresholds in targets.items():
        for threshold in thresholds:
            columns["direction"] = (directions or {}).get(target, BELOW)
            yield TargetRow(run_dir, target, threshold, **columns)


def all_reached(
    targets: Mapping[str, Sequence[float]], rows: Sequence[EvaluationRow], doublings_beyond: float = 0
) -> bool:
    """Return whether a run has targets and has reached all of them.

    If `doublings_beyond` is above 0, they are reached on balance, and its iterations have to be that far beyond.
    """
    beyond = 2**doublings_beyond
    # One after the other, because this is asked after every evaluation: mostly the first target is not reached yet.
    return any(targets.values()) and all(
        row.iterations is not None and rows[-1].iterations >= beyond * row.iterations
        for row in targets_of("", targets, rows, on_balance=doublings_beyond > 0)
    )


def targets_table(rows: Sequence[TargetRow]) -> pd.DataFrame:
    """Return rows as a table with the columns of `targets.csv`: whole numbers stay whole, and what is missing empty."""
    dtypes: dict[str, Any] = {each.name: DTYPES[each.type] for each in fields(TargetRow)}
    return pd.DataFrame([asdict(row) for row in rows], columns=list(dtypes)).astype(dtypes)


# The pandas types of a table's columns.
DTYPES: dict[Any, str] = {str: "string", bool | None: "boolean", float: "Float64"}
DTYPES |= {float | None: "Float64", int | None: "Int64"}
