"""A clock of training that stands still in pauses."""

import math
import secrets
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

from digits_sweep.config.text import safe_name, to_text
from digits_sweep.errors import CannotRecord, UnreadableRecord
from digits_sweep.results.columns import OWN_LOOP, fill
from digits_sweep.results.environment import describe_environment
from digits_sweep.results.files import make_folder
from digits_sweep.results.lock import only_writer, writers_in
from digits_sweep.results.losses import Losses, RunningLoss
from digits_sweep.results.record import EpochRow, EvaluationRow, Record, Status, as_csv, read_record, running_loss
from digits_sweep.results.sweep import (
    MANIFEST_FILE,
    Manifest,
    RecordedSweep,
    next_counter,
    publish_summary,
    read_manifest,
    write_manifest,
)
from digits_sweep.sweep.run_files import RunFiles
from digits_sweep.training.device import PeakMemory, is_out_of_memory
from digits_sweep.training.stopwatch import synchronize


class Clock:
    """Counts the seconds between its starts and its stops, with the work of a device finished at both."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0
        self._since: float | None = None

    def start(self) -> None:
        """Let the clock run."""
        synchronize(self.device)
        self._since = time.perf_counter()

    def stop(self) -> None:
        """Let the clock stand; if it does already, nothing."""
        synchronize(self.device)
        if self._since is not None:
            self.seconds += time.perf_counter() - self._since
        self._since = None


def add_run(sweep_dir: Path, folder: str, config: dict[str, Any]) -> int:
    """Write a run into `sweep.json`, which is made if there is none; return its number, from 0.

    Raises `CannotRecord` if the folder is a sweep of this program's own, OSError if it cannot be written.
    """
    make_folder(sweep_dir)
    with _held(sweep_dir):
        manifest = _manifest(sweep_dir)
        if any((each.get("engine") or {}).get("name") != OWN_LOOP for each in manifest.configs):
            raise CannotRecord(f"{sweep_dir}: a sweep of python -m digits_sweep; choose another folder")
        runs, configs = [*manifest.runs], [*manifest.configs]
        if folder in runs:
            configs[runs.index(folder)] = config
        else:
            runs.append(folder)
            configs.append(config)
        write_manifest(sweep_dir, replace(manifest, runs=runs, configs=configs))
        return runs.index(folder)


def folder_of(config: dict[str, Any]) -> str:
    """Return the name of the folder of a run: all that it differs in from one in which nothing is named."""
    unnamed: dict[str, Any] = {"model": "own", "optimizer": "own", "dataset": "own", "weight_decay": 0}
    optimizer = config["optimizer"]
    values = {"model": config["model"]["name"], "optimizer": optimizer["name"], "dataset": config["data"]["name"]}
    values |= {"batch_size": config["data"]["batch_size"], "lr": optimizer["lr"]}
    values |= {"weight_decay": optimizer["weight_decay"], "seed": config["seed"], **config["settings"]}
    named = (f"{name}={to_text(value)}" for name, value in values.items() if value != unnamed.get(name))
    return safe_name("_".join(named))


def is_completed(run_dir: Path) -> bool:
    """Return whether the run in `run_dir` was trained to its end."""
    try:
        return read_record(run_dir).status.has_ended
    except UnreadableRecord:
        return False


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
    started, counter = datetime.now(timezone.utc).isoformat(), next_counter(_outputs(sweep_dir))
    return Manifest([], [], [], [], id=secrets.token_hex(8), started_at=started, counter=counter)


class Recorder:
    """Records one run of a training loop in the sweep in the folder `sweep`, such as `outputs/sweeps/mine`.

    A context manager: the run is completed at the end of the block, and failed or interrupted if that raises. Every
    epoch trains on `train_samples` examples in batches of `batch_size`, of which only the last may be smaller.
    `settings` are what else the runs of the sweep differ in, by name; `targets` thresholds by measure, such as
    `{"test_error": [0.1]}`, for which `evaluated` looks. `parameters` is the number of what is trained; `clock` is that
    of the epochs. Raises `CannotRecord` if `sweep` is one of another kind, and OSError if it cannot be written.
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
        folder = folder_of(self.config)
        self.run_dir = self.sweep_dir / folder
        self.record = Record(0, folder=folder, parameters=parameters, config=self.config)
        self.history: list[EpochRow] = []
        self.evaluations: list[EvaluationRow] = []
        self._losses: Losses = np.empty(0, dtype="<f4")
        self._of_epoch: list[torch.Tensor | float] = []
        self.clock, self._seconds_before = Clock(torch.device(device)), 0.0
        self._running = RunningLoss(batch_size, train_samples, loss_threshold)
        self._open, self._has_started = ExitStack(), False

    @property
    def is_completed(self) -> bool:
        """Whether such a run of the sweep is completed already, so that a script may leave it out."""
        return is_completed(self.run_dir)

    def __enter__(self) -> "Recorder":
        self.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.end(error)

    def start(self) -> None:
        """Start the run. One that was stopped or failed starts again; what it left is replaced.

        Raises `CannotRecord` if it is completed.
        """
        if self.is_completed:
            raise CannotRecord(f"{self.run_dir}: is completed; leave it out (recorder.is_completed), or remove it")
        self.record.number = add_run(self.sweep_dir, self.run_dir.name, self.config)
        make_folder(self.run_dir)
        self._open.enter_context(only_writer(self.run_dir))
        self.record.environments = [{**describe_environment(), "torch": str(torch.__version__), "from_epoch": 1}]
        self.record.summary = {
            "dataset": self.dataset,
            "train_samples": self.train_samples,
            "engine": OWN_LOOP,
            "device": str(self.clock.device),
            "num_threads": torch.get_num_threads(),
            "iterations_per_epoch": self.iterations_per_epoch,
            "concurrent_runs": writers_in(self.sweep_dir),
            "started_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        self._follow(self._losses)
        self._memory, self._files = PeakMemory(self.clock.device), RunFiles(self.run_dir)
        self._has_started = True
        self._files.restore(self.record, [], [], 0)

    def end(self, error: BaseException | None = None) -> None:
        """End the run: completed, diverged if its last loss is no number, or as the `error` says that stopped it."""
        if not self._has_started:
            return
        record = self.record
        if error is None and self.history:
            finite = math.isfinite(self.history[-1].loss_mean)
            record.status = Status.COMPLETED if finite else Status.DIVERGED
        elif isinstance(error, Exception):
            record.status, record.error = Status.FAILED, "".join(traceback.format_exception(error))
            if is_out_of_memory(error):
                record.error += f"out of memory at batch size {self.batch_size}"
        self._memory.note(record.summary)
        self._add_running_losses()
        fill(record, self.history)
        with self._open:
            self._files.note(record, self.evaluations)
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
        number, steps = len(self.history) + 1, len(self._of_epoch)
        if steps != self.iterations_per_epoch:
            right = f"{self.train_samples} examples in batches of {self.batch_size} are {self.iterations_per_epoch}"
            raise CannotRecord(f"epoch {number} has {steps} steps, but train_samples and batch_size say that {right}")
        losses = np.array([float(loss) for loss in self._of_epoch], dtype="<f4")
        exact, seconds = losses.astype(np.float64), self.clock.seconds - self._seconds_before
        self.history.append(
            EpochRow(number, float(exact.mean()), float(exact.std()), seconds, self.train_samples / seconds)
        )
        self._of_epoch = []
        self._files.losses.append(losses)
        self._files.history.append(as_csv(self.history[-1:], EpochRow))
        self._follow(losses)
        self._add_running_losses()
        self._files.note(self.record, self.evaluations)

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
        steps = len(self._losses) + len(self._of_epoch)
        epochs, rest = divmod(steps, self.iterations_per_epoch)
        examples = epochs * self.train_samples + rest * self.batch_size
        found = (train_loss, train_error, test_loss, test_error, classes_never_predicted)
        self.evaluations.append(EvaluationRow(steps, examples, self.clock.seconds, *found))
        self.record.summary["test_accuracy"] = 1 - test_error

    def _follow(self, losses: Losses) -> None:
        """Take the losses of new iterations into the record."""
        self._losses, crossing = np.concatenate([self._losses, losses]), self._running.follow(losses)
        self.record.summary |= {
            "iterations_to_threshold": crossing.iterations if crossing else None,
            "examples_to_threshold": crossing.examples if crossing else None,
            "iterations": len(self._losses),
        }
        fill(self.record, self.history)

    def _add_running_losses(self) -> None:
        for place, row in enumerate(self.evaluations):
            if row.running_loss is not None or row.iterations > len(self._losses):
                continue
            loss = running_loss(self._losses, row.iterations, self.batch_size, self.train_samples)
            self.evaluations[place] = replace(row, running_loss=loss)
