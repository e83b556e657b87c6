"""One run on disk: `record.json` and `history.csv` in its own folder, versioned, each replaced in one step."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from digits_sweep.results.files import UnreadableRecord, latest_readable, replace_file
from digits_sweep.results.history import EpochRow

# 1: the first one. 2: `resumed_after` and `seconds_recording`.
FORMAT = 2

STATUSES = ("completed", "diverged", "interrupted", "failed")


@dataclass
class Record:
    """A run as it stands.

    `status` starts as `interrupted` and changes only when the run ends, so that a run that was killed says so.
    `summary` holds the columns of `summary.csv` (see `results.summary.COLUMNS`) that this run fills, `config` the
    whole resolved configuration. `resumed_after` has the last finished epoch for every time that the run was picked
    up again, `seconds_recording` says what writing all this took. `test_answers` counts the answers on the test
    digits, one number a class.
    """

    number: int
    status: str = "interrupted"
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
    """Replace `record.json` in `folder`. Raises OSError where that cannot be written."""
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
    """The record in `folder`; where it is torn, the one before it, with an `error` that says so.

    Raises `UnreadableRecord` where neither can be read: torn, of another format, or no record at all.
    """
    record, damage = latest_readable(folder / "record.json", _read_record)
    if damage:
        record.status, record.error = "interrupted", f"{damage}; this is the record before it"
    return record


def _read_record(path: Path) -> Record:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") not in (1, FORMAT):
            raise ValueError(f"not of format {FORMAT}")
        record = Record(**content)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UnreadableRecord(f"{path.name}: not a record of format {FORMAT} ({_reason(error)})") from error
    if wrong := next(_unlike_a_record(record), None):
        raise UnreadableRecord(f"{path.name}: {wrong} is not what a record holds")
    return record


def _unlike_a_record(record: Record) -> Iterator[str]:
    yield from (name for name, kind in _KINDS.items() if not isinstance(getattr(record, name), kind))
    if record.status not in STATUSES:
        yield "status"
    if record.status in ("completed", "diverged") and not {"epochs", "batch_size"} <= record.summary.keys():
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
    "status": str,
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


# What a whole sweep has in common, and how its digits are brought in: nothing of it changes a loss.
CHANGES_NO_RESULT = frozenset(
    {"outputs", "resume", "dry_run", "fail_fast", "tracker"}
    | {"data.root", "data.mirrors", "data.timeout_seconds", "data.fallback", "data.num_workers"}
)


def changes_results(key: str) -> bool:
    """Whether the value of `data.batch_size` and its like may change what a run comes to."""
    return key not in CHANGES_NO_RESULT and key.partition(".")[0] not in CHANGES_NO_RESULT


def results_of(config: dict[str, Any]) -> dict[str, Any]:
    """Every key of a record's configuration that may change a result, with its value."""
    return {key: value for key, value in flat(config) if changes_results(key)}


def flat(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """A record's configuration key by key: `data.batch_size` and its like, with their values."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def write_history(folder: Path, history: Sequence[EpochRow]) -> None:
    """Replace `history.csv` in `folder`. Raises OSError where that cannot be written."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [each.name for each in fields(EpochRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in history)
    replace_file(folder / "history.csv", text.getvalue(), keep_previous=True)


def read_history(folder: Path) -> list[EpochRow]:
    """The epochs in `folder`'s `history.csv`, from the first; where it is torn, those of the one before it.

    Raises `UnreadableRecord` where neither can be read.
    """
    history, _ = latest_readable(folder / "history.csv", _read_history)
    return history


def _read_history(path: Path) -> list[EpochRow]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            history = [
                EpochRow(
                    epoch=int(row["epoch"]),
                    loss_mean=float(row["loss_mean"]),
                    loss_std=float(row["loss_std"]),
                    seconds=float(row["seconds"]),
                    examples_per_second=float(row["examples_per_second"]),
                )
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UnreadableRecord(f"{path.name}: {_reason(error)}") from error
    if [row.epoch for row in history] != list(range(1, len(history) + 1)):
        raise UnreadableRecord(f"{path.name}: its epochs do not count up from 1")
    return history


def _reason(error: Exception) -> str:
    """One line, without the path of the file, which its folder's row names already."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.splitlines() or [type(error).__name__])[0]
