"""Sweeps on disk as this program would have left them, made in no time: for tests of what reads them."""

from pathlib import Path

from digits_sweep.report.analysis.study import Study, load_study
from digits_sweep.results.history import EpochRow, outcome
from digits_sweep.results.record import Record, write_history, write_record
from digits_sweep.results.summary import publish_summary
from digits_sweep.results.sweep import DatasetChoice, Manifest, write_manifest

ENVIRONMENT = {"host": "here", "cpu": "a processor", "cpu_cores": 2, "python": "3.11", "git_commit": "0" * 40}


def losses_reaching(epoch: int | None, num_epochs: int = 10) -> list[float]:
    """Losses that fall below 1.6 first in `epoch`, or never."""
    return [1.7 if epoch is None or number < epoch else 1.5 for number in range(1, num_epochs + 1)]


def add_run(sweep: Path, name: str, losses: list[float], seconds: float = 1.0, **columns) -> None:
    """One run with these losses, an epoch of which took `seconds`; `columns` replaces anything in its summary."""
    status, error = columns.pop("status", "completed"), columns.pop("error", None)
    record = Record(len(list(sweep.glob("*/record.json"))), status=status, error=error, environment=ENVIRONMENT)
    record.test_answers = columns.pop("test_answers", [100] * 10)
    record.resumed_after = columns.pop("resumed_after", [])
    record.config = columns.pop("config", {})
    history = [EpochRow(number, loss, 0.05, seconds, 60_000 / seconds) for number, loss in enumerate(losses, 1)]
    batch_size = columns.setdefault("batch_size", 20)
    record.summary = {
        **{"lr": 1e-4, "weight_decay": 5e-4, "seed": 0, "loss_threshold": 1.6, "dataset": "mnist"},
        **{"train_samples": 60_000, "model": "mlp", "hidden_size": 128, "optimizer": "adam", "engine": "closed_form"},
        **{"device": "cpu", "num_threads": 1, "iterations_per_epoch": -(-60_000 // batch_size), "test_accuracy": 0.95},
        **{"concurrent_runs": 1, "torch_version": "2.15.0", "git_commit": "0" * 40},
        **outcome(history, 1.6, 60_000),
        **columns,
    }
    (sweep / name).mkdir(parents=True)
    write_record(sweep / name, record)
    write_history(sweep / name, history)


def finished(
    sweep: Path, command: tuple[str, ...] = ("-m",), not_begun: tuple[str, ...] = (), note: str | None = None
) -> Study:
    """The sweep with its manifest and its tables, read back."""
    sweep.mkdir(parents=True, exist_ok=True)
    runs = sorted(path.parent.name for path in sweep.glob("*/record.json"))
    choice = DatasetChoice("mnist", "mnist_sample" if note else "mnist", "abc", note)
    write_manifest(sweep, Manifest(list(command), [*runs, *not_begun], [{}] * len([*runs, *not_begun]), [choice]))
    publish_summary(sweep, sweep.parent)
    return load_study(sweep)
