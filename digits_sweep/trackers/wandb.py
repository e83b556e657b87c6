"""Weights & Biases: a run for every run, offline unless told otherwise."""

import hashlib
from pathlib import Path

import wandb

from digits_sweep.results.history import EpochRow
from digits_sweep.results.record import Record
from digits_sweep.trackers.protocol import final_metrics, metrics_of


class WandbTracker:
    """Metrics by epoch, the configuration, the run's folder as artifact. A run is known by an id made of its path."""

    def __init__(self, mode: str, project: str, folder: str) -> None:
        self.mode, self.project, self.folder = mode, project, folder
        self.runs: dict[str, wandb.Run] = {}

    def begin(self, run_dir: Path, record: Record, known_as: str | None) -> str:
        known_as = known_as or hashlib.sha256(str(run_dir.resolve()).encode()).hexdigest()[:16]
        self.runs[known_as] = wandb.init(
            project=self.project,
            id=known_as,
            name=f"{run_dir.parent.name}/{run_dir.name}",
            config=record.config,
            dir=self.folder,
            mode=self.mode,  # type: ignore[arg-type]  # rules.py holds it to wandb's words
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(silent=True),
        )
        return known_as

    def epoch(self, known_as: str, row: EpochRow) -> None:
        self.runs[known_as].log(metrics_of(row), step=row.epoch)

    def end(self, known_as: str, run_dir: Path, record: Record) -> None:
        run = self.runs.pop(known_as)
        run.summary.update(final_metrics(record))
        folder = wandb.Artifact(f"run-{known_as}", type="run")
        folder.add_dir(str(run_dir))
        run.log_artifact(folder)
        run.finish(exit_code=0 if record.status == "completed" else 1)
