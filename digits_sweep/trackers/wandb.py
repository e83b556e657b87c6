"""Weights & Biases: a run of theirs for every run, offline by default."""

import hashlib
from typing import Any

from digits_sweep.results.record import EpochRow, Status
from digits_sweep.results.run import RecordedRun
from digits_sweep.trackers.protocol import final_metrics, metrics_of

MODES = ("offline", "online")


class WandbTracker:
    """Metrics by epoch, the configuration, the run's folder as artifact. A run is known by an id made of its path.

    Whatever a file says that it is known as: W&B would continue any run of the project.
    """

    def __init__(self, mode: str, project: str, folder: str) -> None:
        import wandb

        self.mode, self.project, self.folder = mode, project, folder
        self._wandb: Any = wandb
        self._runs: dict[str, Any] = {}

    @staticmethod
    def refusal(settings: dict[str, str]) -> str | None:
        return None if settings["mode"] in MODES else f"mode={settings['mode']}: choose {' or '.join(MODES)}"

    def begin(self, run: RecordedRun, known_as: str | None) -> str:
        known_as = hashlib.sha256(str(run.folder.resolve()).encode()).hexdigest()[:16]
        self._runs[known_as] = self._wandb.init(
            project=self.project,
            id=known_as,
            name=f"{run.folder.parent.name}/{run.name}",
            config=run.record.config,
            dir=self.folder,
            mode=self.mode,
            resume="allow",
            reinit="create_new",
            settings=self._wandb.Settings(silent=True),
        )
        return known_as

    def epoch(self, known_as: str, row: EpochRow) -> None:
        self._runs[known_as].log(metrics_of(row), step=row.epoch)

    def end(self, known_as: str, run: RecordedRun) -> None:
        opened = self._runs.pop(known_as)
        opened.summary.update(final_metrics(run))
        folder = self._wandb.Artifact(f"run-{known_as}", type="run")
        folder.add_dir(str(run.folder))
        opened.log_artifact(folder)
        opened.finish(exit_code=0 if run.record.status is Status.COMPLETED else 1)
