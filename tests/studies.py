"""Sweeps on disk as this program leaves them, written without any training: for tests of what reads them."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from digits_sweep.report.study import Study, load_study
from digits_sweep.results.columns import COLUMNS, fill
from digits_sweep.results.record import (
    EVALUATIONS_FILE,
    EpochRow,
    EvaluationRow,
    Record,
    Status,
    first_epoch_below,
    write_evaluations,
    write_history,
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
    "optimizer.reference_batch_size": None, "optimizer.betas": [0.9, 0.999], "optimizer.eps": 1e-8,
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
    keys = {each.keys[0]: columns[each.name] for each in COLUMNS if each.keys and each.name in columns}
    flat = {key: value for key, value in (CONFIG | keys | (config or {})).items() if value is not None}
    history = [EpochRow(number, loss, 0.05, seconds, 60_000 / seconds) for number, loss in enumerate(losses, 1)]
    record = Record(
        number=len(list(sweep.glob("*/record.json"))),
        status=Status(status),
        error=error,
        environments=[ENVIRONMENT],
        test_answers=list(test_answers),
        resumed_after=list(resumed_after),
        config=_nested(flat),
        summary={
            **{"dataset": "mnist", "train_samples": 60_000, "engine": "closed_form", "device": "cpu", "num_threads": 1},
            **{"iterations_per_epoch": -(-60_000 // flat["data.batch_size"]), "test_accuracy": 0.95},
            "concurrent_runs": 1,
            "iterations": len(losses) * -(-60_000 // flat["data.batch_size"]),
        },
    )
    if (reached := first_epoch_below(history, flat["trainer.loss_threshold"])) is not None:
        # The running loss crosses with the end of that epoch.
        record.summary["iterations_to_threshold"] = reached * record.summary["iterations_per_epoch"]
        record.summary["examples_to_threshold"] = reached * 60_000
    fill(record, history)
    record.summary |= columns
    (sweep / name).mkdir(parents=True)
    write_history(sweep / name, history)
    if evaluations:
        write_evaluations(sweep / name, evaluations)
        path = sweep / name / EVALUATIONS_FILE
        record.files[EVALUATIONS_FILE] = {"bytes": path.stat().st_size, "sha256": sha256(path.read_bytes()).hexdigest()}
    write_record(sweep / name, record)


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
    write_manifest(sweep, Manifest(list(command), runs, [{}] * len(runs), [choice]))
    publish_summary(RecordedSweep(sweep), sweep.parent)
    return load_study(sweep)


def evaluation(iterations: int, batch_size: int, **measured: Any) -> EvaluationRow:
    """An evaluation after so many iterations of a run, whatever of it is not `measured` being ordinary."""
    usual = {"train_loss": 1.7, "train_error": 0.2, "test_loss": 1.7, "test_error": 0.2, "classes_never_predicted": 0}
    examples = iterations * batch_size
    return EvaluationRow(iterations=iterations, examples=examples, seconds=examples / 6e4, **{**usual, **measured})
