"""MLflow: an MLflow run for every run, in a local SQLite store or on a server."""

import time
from datetime import datetime
from pathlib import Path

from digits_sweep.config.keys import flat
from digits_sweep.results.record import EpochRow, Status
from digits_sweep.results.run import RecordedRun
from digits_sweep.trackers.protocol import final_metrics, metrics_of

# The tag by which a run in MLflow is that of a folder.
FOLDER = "digits_sweep.folder"

# MLflow's words for how a run ended.
ENDS = {
    Status.COMPLETED: "FINISHED",
    Status.DIVERGED: "FAILED",
    Status.FAILED: "FAILED",
    Status.INTERRUPTED: "KILLED",
}


class MLflowTracker:
    """Metrics by epoch, the configuration as parameters, the run's folder as artifact. A run is known by its id."""

    def __init__(self, uri: str, experiment: str, artifacts: str) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(uri)
        # A server has a place for artifacts of its own.
        location = None if uri.startswith("http") else Path(artifacts).resolve().as_uri()
        self.experiment = self._found(experiment) or self._created(experiment, location)

    def _found(self, experiment: str) -> str | None:
        found = self.client.get_experiment_by_name(experiment)
        return found.experiment_id if found else None

    def _created(self, experiment: str, location: str | None) -> str:
        from mlflow.exceptions import MlflowException

        try:
            return self.client.create_experiment(experiment, artifact_location=location)
        except MlflowException:
            if (found := self._found(experiment)) is None:
                raise
            # Another sweep has created it in the meantime.
            return found

    def begin(self, run: RecordedRun, known_as: str | None) -> str:
        from mlflow.entities import Param

        folder = str(run.folder.resolve())
        if known_as and self._is_of(known_as, folder):
            self.client.update_run(known_as, status="RUNNING")
            return known_as
        started = 1_000 * int(datetime.fromisoformat(run.record.started_at or "").timestamp())
        made = self.client.create_run(
            self.experiment, started, {FOLDER: folder}, run_name=f"{run.folder.parent.name}/{run.name}"
        )
        # MLflow refuses a parameter of no characters.
        parameters = [Param(key, str(value)) for key, value in flat(run.record.config) if str(value)]
        self.client.log_batch(made.info.run_id, params=parameters)
        return made.info.run_id

    def _is_of(self, known_as: str, folder: str) -> bool:
        """Return whether a run is that of `folder`: who sends a sweep may have given it the name of any other run."""
        from mlflow.exceptions import MlflowException

        try:
            known = self.client.get_run(known_as)
        except MlflowException:
            return False
        return known.info.experiment_id == self.experiment and known.data.tags.get(FOLDER) == folder

    def epoch(self, known_as: str, row: EpochRow) -> None:
        self._log(known_as, metrics_of(row), row.epoch)

    def end(self, known_as: str, run: RecordedRun) -> None:
        self._log(known_as, final_metrics(run), run.epochs)
        self.client.log_artifacts(known_as, str(run.folder))
        # The end of the run is when its record was last written; it is reported some time later.
        ended = int(1_000 * (run.folder / "record.json").stat().st_mtime)
        self.client.set_terminated(known_as, ENDS[run.record.status], ended)

    def _log(self, known_as: str, metrics: dict[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        self.client.log_batch(known_as, metrics=[Metric(name, value, now, step) for name, value in metrics.items()])
