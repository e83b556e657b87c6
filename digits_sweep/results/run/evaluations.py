"""A run's evaluations at frozen weights: `evaluations.csv`, and the running loss beside them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from digits_sweep.errors import UnreadableRecord
from digits_sweep.results.disk.files import replace_file
from digits_sweep.results.disk.growing_file import read_rows
from digits_sweep.results.disk.reading import parse_csv, reason_of
from digits_sweep.results.run.history import as_csv, header_of
from digits_sweep.results.run.losses import WINDOW, Losses

NAME = "evaluations.csv"


@dataclass(frozen=True)
class EvaluationRow:
    """One row of `evaluations.csv`: a run after so many iterations, examples and seconds of training.

    Losses are means and errors shares of the evaluation's training digits and test digits; `classes_never_predicted`
    counts those on the test digits. `running_loss` is the mean over the last 3,000 examples trained on; empty before
    there are as many. The gradient's |G|^2, tr(Sigma) and their ratio are empty if they are not measured.
    """

    iterations: int
    examples: int
    seconds: float
    train_loss: float
    train_error: float
    test_loss: float
    test_error: float
    classes_never_predicted: int
    running_loss: float | None = None
    gradient_squared_norm: float | None = None
    gradient_trace: float | None = None
    noise_scale: float | None = None


WHOLE = ("iterations", "examples", "classes_never_predicted")
MAY_BE_EMPTY = ("running_loss", "gradient_squared_norm", "gradient_trace", "noise_scale")


def write_evaluations(folder: Path, rows: Sequence[EvaluationRow]) -> None:
    """Replace `evaluations.csv` in `folder`. Raises OSError if it cannot be written."""
    replace_file(folder / NAME, header_of(EvaluationRow) + as_csv(rows, EvaluationRow))


def read_evaluations(folder: Path, signature: dict[str, Any] | None = None) -> list[EvaluationRow]:
    """Read the evaluations in `evaluations.csv`; with a record's `signature`, those that it says are there.

    Raises `UnreadableRecord` if they cannot be read, or are others.
    """
    return read_rows(folder / NAME, signature, evaluations_from)


def evaluations_from(content: bytes, name: str) -> list[EvaluationRow]:
    """Return the evaluations of a CSV file's `content`. Raises `UnreadableRecord`, which names the file `name`."""
    found = parse_csv(content, name, [each.name for each in fields(EvaluationRow)])
    try:
        rows = [EvaluationRow(**{column: _number(column, text) for column, text in row.items()}) for row in found]
    except ValueError as error:
        raise UnreadableRecord(f"{name}: {reason_of(error)}") from error
    if any(later.iterations <= row.iterations for row, later in pairwise(rows)):
        raise UnreadableRecord(f"{name}: its iterations do not count up")
    return rows


def _number(column: str, text: str) -> Any:
    if text == "" and column in MAY_BE_EMPTY:
        return None
    if column not in WHOLE:
        return float(text)
    if not 0 <= (count := int(text)) < 2**63:
        raise ValueError(f"{column} is no count: {text}")
    return count


def running_loss(losses: Losses, iterations: int, batch_size: int, num_samples: int) -> float | None:
    """Return the mean loss over the last 3,000 examples that a run has trained on after so many iterations.

    `losses` are those of all iterations of the run. An iteration counts as often as its batch has examples; the window
    is the fewest last iterations that have as many. None if there are not as many yet.
    """
    per_epoch = -(-num_samples // batch_size)
    # Of two iterations at least one has a whole batch.
    places = np.arange(max(0, iterations - 2 * -(-WINDOW // batch_size)), iterations)
    sizes = np.where(places % per_epoch == per_epoch - 1, num_samples - (per_epoch - 1) * batch_size, batch_size)
    backward = np.cumsum(sizes[::-1])
    count = int(np.searchsorted(backward, WINDOW)) + 1
    if count > len(sizes):
        return None
    window = np.asarray(losses[iterations - count : iterations], dtype=np.float64)
    return float(np.average(window, weights=sizes[-count:]))
