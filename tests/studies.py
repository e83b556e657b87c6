"""Sweeps on disk as this program leaves them, written without any training: for tests of what reads them."""

import zlib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from digits_sweep.report.study import Study, load_study
from digits_sweep.results.columns import COLUMNS
from digits_sweep.results.losses import LOSSES_FILE, Losses
from digits_sweep.results.record import (
    EVALUATIONS_FILE,
    HISTORY_FILE,
    EpochRow,
    EvaluationRow,
    Record,
    Status,
    Written,
    header_of,
    rows_as_csv,
    write_record,
)
from digits_sweep.results.sweep import DatasetChoice, Manifest, RecordedSweep, publish_summary, write_manifest

ENVIRONMENT = {
    "host": "here", "cpu": "a processor", "cpu_cores": 2, "python": "3.11", "torch": "2.15.0", "git_commit": "0" * 40,
    "from_epoch": 1,
}  # fmt: skip
CONFIG: dict[str, Any] = {
    "data.name": "mnist", "data.batch_size": 20, "data.scale": "unit", "data.root": "somewhere",
    "model.name": "mlp", "model.head": "softmax", "model.num_classes": 10, "model.hidden_size": 128,
    "model.hidden_layers": 2, "model.activation": "relu",
    "optimizer.name": "adam", "optimizer.lr": 1e-4, "optimizer.weight_decay": 5e-4,
    "optimizer.betas": [0.9, 0.999], "optimizer.eps": 1e-8,
    "engine.name": "auto", "trainer.num_epochs": 30, "trainer.loss_threshold": 1.6, "trainer.stop_at_threshold": False,
    "seed": 0, "device": "auto", "num_threads": "auto",
}  # fmt: skip


def losses_reaching(epoch: int | None, num_epochs: int = 10) -> list[float]:
    """Losses that fall below 1.6 first in `epoch`, or never."""
    return [1.7 if epoch is None or number < epoch else 1.5 for number in range(1, num_epochs + 1)]


def add_run(
    sweep: Path,
    name: str,
    losses: Sequence[float],
    seconds: float = 1.0,
    *,
    config: dict[str, Any] | None = None,
    status: str = "completed",
    error: str | None = None,
    test_answers: Sequence[int] = (100,) * 10,
    resumed_after: Sequence[int] = (),
    evaluations: Sequence[EvaluationRow] = (),
    **columns: Any,
) -> None:
    """Write one run with these losses, an epoch of which took `seconds`.

    `config` has keys by their full name, such as `data.scale`; a None there removes the key. `columns` has cells of the
    run's row; the configuration agrees with them.
    """
    keys = {column.keys[0]: columns[column.name] for column in COLUMNS if column.keys and column.name in columns}
    flat = {key: value for key, value in (CONFIG | keys | (config or {})).items() if value is not None}
    samples = columns.get("train_samples", 60_000)
    per_epoch = -(-samples // flat["data.batch_size"])
    if "final_loss" in columns:
        losses = [*losses[:-1], float(columns["final_loss"])]
    history = [
        EpochRow(number, loss, 0.05, seconds, samples / seconds, True, number * per_epoch, number * samples)
        for number, loss in enumerate(losses, 1)
    ]
    record = Record(
        number=len(list(sweep.glob("*/record.json"))),
        status=Status(status),
        error=error,
        environments=[ENVIRONMENT | ({"torch": columns["torch_version"]} if "torch_version" in columns else {})],
        test_answers=list(test_answers),
        resumed_after=list(resumed_after),
        config=_nested(flat),
        **{"dataset": "mnist", "train_samples": samples, "engine": "closed_form", "device": "cpu", "num_threads": 1}
        | {"test_accuracy": 0.95, "classes_never_predicted": 0}
        | {name: value for name, value in columns.items() if name in FACTS},
    )
    run_dir = sweep / name
    run_dir.mkdir(parents=True)
    write_rows(run_dir / HISTORY_FILE, EpochRow, history)
    crossing = _crossing(losses, flat["trainer.loss_threshold"], per_epoch, columns)
    np.save(run_dir / LOSSES_FILE, _losses(len(losses) * per_epoch, crossing))
    if evaluations:
        write_rows(run_dir / EVALUATIONS_FILE, EvaluationRow, evaluations)
    write_record(run_dir, record)


FACTS = {each.name for each in fields(Record)} - {"status", "error", "config"}


def _crossing(losses: Sequence[float], threshold: float, per_epoch: int, columns: dict[str, Any]) -> int | None:
    """The iteration at which the running loss is to cross: as the columns say, or with the end of the first epoch."""
    if "iterations_to_threshold" in columns:
        return columns["iterations_to_threshold"]
    reached = next((number for number, loss in enumerate(losses, 1) if loss < threshold), None)
    return reached and reached * per_epoch


def _losses(count: int, crossing: int | None) -> Losses:
    """Losses whose running loss falls below any threshold with iteration `crossing`, from 1, and not before."""
    made = np.full(count, 2.3, dtype="<f4")
    if crossing:
        made[crossing - 1] = -1e9
    return made


def write_rows(path: Path, kind: type, rows: Sequence[Any]) -> Written:
    """Write a file of rows, and return how much that is."""
    content = header_of(kind) + rows_as_csv(rows)
    path.write_bytes(content)
    return Written(len(content), zlib.crc32(content))


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for key, value in flat.items():
        *groups, name = key.split(".")
        holder = config
        for group in groups:
            holder = holder.setdefault(group, {})
        holder[name] = value
    return config


def finished(
    sweep: Path, command: tuple[str, ...] = ("-m",), not_started: tuple[str, ...] = (), note: str | None = None
) -> Study:
    """Give the sweep its manifest and its tables, and read it back."""
    sweep.mkdir(parents=True, exist_ok=True)
    runs = [*sorted(path.parent.name for path in sweep.glob("*/record.json")), *not_started]
    choice = DatasetChoice("mnist", "mnist_sample" if note else "mnist", "abc", note)
    write_manifest(sweep, Manifest(list(command), runs, [choice]))
    publish_summary(RecordedSweep(sweep), sweep.parent)
    return load_study(sweep)


def evaluation(iterations: int, batch_size: int, **measured: Any) -> EvaluationRow:
    """An evaluation after so many iterations of a run, whatever of it is not `measured` being ordinary."""
    usual = {"train_loss": 1.7, "train_error": 0.2, "test_loss": 1.7, "test_error": 0.2, "classes_never_predicted": 0}
    examples = iterations * batch_size
    return EvaluationRow(iterations=iterations, examples=examples, seconds=examples / 6e4, **{**usual, **measured})
