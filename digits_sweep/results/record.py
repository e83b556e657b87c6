"""One run on disk: `record.json` in its own folder, versioned, replaced in one step."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from digits_sweep.errors import UnreadableRecord
from digits_sweep.results.files import latest_readable, replace_file
from digits_sweep.results.history import one_line

# 1: the first one. 2: `resumed_after` and `seconds_recording`.
FORMAT = 2


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
    `summary` holds the columns of `summary.csv` (see `results.columns`) that this run fills, `config` the whole
    resolved configuration. `resumed_after` has the last finished epoch for every time that the run was resumed,
    `seconds_recording` the time that writing all this took. `test_answers` counts the predictions on the test set, one
    number a class.
    """

    number: int
    status: Status = Status.INTERRUPTED
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    resumed_after: list[int] = field(default_factory=list)
    dataset_digest: str | None = None
    engine_reason: str | None = None
    flush_denormal: bool | None = None
    seconds_setup: float | None = None
    seconds_recording: float = 0.0
    test_answers: list[int] | None = None
    error: str | None = None


def write_record(folder: Path, record: Record) -> None:
    """Replace `record.json` in `folder`. Raises OSError if it cannot be written."""
    text = json.dumps({"format": FORMAT, **_json_ready(asdict(record))}, indent=2, allow_nan=False)
    replace_file(folder / "record.json", text + "\n", keep_previous=True)


def _json_ready(value: Any) -> Any:
    """JSON has no NaN and no infinity; as text they stay what they are in the table."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    if isinstance(value, dict):
        return {key: _json_ready(each) for key, each in value.items()}
    return [_json_ready(each) for each in value] if isinstance(value, list) else value


def read_record(folder: Path) -> Record:
    """Read the record in `folder`; if it is damaged, the one before it, with an `error` that says so.

    Raises `UnreadableRecord` if neither can be read: corrupt, of another format, or no record at all.
    """
    record, damage = latest_readable(folder / "record.json", _read_record)
    if damage:
        record.status, record.error = Status.INTERRUPTED, f"{damage}; this is the record before it"
    return record


def _read_record(path: Path) -> Record:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") not in (1, FORMAT):
            raise ValueError(f"not of format {FORMAT}")
        content["status"] = Status(content["status"])
        record = Record(**content)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UnreadableRecord(f"{path.name}: not a record of format {FORMAT} ({one_line(error)})") from error
    if wrong := next(_unlike_a_record(record), None):
        raise UnreadableRecord(f"{path.name}: {wrong} is not what a record holds")
    return record


def _unlike_a_record(record: Record) -> Iterator[str]:
    yield from (name for name, kind in _KINDS.items() if not isinstance(getattr(record, name), kind))
    if record.status.has_ended and not {"epochs", "batch_size"} <= record.summary.keys():
        yield "summary"
    if not all(
        isinstance(count, int) and count >= 0 for count in [record.summary.get("epochs", 0), *record.resumed_after]
    ):
        yield "epochs"
    if not all(isinstance(count, int) for count in record.test_answers or ()):
        yield "test_answers"
    if not isinstance(record.environment.get("packages") or {}, dict):
        yield "environment"


_KINDS = {
    "number": int,
    "summary": dict,
    "config": dict,
    "environment": dict,
    "resumed_after": list,
    "seconds_recording": float,
    "dataset_digest": str | None,
    "engine_reason": str | None,
    "test_answers": list | None,
    "error": str | None,
}
