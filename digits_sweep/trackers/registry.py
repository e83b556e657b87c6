"""What a tracker is, those that there are, and what a configuration may say of them.

A new one is a class here, a line in `TRACKERS` and a YAML in `conf/tracker`.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from importlib.util import find_spec
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, Protocol

from digits_sweep.config.keys import flat
from digits_sweep.config.text import to_text
from digits_sweep.errors import InvalidConfig, not_installed
from digits_sweep.results.record import Record, Status

Figures = dict[str, float]
# In the folder of a run: each tracker's name for it, and what has been reported to it.
REPORTED = "trackers.json"
NOT_RESULTS = (REPORTED, "owner.json")


class Tracker(Protocol):
    """A service or a file format that runs are reported to.

    The constructor's parameters are the tracker's settings, all text. It imports the tracker's library, so that this
    module can be imported without it. After any exception the tracker is made anew, later. A tracker that
    accepts only some values may have a static method `refusal(settings) -> str | None`, which returns what is wrong
    as `key=value: what would be right`.
    """

    def begin(self, run_dir: Path, record: Record, known_as: str | None) -> str:
        """Open a run and return the tracker's name for it.

        `known_as` is that name if the run was opened before, perhaps by another process; the same run continues then.
        It comes from a file in the run's folder, which somebody else may have sent: a tracker makes sure that it is
        this folder's run, and opens a new one under another name if it is not. All epochs are then reported to that.
        """
        ...

    def epochs(self, known_as: str, figures: Mapping[int, Figures]) -> None:
        """Report epochs, in order and by their numbers: `loss_mean`, `loss_std` and `seconds` of each.

        They are one while a run trains, and many if the tracker was away.
        """
        ...

    def end(self, known_as: str, run_dir: Path, record: Record, figures: Figures) -> None:
        """Report the last figures of a run that has ended, and its `results_in` the folder, and close the run.

        If the run goes on later, they are reported again and replace what was there.
        """
        ...


def results_in(run_dir: Path) -> Iterator[Path]:
    """Yield every file that a run has resulted in: none that holds its folder, counts reports, or is a previous one."""
    for path in sorted(run_dir.rglob("*")):
        names = path.relative_to(run_dir).parts
        is_hidden = any(name.startswith(".") for name in names)
        if path.is_file() and not is_hidden and path.name not in NOT_RESULTS and path.suffix != ".previous":
            yield path


class TensorBoardTracker:
    """Event files in a folder of every run's own, by which the run is known.

    Scalars by epoch; the configuration and the last figures as hyper-parameters.
    """

    def __init__(self, folder: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder
        self._open = SummaryWriter
        self._writers: dict[str, Any] = {}

    @staticmethod
    def refusal(settings: dict[str, str]) -> str | None:
        if ".." in Path(settings["folder"]).parts:
            return f"folder={settings['folder']}: must be a folder inside the run's, or the full path of one for all"
        return None

    def begin(self, run_dir: Path, record: Record, known_as: str | None) -> str:
        """Open the folder that follows from that of the run, whatever a file says."""
        run_dir = run_dir.resolve()
        is_outside = Path(self.folder).is_absolute()
        known_as = str(Path(self.folder, run_dir.parent.name, run_dir.name) if is_outside else run_dir / self.folder)
        self._writers[known_as] = self._open(known_as)
        return known_as

    def epochs(self, known_as: str, figures: Mapping[int, Figures]) -> None:
        for number, row in figures.items():
            for name, value in row.items():
                self._writers[known_as].add_scalar(name, value, number)
        self._writers[known_as].flush()

    def end(self, known_as: str, run_dir: Path, record: Record, figures: Figures) -> None:
        writer = self._writers.pop(known_as)
        settings = dict(flat(record.config))
        settings = {key: value if isinstance(value, int | float) else str(value) for key, value in settings.items()}
        writer.add_hparams(settings, figures, run_name=".", global_step=int(figures.get("epochs", 0)))
        writer.close()


# The tag by which a run in MLflow is that of a folder.
FOLDER = "digits_sweep.folder"
# What a server of MLflow takes at once.
MOST_METRICS, MOST_PARAMS = 1_000, 100
# MLflow's words for how a run ended.
ENDS = {
    Status.COMPLETED: "FINISHED",
    Status.DIVERGED: "FAILED",
    Status.FAILED: "FAILED",
    Status.INTERRUPTED: "KILLED",
}


def _batches(rows: list[Any], most: int) -> Iterator[list[Any]]:
    for start in range(0, len(rows), most):
        yield rows[start : start + most]


class MLflowTracker:
    """An MLflow run for every run, in a local SQLite store or on a server; a run is known by its id there.

    Metrics by epoch, the configuration as parameters, the run's folder as artifact.
    """

    def __init__(self, uri: str, experiment: str, artifacts: str) -> None:
        import mlflow

        self._mlflow: Any = mlflow
        self.client = mlflow.MlflowClient(uri)
        # A server has a place for artifacts of its own.
        self.experiment = self._id_of(
            experiment, None if uri.startswith("http") else Path(artifacts).resolve().as_uri()
        )

    def _id_of(self, experiment: str, artifacts: str | None) -> str:
        if known := self.client.get_experiment_by_name(experiment):
            return known.experiment_id
        try:
            return self.client.create_experiment(experiment, artifact_location=artifacts)
        except self._mlflow.MlflowException:
            # Another sweep may have created it in the meantime.
            if known := self.client.get_experiment_by_name(experiment):
                return known.experiment_id
            raise

    def begin(self, run_dir: Path, record: Record, known_as: str | None) -> str:
        folder = str(run_dir.resolve())
        if known_as and self._is_of(known_as, folder):
            self.client.update_run(known_as, status="RUNNING")
            return known_as
        started = 1_000 * int(datetime.fromisoformat(record.started_at or "").timestamp())
        name = f"{run_dir.parent.name}/{run_dir.name}"
        run_id: str = self.client.create_run(self.experiment, started, {FOLDER: folder}, name).info.run_id
        # MLflow refuses a parameter of no characters.
        settings = [self._mlflow.entities.Param(key, str(value)) for key, value in flat(record.config) if str(value)]
        for params in _batches(settings, MOST_PARAMS):
            self.client.log_batch(run_id, params=params)
        return run_id

    def _is_of(self, known_as: str, folder: str) -> bool:
        """Return whether a run is that of `folder`: who sends a sweep may have given it the name of any other run."""
        try:
            known = self.client.get_run(known_as)
        except self._mlflow.MlflowException:
            return False
        return known.info.experiment_id == self.experiment and known.data.tags.get(FOLDER) == folder

    def epochs(self, known_as: str, figures: Mapping[int, Figures]) -> None:
        now, metric = time.time_ns() // 1_000_000, self._mlflow.entities.Metric
        rows = [metric(name, value, now, number) for number, row in figures.items() for name, value in row.items()]
        for metrics in _batches(rows, MOST_METRICS):
            self.client.log_batch(known_as, metrics=metrics)

    def end(self, known_as: str, run_dir: Path, record: Record, figures: Figures) -> None:
        # Of several values MLflow shows that of the last step, and of one step the newest.
        self.epochs(known_as, {0: figures})
        for path in results_in(run_dir):
            parent = path.parent.relative_to(run_dir).as_posix()
            self.client.log_artifact(known_as, str(path), None if parent == "." else parent)
        # The end of the run is when its record was last written; it is reported some time later.
        ended = int(1_000 * (run_dir / "record.json").stat().st_mtime)
        self.client.set_terminated(known_as, ENDS[record.status], ended)


class WandbTracker:
    """A run in Weights & Biases for every run, offline by default; it is known by an id made of its folder's path.

    Metrics by epoch, the configuration, the run's folder as artifact.
    """

    MODES = ("offline", "online")

    def __init__(self, mode: str, project: str, folder: str) -> None:
        import wandb

        self.mode, self.project, self.folder = mode, project, folder
        self._wandb: Any = wandb
        self._runs: dict[str, Any] = {}

    @staticmethod
    def refusal(settings: dict[str, str]) -> str | None:
        modes = WandbTracker.MODES
        return None if settings["mode"] in modes else f"mode={settings['mode']}: choose {' or '.join(modes)}"

    def begin(self, run_dir: Path, record: Record, known_as: str | None) -> str:
        """Open the run of the folder, whatever a file says: W&B would continue any run of the project."""
        known_as = hashlib.sha256(str(run_dir.resolve()).encode()).hexdigest()[:16]
        self._runs[known_as] = self._wandb.init(
            project=self.project,
            id=known_as,
            name=f"{run_dir.parent.name}/{run_dir.name}",
            config=record.config,
            dir=self.folder,
            mode=self.mode,
            resume="allow",
            reinit="create_new",
            settings=self._wandb.Settings(silent=True),
        )
        return known_as

    def epochs(self, known_as: str, figures: Mapping[int, Figures]) -> None:
        for number, row in figures.items():
            self._runs[known_as].log(row, step=number)

    def end(self, known_as: str, run_dir: Path, record: Record, figures: Figures) -> None:
        run = self._runs.pop(known_as)
        run.summary.update(figures)
        folder = self._wandb.Artifact(f"run-{known_as}", type="run")
        for path in results_in(run_dir):
            folder.add_file(str(path), path.relative_to(run_dir).as_posix())
        run.log_artifact(folder)
        run.finish(exit_code=0 if record.status is Status.COMPLETED else 1)


# By the name of the library, which is that of the extra too.
TRACKERS: dict[str, Callable[..., Tracker]] = {
    "tensorboard": TensorBoardTracker,
    "mlflow": MLflowTracker,
    "wandb": WandbTracker,
}


def check(tracker: Mapping[str, Any]) -> None:
    """Check what a configuration says of trackers: the settings of each by its name.

    Raises `InvalidConfig` with a line for every mistake: a tracker that does not exist or is not installed, a setting
    that it does not have, that is missing or is not text, or a value that it refuses.
    """
    if mistakes := [line for name, settings in tracker.items() for line in _mistakes(name, settings)]:
        raise InvalidConfig("\n".join(mistakes))


def _mistakes(name: str, settings: Any) -> Iterator[str]:
    if name not in TRACKERS:
        yield f"tracker={name}: choose {' or '.join(TRACKERS)}"
    elif find_spec(name) is None:
        yield f"tracker={name}: {not_installed(name, name)}"
    elif not isinstance(settings, dict):
        yield f"tracker.{name}={to_text(settings)}: tracker={name} chooses it, tracker=none leaves it out"
    elif wrong := list(_wrong_settings(name, settings, signature(TRACKERS[name]).parameters)):
        yield from wrong
    elif refusal := getattr(TRACKERS[name], "refusal", lambda settings: None)(settings):
        yield f"tracker.{name}.{refusal}"


def _wrong_settings(name: str, settings: dict[str, Any], known: Mapping[str, Parameter]) -> Iterator[str]:
    for key, value in settings.items():
        setting = f"tracker.{name}.{key}"
        if key not in known:
            yield f"{setting}={to_text(value)}: {name} has no such setting; choose {' or '.join(known)}"
        elif not isinstance(value, str):
            yield f"{setting}={to_text(value)}: must be text; type \"{setting}='{to_text(value)}'\""
    if missing := [key for key, each in known.items() if key not in settings and each.default is Parameter.empty]:
        yield f"tracker.{name}: {', '.join(missing)} not set; add tracker={name}, which sets what is not typed"
