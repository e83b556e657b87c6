"""One run on disk: `record.json`, and the rows of `history.csv` and `evaluations.csv` beside it."""

import csv
import hashlib
import io
import json
import math
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from digits_sweep.config.keys import with_moved_keys
from digits_sweep.errors import NewerFormat, UnreadableRecord
from digits_sweep.results.files import (
    RECORD_BYTES,
    latest_readable,
    named,
    parse_csv,
    read_json,
    read_rows,
    reason_of,
    replace_file,
)
from digits_sweep.results.losses import WINDOW, Losses

# 1: the first one. 2: `resumed_after` and `seconds_recording`. 3: a checksum, `run_id`, `folder`, `files` and
# `environments`.
RECORD_FORMAT = 3
RECORD_FILE = "record.json"


class Status(str, Enum):
    """How a run stands."""

    COMPLETED = "completed"
    DIVERGED = "diverged"
    INTERRUPTED = "interrupted"
    FAILED = "failed"

    __str__ = str.__str__

    @property
    def has_ended(self) -> bool:
        """Whether the run was trained to its end, so that a threshold that it has not reached is a miss."""
        return self in (Status.COMPLETED, Status.DIVERGED)


@dataclass
class Record:
    """A run as it stands.

    `status` starts as `interrupted` and changes only when the run ends, so that the record of a killed run says so.
    `run_id` is the run's own, in all of its files; `folder` is the name of its folder when it started. `summary` holds
    the columns of `summary.csv` (see `results.columns`) that this run fills, `config` the whole resolved configuration.
    `ended` says why a completed run has ended before its last epoch, if it was asked to. `environments` has what the
    run was made with, an entry for every time that something changed, each with the first epoch that it made
    (`from_epoch`). `files` has size in bytes and SHA-256 of the files that grow beside the record.
    `resumed_after` has the last finished epoch for every time that the run was resumed, `seconds_recording` the time
    that writing all this took. `test_answers` counts the predictions on the test set, one number a class.
    `parameters` counts the numbers that are trained, `own_code` has the SHA-256 of every file of the user's code.
    """

    number: int
    status: Status = Status.INTERRUPTED
    run_id: str = field(default_factory=lambda: secrets.token_hex(8))
    folder: str | None = None
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    environments: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    resumed_after: list[int] = field(default_factory=list)
    dataset_digest: str | None = None
    engine_reason: str | None = None
    flush_denormal: bool | None = None
    seconds_setup: float | None = None
    seconds_recording: float = 0.0
    test_answers: list[int] | None = None
    parameters: int | None = None
    own_code: dict[str, str] = field(default_factory=dict)
    ended: str | None = None
    error: str | None = None

    @property
    def environment(self) -> dict[str, Any]:
        """What the last epochs were made with."""
        return self.environments[-1] if self.environments else {}

    @property
    def error_line(self) -> str | None:
        """The last line of the error, which names it; None if there is none."""
        return self.error.strip().splitlines()[-1] if self.error and self.error.strip() else None

    @property
    def epochs(self) -> int:
        """How many epochs are finished."""
        return self.summary.get("epochs", 0)


def as_content(record: Record) -> dict[str, Any]:
    """Return the content of `record.json`, ready for JSON, with its format."""
    return {"format": RECORD_FORMAT, **_json_ready(vars(record))}


def write_record(folder: Path, record: Record) -> None:
    """Replace `record.json` in `folder`. Raises OSError if it cannot be written.

    It need not survive a power cut: the checkpoint, which does, holds the record as of its epoch.
    """
    content = as_content(record)
    text = json.dumps({**content, "sha256": _checksum(content)}, indent=2, allow_nan=False)
    replace_file(folder / RECORD_FILE, text + "\n", keep_previous=True, durable=False)


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _json_ready(value: Any) -> Any:
    """JSON has no NaN and no infinity; as text they stay what they are in the table."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    if isinstance(value, dict):
        return {key: _json_ready(each) for key, each in value.items()}
    return [_json_ready(each) for each in value] if isinstance(value, list) else value


def read_record(folder: Path) -> Record:
    """Read the record in `folder`; if it is damaged, the one before it, with an `error` that says so.

    Raises `NewerFormat` if a newer version of this program wrote it, `UnreadableRecord` if neither can be read:
    corrupt, or no record at all.
    """
    record, damage = latest_readable(folder / RECORD_FILE, _read_record)
    if damage:
        record.status, record.error = Status.INTERRUPTED, f"{damage}; this is the record before it"
    return record


def _read_record(path: Path) -> Record:
    content = read_json(path, RECORD_BYTES)
    try:
        checksum = content.pop("sha256", None)
        # Earlier formats have no checksum, but one that is there holds. How a newer one makes its own is not known.
        has_one = content["format"] == RECORD_FORMAT or (
            checksum is not None and content["format"] in range(1, RECORD_FORMAT)
        )
        if has_one and checksum != _checksum(content):
            raise ValueError("corrupt: checksum mismatch")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UnreadableRecord(f"{path.name}: not a record ({reason_of(error)})") from error
    return record_from(content, path.name)


def record_from(content: dict[str, Any], name: str) -> Record:
    """Return the record that `as_content` made `content` of, now or in an earlier format; `name` is for messages.

    Raises `NewerFormat` or `UnreadableRecord`.
    """
    try:
        content = dict(content)
        if (written_in := content.pop("format")) not in range(1, RECORD_FORMAT + 1):
            newer = isinstance(written_in, int) and written_in > RECORD_FORMAT
            raise (NewerFormat if newer else UnreadableRecord)(
                f"{name}: its format {named(written_in)} is not known here"
            )
        if written_in < 3:
            environment = content.pop("environment", None) or {}
            torch_version = (content.get("summary") or {}).get("torch_version")
            content["environments"] = [environment | {"torch": torch_version, "from_epoch": 1}] if environment else []
        content["status"] = Status(content["status"])
        content["config"] = with_moved_keys(content.get("config", {}))
        record = Record(**content)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UnreadableRecord(f"{name}: not a record of format {RECORD_FORMAT} ({reason_of(error)})") from error
    if wrong := next(_unlike_a_record(record), None):
        raise UnreadableRecord(f"{name}: {wrong} is not what a record holds")
    return record


def _unlike_a_record(record: Record) -> Iterator[str]:
    yield from (name for name, kind in _KINDS.items() if not isinstance(getattr(record, name), kind))
    if record.status.has_ended and not {"epochs", "batch_size"} <= record.summary.keys():
        yield "summary"
    if not all(isinstance(count, int) and count >= 0 for count in [record.epochs, *record.resumed_after]):
        yield "epochs"
    if not all(isinstance(count, int) for count in record.test_answers or ()):
        yield "test_answers"
    if not all(isinstance(each, dict) and isinstance(each.get("packages") or {}, dict) for each in record.environments):
        yield "environments"
    if not all(isinstance(each, dict) for each in record.files.values()):
        yield "files"


_KINDS = {
    "number": int,
    "run_id": str,
    "folder": str | None,
    "summary": dict,
    "config": dict,
    "environments": list,
    "files": dict,
    "own_code": dict,
    "parameters": int | None,
    "resumed_after": list,
    "seconds_recording": float,
    "dataset_digest": str | None,
    "engine_reason": str | None,
    "test_answers": list | None,
    "ended": str | None,
    "error": str | None,
}


HISTORY_FILE = "history.csv"


@dataclass(frozen=True)
class EpochRow:
    """One row of `history.csv`: mean and standard deviation of the iterations' losses, and the time in seconds.

    The last epoch of a run that ended within it is not `complete`.
    """

    epoch: int
    loss_mean: float
    loss_std: float
    seconds: float
    examples_per_second: float
    complete: bool = True


def as_csv(rows: Sequence[Any], kind: type) -> bytes:
    """Return rows of the dataclass `kind` as lines of a CSV file, without its header."""
    text = io.StringIO()
    csv.DictWriter(text, [each.name for each in fields(kind)], lineterminator="\n").writerows(map(asdict, rows))
    return text.getvalue().encode()


def header_of(kind: type) -> bytes:
    """Return the first line of a CSV file of rows of the dataclass `kind`."""
    return (",".join(each.name for each in fields(kind)) + "\n").encode()


def write_history(folder: Path, history: Sequence[EpochRow]) -> None:
    """Replace `history.csv` in `folder`. Raises OSError if it cannot be written."""
    replace_file(folder / HISTORY_FILE, header_of(EpochRow) + as_csv(history, EpochRow))


def read_history(folder: Path, signature: dict[str, Any] | None = None) -> list[EpochRow]:
    """Read the epochs in `history.csv`, from the first; with a record's `signature`, those that it says are there.

    Raises `UnreadableRecord` if they cannot be read, or are others.
    """
    return read_rows(folder / HISTORY_FILE, signature, history_from)


def history_from(content: bytes, name: str) -> list[EpochRow]:
    """Return the epochs of a CSV file's `content`. Raises `UnreadableRecord`, which names the file `name`."""
    names = [each.name for each in fields(EpochRow)]
    # Before format 3 of the record every epoch was complete.
    is_new = content.startswith(header_of(EpochRow))
    rows = parse_csv(content, name, names if is_new else names[:-1])
    try:
        history = [_row(**row) for row in rows]
    except (ValueError, KeyError) as error:
        raise UnreadableRecord(f"{name}: {reason_of(error)}") from error
    if [row.epoch for row in history] != list(range(1, len(history) + 1)):
        raise UnreadableRecord(f"{name}: its epochs do not count up from 1")
    return history


def _row(epoch: str, complete: str = "True", **figures: str) -> EpochRow:
    numbers = {name: float(text) for name, text in figures.items()}
    return EpochRow(int(epoch), **numbers, complete={"True": True, "False": False}[complete])


def seconds_per_epoch(history: Sequence[EpochRow], resumed_after: Sequence[int]) -> float | None:
    """Return the median seconds of the epochs that are not the first of their process; of all if there are no others.

    The run's first epoch, and those that follow an epoch in `resumed_after`, pay for warming up. Only complete epochs
    count; None if there is none.
    """
    first = {1} | {epoch + 1 for epoch in resumed_after}
    complete = [row for row in history if row.complete]
    seconds = [row.seconds for row in complete if row.epoch not in first] or [row.seconds for row in complete]
    return median(seconds) if seconds else None


def first_epoch_below(history: Sequence[EpochRow], threshold: float) -> int | None:
    """Return the first epoch whose mean loss is below `threshold`; None if there is none. It is never guessed."""
    return next((row.epoch for row in history if row.complete and row.loss_mean < threshold), None)


def seconds_until(history: Sequence[EpochRow], iterations: int, iterations_per_epoch: int, trained: int) -> float:
    """Return the seconds of training up to an iteration, counted from 1, of a run that has `trained` so many.

    An epoch's seconds are shared out evenly over its iterations.
    """
    epochs, rest = divmod(iterations, iterations_per_epoch)
    whole = math.fsum(row.seconds for row in history[:epochs])
    of_epoch = min(iterations_per_epoch, trained - epochs * iterations_per_epoch)
    return whole + (history[epochs].seconds * rest / of_epoch if rest else 0.0)


EVALUATIONS_FILE = "evaluations.csv"


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
    replace_file(folder / EVALUATIONS_FILE, header_of(EvaluationRow) + as_csv(rows, EvaluationRow))


def read_evaluations(folder: Path, signature: dict[str, Any] | None = None) -> list[EvaluationRow]:
    """Read the evaluations in `evaluations.csv`; with a record's `signature`, those that it says are there.

    Raises `UnreadableRecord` if they cannot be read, or are others.
    """
    return read_rows(folder / EVALUATIONS_FILE, signature, evaluations_from)


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
