"""One run on disk: `record.json` in its own folder, versioned, checksummed, replaced in one step."""

import hashlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from digits_sweep.errors import NewerFormat, UnreadableRecord
from digits_sweep.results.disk.files import latest_readable, replace_file
from digits_sweep.results.disk.reading import RECORD_BYTES, named, read_json, reason_of

# 1: the first one. 2: `resumed_after` and `seconds_recording`. 3: a checksum, `run_id`, `folder`, `files` and
# `environments`.
FORMAT = 3
NAME = "record.json"


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
    return {"format": FORMAT, **_json_ready(vars(record))}


def write_record(folder: Path, record: Record) -> None:
    """Replace `record.json` in `folder`. Raises OSError if it cannot be written.

    It need not survive a power cut: the checkpoint, which does, holds the record as of its epoch.
    """
    content = as_content(record)
    text = json.dumps({**content, "sha256": _checksum(content)}, indent=2, allow_nan=False)
    replace_file(folder / NAME, text + "\n", keep_previous=True, durable=False)


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
    record, damage = latest_readable(folder / NAME, _read_record)
    if damage:
        record.status, record.error = Status.INTERRUPTED, f"{damage}; this is the record before it"
    return record


def _read_record(path: Path) -> Record:
    content = read_json(path, RECORD_BYTES)
    try:
        checksum = content.pop("sha256", None)
        # Earlier formats have no checksum, but one that is there holds. How a newer one makes its own is not known.
        has_one = content["format"] == FORMAT or (checksum is not None and content["format"] in range(1, FORMAT))
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
        if (written_in := content.pop("format")) not in range(1, FORMAT + 1):
            newer = isinstance(written_in, int) and written_in > FORMAT
            raise (NewerFormat if newer else UnreadableRecord)(
                f"{name}: its format {named(written_in)} is not known here"
            )
        if written_in < 3:
            environment = content.pop("environment", None) or {}
            torch_version = (content.get("summary") or {}).get("torch_version")
            content["environments"] = [environment | {"torch": torch_version, "from_epoch": 1}] if environment else []
        content["status"] = Status(content["status"])
        record = Record(**content)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UnreadableRecord(f"{name}: not a record of format {FORMAT} ({reason_of(error)})") from error
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
