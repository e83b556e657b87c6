"""One run on disk: `record.json`, and the rows of `history.csv` and `evaluations.csv` beside it; where it was made.

What a file may hold is said by the types below: msgspec refuses everything else, with the place and the reason.
"""

import csv
import hashlib
import io
import json
import os
import platform
import secrets
import socket
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, astuple, dataclass, field, fields
from enum import Enum
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypedDict, TypeVar

import msgspec
from msgspec import Meta

from digits_sweep import __version__
from digits_sweep.config.keys import with_moved_keys
from digits_sweep.errors import (
    LONGEST_ERROR,
    LONGEST_REASON,
    CannotRecord,
    UnreadableRecord,
    shortened,
)
from digits_sweep.results.files import (
    RECORD_BYTES,
    check_format,
    decode_json,
    latest_readable,
    read_file,
    replace_file,
)

# 3: the first format that was released. 4: what can be computed from the other files is in them alone.
FORMAT = 4
RECORD_FILE, HISTORY_FILE, EVALUATIONS_FILE = "record.json", "history.csv", "evaluations.csv"
MEASURES_FILE = "measures.csv"
# Parsed, a row takes some 500 bytes, whatever its size in the file.
ROW_BYTES, MOST_ROWS = 500, 1_000_000

# Why a run has ended before its last epoch; these are the reasons for which a sweep stops a command.
ALL_TARGETS, MAX_EXAMPLES = "all targets reached", "trainer.max_examples reached"
THRESHOLD, NO_NUMBER = "trainer.loss_threshold reached", "its loss is no number"
ENDED_BY_THE_SWEEP = (ALL_TARGETS, MAX_EXAMPLES, THRESHOLD, NO_NUMBER)

Count = Annotated[int, Meta(ge=0, le=10**15)]
Size = Annotated[int, Meta(ge=1, le=10**9)]
Seconds = Annotated[float, Meta(ge=0, le=1e12)]
Share = Annotated[float, Meta(ge=0, le=1)]
# The most that a record may name: far above what a run has, and few enough for a table and a figure.
MOST_KEYS = 200
MOST_CLASSES = 50_000
LONGEST_VALUE = 1_000
Row = TypeVar("Row")


class Status(str, Enum):
    """How a run stands."""

    PLANNED = "planned"
    COMPLETED = "completed"
    DIVERGED = "diverged"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    UNKNOWN = "unknown"

    __str__ = str.__str__

    @property
    def has_ended(self) -> bool:
        """Whether the run was trained to its end, so that a threshold that it has not reached is a miss."""
        return self in (Status.COMPLETED, Status.DIVERGED)


class Environment(TypedDict, total=False):
    """What epochs were made with, from epoch `from_epoch` on."""

    host: str | None
    platform: str | None
    cpu: str | None
    cpu_cores: int | None
    python: str | None
    packages: dict[str, str | None]
    git_commit: str | None
    torch: str | None
    from_epoch: Count


@dataclass(frozen=True)
class Written:
    """How much of a file that grows belongs to a run: its length in bytes, and the CRC-32 of so much of it."""

    bytes: Count
    crc32: Count


@dataclass
class Record:
    """What only the run itself knows; what follows from it and from the files beside it is computed when it is read.

    `status` is `planned` until the run starts, `interrupted` until it ends, so that the record of a killed run says so.
    `run_id` is the run's own, in its checkpoint too; `folder` is the name of its folder when it was planned, `number`
    its place in the sweep. `config` is the whole resolved configuration, `image_shape` the shape of one image as a
    network sees it, which has whole numbers if they are `tokens`. `ended` says why a completed run has ended before
    its last epoch, if it was asked to. `environments` has an entry for every time that something changed.
    `resumed_after` has the last finished epoch for every time that the run was resumed, `seconds_recording` the time
    that writing all this took. `test_answers` counts the predictions on the test set, one number a class, and
    `classes_never_predicted` the classes of its digits that have none. `not_measured` has the reason for every column
    that could not be measured, `arithmetic` says how a GPU computes. `parameters` counts the numbers that are trained,
    `own_code` has the SHA-256 of every file of the user's code. `concurrent_runs` is the most runs of the sweep that
    trained at once on the machine. `files` says how long the files beside the record are, as soon as the run has ended.
    """

    number: Count
    status: Status = Status.PLANNED
    run_id: str = field(default_factory=lambda: secrets.token_hex(8))
    folder: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    dataset: str | None = None
    dataset_digest: str | None = None
    train_samples: Size | None = None
    tokens: bool = False
    image_shape: Annotated[list[Size], Meta(max_length=16)] | None = None
    engine: str | None = None
    engine_reason: str | None = None
    device: str | None = None
    num_threads: Size | None = None
    flush_denormal: bool | None = None
    arithmetic: str | None = None
    parameters: Count | None = None
    own_code: dict[str, str] = field(default_factory=dict)
    started_at: str | None = None
    environments: list[Environment] = field(default_factory=list)
    resumed_after: list[Count] = field(default_factory=list)
    concurrent_runs: Size = 1
    seconds_setup: Seconds | None = None
    seconds_recording: Seconds = 0.0
    test_answers: list[Count] | None = None
    classes_never_predicted: Count | None = None
    test_accuracy: Share | None = None
    peak_memory_mb: Seconds | None = None
    peak_cuda_memory_mb: Seconds | None = None
    not_measured: dict[str, str] = field(default_factory=dict)
    files: dict[str, Written] = field(default_factory=dict)
    ended: str | None = None
    error: str | None = None
    format: int = FORMAT

    @property
    def environment(self) -> Environment:
        """What the last epochs were made with."""
        return self.environments[-1] if self.environments else {}

    @property
    def error_line(self) -> str | None:
        """The last line of the error, which names it; None if there is none."""
        lines = self.error.strip().splitlines() if self.error else []
        return shortened(lines[-1], LONGEST_REASON) if lines else None


@dataclass(frozen=True)
class EpochRow:
    """One row of `history.csv`: mean and standard deviation of the iterations' losses, and the time in seconds.

    `iterations` and `examples` are those of the run up to its end. The last epoch of a run that ended within it is not
    `complete`.
    """

    epoch: Size
    loss_mean: float
    loss_std: float
    seconds: Seconds
    examples_per_second: float
    complete: bool = True
    iterations: Count = 0
    examples: Count = 0


@dataclass(frozen=True)
class EvaluationRow:
    """One row of `evaluations.csv`: a run at frozen weights after so many iterations, examples and seconds of training.

    Losses are means and errors shares of the evaluation's training digits and test digits; `classes_never_predicted`
    counts those on the test digits; without classes, both are empty, and so is what a loop of the user's did not
    measure. `running_loss` is the mean over the last twentieth of an epoch; empty before there are as many. The
    gradient's |G|^2, tr(Sigma) and their ratio are empty if they are not measured, and so is the noise scale in the
    optimizer's own metric.
    """

    iterations: Count
    examples: Count
    seconds: Seconds
    train_loss: float | None
    train_error: float | None
    test_loss: float | None
    test_error: float | None
    classes_never_predicted: Count | None
    running_loss: float | None = None
    gradient_squared_norm: float | None = None
    gradient_trace: float | None = None
    noise_scale: float | None = None
    optimizer_noise_scale: float | None = None


@dataclass(frozen=True)
class MeasureRow:
    """One row of `measures.csv`: what a loop of the user's measured at frozen weights besides, such as `f1`.

    Several rows may have the same number of `iterations`; losses and errors there are in `evaluations.csv`.
    """

    iterations: Count
    measure: str
    value: float
    # Rows count up, and of these several may be equal.
    repeats: ClassVar[bool] = True


def write_record(folder: Path, record: Record) -> None:
    """Replace `record.json` in `folder`, so that it survives a power cut. Of a long error both ends are kept.

    Its first line has the SHA-256 of all that follows. Raises OSError if it cannot be written, and `CannotRecord` if it
    would be too large to be read back.
    """
    record.error = shortened(record.error, LONGEST_ERROR) if record.error else record.error
    content = msgspec.json.format(msgspec.json.encode(record), indent=2).removeprefix(b"{\n") + b"\n"
    content = _first_line(content) + content
    if len(content) > RECORD_BYTES:
        reason = f"{len(content):,} bytes are more than the {RECORD_BYTES:,} that are read; give shorter settings"
        raise CannotRecord(f"{folder / RECORD_FILE}: {reason}")
    replace_file(folder / RECORD_FILE, content, keep_previous=True)


def _first_line(content: bytes) -> bytes:
    return b'{\n  "sha256": "%s",\n' % hashlib.sha256(content).hexdigest().encode()


def read_record(folder: Path) -> Record:
    """Read the record in `folder`; if it is damaged, the one before it, as `interrupted` and with an `error`.

    Raises `NewerFormat` if a newer version of this program wrote it, `UnreadableRecord` if neither can be read.
    """
    record, damage = latest_readable(folder / RECORD_FILE, _read_record)
    if damage:
        record.status, record.error = Status.INTERRUPTED, f"{damage}; this is the record before it"
    return record


def _read_record(path: Path) -> Record:
    content = read_file(path, RECORD_BYTES)
    values = decode_json(content, dict[str, Any], path.name)
    if (known := values.get("format")) == 3:
        checksum = values.pop("sha256", None)
        if checksum != hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest():
            raise UnreadableRecord(f"{path.name}: corrupt: checksum mismatch")
        return record_of_format_3(values, path.name)
    check_format(path.name, known, FORMAT)
    head, line, rest = content.partition(b'",\n')
    if head + line != _first_line(rest):
        raise UnreadableRecord(f"{path.name}: corrupt: checksum mismatch")
    return decode_json(content, Record, path.name)


def record_of_format_3(values: dict[str, Any], name: str) -> Record:
    """Return the record that an earlier version of this program wrote as `values` into the file `name`.

    Its `summary` held what is a field now, beside the columns that are computed now. Raises `UnreadableRecord` if it is
    no such record.
    """
    try:
        values = {**values["summary"], **values, "format": FORMAT, "files": {}}
        values["config"] = with_moved_keys(values["config"])
        return msgspec.convert({key: value for key, value in values.items() if value is not None}, Record)
    except (msgspec.ValidationError, KeyError, TypeError) as error:
        raise UnreadableRecord(f"{name}: not a record of format 3 ({error})") from error


def header_of(kind: type) -> bytes:
    """Return the first line of a CSV file of rows of the dataclass `kind`."""
    return (",".join(each.name for each in fields(kind)) + "\n").encode()


def rows_as_csv(rows: Sequence[Any], columns: int | None = None) -> bytes:
    """Return rows, which are dataclasses, as lines of a CSV file, without its header: of all columns, or the first."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(astuple(row)[:columns] for row in rows)
    return text.getvalue().encode()


def rows_of(
    content: bytes, kind: type[Row], name: str, has_ended: bool = True, most_rows: int = MOST_ROWS
) -> list[Row]:
    """Return the rows of the dataclass `kind` that a CSV file holds; `name` is that of the file, for messages.

    Of a run that has not ended, the last rows may be half written: those up to the first one that is not whole count.
    Raises `UnreadableRecord` if there is something else, more than `most_rows`, or if the first column does not count
    up.
    """
    columns = [each.name for each in fields(kind)]  # type: ignore[arg-type]
    # An earlier version of this program wrote fewer: those that every row has had from the start, and some more.
    fewest = sum(each.default is MISSING for each in fields(kind))  # type: ignore[arg-type]
    try:
        text = content.decode("utf-8", "strict" if has_ended else "replace")
        if not has_ended:
            text = text[: text.rfind("\n") + 1].partition("\0")[0]
        if text.count("\n") - 1 > most_rows:
            raise ValueError(f"more than {most_rows:,} rows")
        lines = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = next(lines, [])
        if len(header) < fewest or header != columns[: len(header)]:
            raise ValueError(f"its columns are not {','.join(columns)}")
        return list(_counted_up(lines, header, kind, has_ended))
    except (ValueError, csv.Error, msgspec.ValidationError) as error:
        raise UnreadableRecord(f"{name}: {str(error).splitlines()[0]}") from error


def _counted_up(lines: Iterable[list[str]], header: list[str], kind: type[Row], has_ended: bool) -> Iterator[Row]:
    last = -1
    for line in lines:
        try:
            if len(line) != len(header):
                raise ValueError("a row has more or fewer cells than columns")
            cells = {name: text or None for name, text in zip(header, line, strict=True)}
            row = msgspec.convert(cells, kind, strict=False)
            count = getattr(row, header[0])
            if count < last or (count == last and not getattr(kind, "repeats", False)):
                raise ValueError(f"its {header[0]} does not count up")
        except (ValueError, msgspec.ValidationError):
            if has_ended:
                raise
            return
        yield row
        last = count


PACKAGES = ("torch", "torchvision", "numpy", "pandas", "hydra-core", "omegaconf")


@cache
def describe_environment() -> dict[str, object]:
    """Return everything outside the configuration that a figure may depend on, as JSON-ready values."""
    return {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cpu_cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {"digits_sweep": __version__} | {name: _installed(name) for name in PACKAGES},
        "git_commit": git_commit(),
    }


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def git_commit() -> str | None:
    """Return the commit of this program's own checkout, with `-dirty` if files differ; None if it runs from elsewhere.

    A repository that the program is merely installed in, such as the user's own with a `.venv`, does not count.
    """
    checkout = Path(__file__).resolve().parents[2]
    root = _git(checkout, "rev-parse", "--show-toplevel")
    if root is None or Path(root).resolve() != checkout or not (checkout / "pyproject.toml").is_file():
        return None
    return _git(checkout, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git prints about the repository that `folder` lies in, or None if there is none or no git."""
    # A hook of another repository, which this program may be started from, names that one in GIT_DIR. And looking
    # must not write to the index.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        found = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=kept | {"GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
