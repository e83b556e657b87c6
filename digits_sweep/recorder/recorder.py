"""A run whose training loop is somebody else's, with the files of a run of this program but for the checkpoint."""

import math
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

from digits_sweep.config.keys import FINITE, flat, is_finite
from digits_sweep.config.text import safe_name, to_text
from digits_sweep.errors import CannotRecord, UnreadableRecord
from digits_sweep.results.columns import OWN_LOOP
from digits_sweep.results.environment import describe_environment
from digits_sweep.results.files import LINK, check_plain, make_folder, remove_leftovers
from digits_sweep.results.lock import only_writer, writers_in
from digits_sweep.results.record import EpochRow, EvaluationRow, Record, Status, read_record, write_record
from digits_sweep.results.run import RecordedRun
from digits_sweep.results.sweep import (
    MANIFEST_FILE,
    Manifest,
    RecordedSweep,
    new_manifest,
    next_counter,
    publish_summary,
    read_manifest,
    write_manifest,
)
from digits_sweep.results.writing import RunWriter
from digits_sweep.training.device import PeakMemory, is_out_of_memory
from digits_sweep.training.stopwatch import Stopwatch


def add_run(sweep_dir: Path, record: Record) -> None:
    """Write a run into `sweep.json`, which is made if there is none, and its number, from 0, into its record.

    Raises `CannotRecord` if the folder is a sweep of this program's own, OSError if it cannot be written.
    """
    make_folder(sweep_dir)
    with _held(sweep_dir):
        manifest, folder = _manifest(sweep_dir), str(record.folder)
        if manifest.command or manifest.datasets:
            raise CannotRecord(f"{sweep_dir}: a sweep of python -m digits_sweep; choose another folder")
        if folder not in manifest.runs:
            manifest = replace(manifest, runs=[*manifest.runs, folder])
            write_manifest(sweep_dir, manifest)
        record.number = manifest.runs.index(folder)


def folder_of(config: dict[str, Any]) -> str:
    """Return the name of the folder of a run: all that it differs in from one in which nothing is named."""
    unnamed: dict[str, Any] = {"model": "own", "optimizer": "own", "dataset": "own", "weight_decay": 0}
    optimizer = config["optimizer"]
    values = {"model": config["model"]["name"], "optimizer": optimizer["name"], "dataset": config["data"]["name"]}
    values |= {"batch_size": config["data"]["batch_size"], "lr": optimizer["lr"]}
    values |= {"weight_decay": optimizer["weight_decay"], "seed": config["seed"], **config["settings"]}
    named = (f"{name}={to_text(value)}" for name, value in values.items() if value != unnamed.get(name))
    return safe_name("_".join(named))


def publish(sweep_dir: Path) -> None:
    """Rebuild `summary.csv` and `targets.csv` of the sweep, and of its outputs folder if it is the newest there."""
    with _held(sweep_dir):
        publish_summary(RecordedSweep(sweep_dir), _outputs(sweep_dir))


def _outputs(sweep_dir: Path) -> Path:
    return sweep_dir.absolute().parent.parent


@contextmanager
def _held(sweep_dir: Path) -> Iterator[None]:
    with only_writer(sweep_dir, waits=lambda line: None):
        yield


def _manifest(sweep_dir: Path) -> Manifest:
    if (sweep_dir / MANIFEST_FILE).exists():
        return read_manifest(sweep_dir)
    return new_manifest(next_counter(_outputs(sweep_dir)))


class Recorder:
    """Records one run of a training loop in the sweep in the folder `sweep`, such as `outputs/sweeps/mine`.

    A context manager: the run is completed at the end of the block, and failed or interrupted if that raises. Every
    epoch trains on `train_samples` examples in batches of `batch_size`, of which only the last may be smaller.
    `settings` are what else the runs of the sweep differ in, by name; `targets` thresholds by measure, such as
    `{"test_error": [0.1]}`, for which `evaluated` looks. `parameters` is the number of what is trained; `clock` is that
    of the epochs. Raises `CannotRecord` if `sweep` is one of another kind or a number is not finite, and OSError if it
    cannot be written.
    """

    def __init__(
        self,
        sweep: Path | str,
        *,
        batch_size: int,
        train_samples: int,
        lr: float,
        loss_threshold: float,
        weight_decay: float = 0.0,
        seed: int = 0,
        dataset: str = "own",
        model: str = "own",
        optimizer: str = "own",
        device: torch.device | str = "cpu",
        parameters: int | None = None,
        settings: Mapping[str, Any] | None = None,
        targets: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self.sweep_dir, self.dataset = Path(sweep), dataset
        self.batch_size, self.train_samples = batch_size, train_samples
        self.iterations_per_epoch = math.ceil(train_samples / batch_size)
        self.config = {
            "data": {"name": dataset, "batch_size": batch_size},
            "model": {"name": model},
            "optimizer": {"name": optimizer, "lr": lr, "weight_decay": weight_decay},
            "trainer": {"loss_threshold": loss_threshold},
            "engine": {"name": OWN_LOOP},
            "evaluation": {"targets": {name: list(values) for name, values in (targets or {}).items()}},
            "seed": seed,
            "settings": dict(settings or {}),
        }
        for key, value in flat(self.config):
            if not is_finite(value):
                raise CannotRecord(f"{key}={to_text(value)}: {FINITE}")
        folder = folder_of(self.config)
        self.run_dir = self.sweep_dir / folder
        self.record = Record(0, folder=folder, parameters=parameters, config=self.config)
        self.record.dataset, self.record.train_samples = dataset, train_samples
        self.record.engine, self.record.device = OWN_LOOP, str(device)
        self.recorded = RecordedRun(self.run_dir, self.record)
        self._files = RunWriter(self.run_dir, batch_size, train_samples)
        # Evaluations since the last epoch that was recorded, and the losses of the present one.
        self._new: list[EvaluationRow] = []
        self._of_epoch: list[torch.Tensor | float] = []
        self.clock, self._seconds_before = Stopwatch(torch.device(device)), 0.0
        self._open, self._has_started = ExitStack(), False

    @property
    def is_completed(self) -> bool:
        """Whether such a run of the sweep is completed already, so that a script may leave it out."""
        try:
            return read_record(self.run_dir).status.has_ended
        except UnreadableRecord:
            return False

    def __enter__(self) -> "Recorder":
        self.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.end(error)

    def start(self) -> None:
        """Start the run. One that was stopped or failed starts again; what it left is replaced.

        Raises `CannotRecord` if it is completed or its folder is a link, `UnreadableRecord` if something in that folder
        leads elsewhere.
        """
        if self.is_completed:
            raise CannotRecord(f"{self.run_dir}: is completed; leave it out (recorder.is_completed), or remove it")
        record = self.record
        add_run(self.sweep_dir, record)
        make_folder(self.run_dir)
        if self.run_dir.is_symlink():
            raise CannotRecord(f"{self.run_dir}: {LINK}")
        check_plain(self.run_dir)
        self._open.enter_context(only_writer(self.run_dir))
        remove_leftovers(self.run_dir)
        environment = {**describe_environment(), "torch": str(torch.__version__), "from_epoch": 1}
        record.environments = [environment]  # type: ignore[list-item]
        record.status, record.num_threads = Status.INTERRUPTED, torch.get_num_threads()
        record.concurrent_runs = max(1, writers_in(self.sweep_dir))
        record.started_at = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._memory = PeakMemory(self.clock.device)
        self._files.create()
        write_record(self.run_dir, record)
        self._has_started = True

    def end(self, error: BaseException | None = None) -> None:
        """End the run: completed, diverged if its last loss is no number, or as the `error` says that stopped it."""
        if not self._has_started:
            return
        record, history = self.record, self.recorded.history
        if error is None and history:
            record.status = Status.COMPLETED if math.isfinite(history[-1].loss_mean) else Status.DIVERGED
        elif isinstance(error, Exception):
            record.status, record.error = Status.FAILED, "".join(traceback.format_exception(error))
            if is_out_of_memory(error):
                record.error += f"out of memory at batch size {self.batch_size}"
        for name, peak in self._memory.peaks().items():
            setattr(record, name, round(peak, 1) or None)
        with self._open:
            self._files.add(self._new)
            record.files = self._files.written
            write_record(self.run_dir, record)
        publish(self.sweep_dir)

    @contextmanager
    def epoch(self) -> Iterator[None]:
        """Time and record an epoch: the block is to make all of its steps. Raises what `end_epoch` does."""
        self.start_epoch()
        yield
        self.end_epoch()

    def start_epoch(self) -> None:
        """Start the clock of an epoch."""
        self._of_epoch, self._seconds_before = [], self.clock.seconds
        self.clock.start()

    def step(self, loss: torch.Tensor | float) -> None:
        """Take the mean loss of a batch, after its step. Nothing waits for the device: the value is read later."""
        self._of_epoch.append(loss.detach() if isinstance(loss, torch.Tensor) else loss)

    def end_epoch(self) -> None:
        """Stop the clock and record the epoch.

        Raises `CannotRecord` if its steps are not as many as its examples make, and OSError if it cannot be written.
        """
        self.clock.stop()
        number, steps = len(self.recorded.history) + 1, len(self._of_epoch)
        if steps != self.iterations_per_epoch:
            right = f"{self.train_samples} examples in batches of {self.batch_size} are {self.iterations_per_epoch}"
            raise CannotRecord(f"epoch {number} has {steps} steps, but train_samples and batch_size say that {right}")
        losses = np.array([float(loss) for loss in self._of_epoch], dtype="<f4")
        exact, seconds = losses.astype(np.float64), self.clock.seconds - self._seconds_before
        row = EpochRow(
            number, float(exact.mean()), float(exact.std()), seconds, self.train_samples / seconds,
            iterations=number * steps, examples=number * self.train_samples,
        )  # fmt: skip
        self._files.append(row, losses, self._new)
        self.recorded.history.append(row)
        self._of_epoch, self._new = [], []

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock of the epoch while the block runs, which validates for example."""
        self.clock.stop()
        yield
        self.clock.start()

    def evaluated(
        self,
        *,
        test_error: float,
        test_loss: float = math.nan,
        train_error: float = math.nan,
        train_loss: float = math.nan,
        classes_never_predicted: int = 0,
    ) -> None:
        """Record what was found at frozen weights: between steps, within `paused`, or between epochs.

        Errors are shares of examples, from 0 to 1. The last test error gives the run's test accuracy.
        """
        steps = self.recorded.iterations + len(self._of_epoch)
        epochs, rest = divmod(steps, self.iterations_per_epoch)
        examples = epochs * self.train_samples + rest * self.batch_size
        values = (train_loss, train_error, test_loss, test_error, classes_never_predicted)
        row = EvaluationRow(steps, examples, self.clock.seconds, *values)
        self._new.append(row)
        self.recorded.evaluations.append(row)
        self.record.test_accuracy = 1 - test_error
