"""One run on disk: `record.json` and `history.csv` in its own folder, versioned, each replaced in one step."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from digits_sweep.results.files import replace_file
from digits_sweep.results.outcome import EpochRow

# 1: the first one.
FORMAT = 1

STATUSES = ("completed", "diverged", "interrupted", "failed")


class UnreadableRecord(Exception):
    """A file of a run that cannot be read back. The text names the file and says what is wrong with it."""


@dataclass
class Record:
    """A run as it stands.

    `status` starts as `interrupted` and changes only when the run ends, so that a run that was killed says so.
    `summary` holds the columns of `summary.csv` (see `results.summary.COLUMNS`) that this run fills, `config` the
    whole resolved configuration. `test_answers` counts the answers on the test digits, one number a class.
    """

    number: int
    status: str = "interrupted"
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    dataset_digest: str | None = None
    engine_reason: str | None = None
    flush_denormal: bool | None = None
    seconds_setup: float | None = None
    test_answers: list[int] | None = None
    error: str | None = None


def write_record(folder: Path, record: Record) -> None:
    """Replace `record.json` in `folder`. Raises OSError where that cannot be written."""
    replace_file(folder / "record.json", json.dumps({"format": FORMAT, **asdict(record)}, indent=2) + "\n")


def read_record(folder: Path) -> Record:
    """The record in `folder`. Raises `UnreadableRecord` where it is torn, of another format, or no record at all."""
    path = folder / "record.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnreadableRecord(f"{path}: {error}") from error
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise UnreadableRecord(f"{path}: not a record of format {FORMAT}")
    if set(content) != {each.name for each in fields(Record)} or content["status"] not in STATUSES:
        raise UnreadableRecord(f"{path}: its fields are not those of a record of format {FORMAT}")
    return Record(**content)


def write_history(folder: Path, history: Sequence[EpochRow]) -> None:
    """Replace `history.csv` in `folder`. Raises OSError where that cannot be written."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [each.name for each in fields(EpochRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in history)
    replace_file(folder / "history.csv", text.getvalue())


def read_history(folder: Path) -> list[EpochRow]:
    """The epochs in `folder`'s `history.csv`, from the first. Raises `UnreadableRecord` where it cannot be read."""
    path = folder / "history.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [
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
        raise UnreadableRecord(f"{path}: {error}") from error
