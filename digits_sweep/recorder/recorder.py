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
from digits_sweep.recorder.of_a_sweep import due, last_iteration, refuse_otherwise, run_of_a_sweep
from digits_sweep.results.columns import OWN_LOOP
from digits_sweep.results.environment import describe_environment
from digits_sweep.results.files import LINK, check_plain, make_folder, remove_leftovers
from digits_sweep.results.lock import only_writer, writers_in
from digits_sweep.results.record import (
    ALL_TARGETS,
    MAX_EXAMPLES,
    NO_NUMBER,
    THRESHOLD,
    EpochRow,
    EvaluationRow,
    Record,
    Status,
    read_record,
    write_record,
)
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
from digits_sweep.results.targets import all_reached
from digits_sweep.results.writing import RunWriter
from digits_sweep.training.device import PeakMemory, is_out_of_memory
from digits_sweep.training.schedule import Schedule
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


def config_of(passed: Mapping[str, Any], dataset: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a run, of what a program passes by key. Raises `CannotRecord` if something is amiss.

    What has no value is `own`, and 0.
    """
    for key in ("data.batch_size", "optimizer.lr", "trainer.loss_threshold"):
        if passed[key] is None:
            raise CannotRecord(f"{key}: Recorder(..., {key.rpartition('.')[2]}=...) is missing")
    targets = {key.rpartition(".")[2]: value for key, value in passed.items() if key.startswith("evaluation.targets.")}
    config = {
        "data": {"name": dataset, "batch_size": passed["data.batch_size"]},
        "model": {"name": passed["model.name"] or "own"},
        "optimizer": {
            "name": passed["optimizer.name"] or "own",
            "lr": passed["optimizer.lr"],
            "weight_decay": passed["optimizer.weight_decay"] or 0.0,
        },
        "trainer": {"loss_threshold": passed["trainer.loss_threshold"]},
        "engine": {"name": OWN_LOOP},
        "evaluation": {"targets": targets},
        "seed": passed["seed"] or 0,
        "settings": dict(settings),
    }
    for key, value in flat(config):
        if not is_finite(value):
            raise CannotRecord(f"{key}={to_text(value)}: {FINITE}")
    return config


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

    In a program that `python -m digits_sweep command=...` has started, leave out `sweep` and all that the sweep knows:
    `batch_size`, `lr`, `seed` and `config` say what it is. When the sweep has what it wants of the run, the run ends;
    what is recorded after that is dropped, and the sweep stops the program.

    A context manager: the run is completed at the end of the block, and failed or interrupted if that raises. Every
    epoch trains on `train_samples` examples in batches of `batch_size`, of which only the last may be smaller.
    `settings` are what else the runs of the sweep differ in, by name; `targets` thresholds by measure, such as
    `{"test_error": [0.1]}`, for which `evaluated` looks. `parameters` is the number of what is trained; `clock` is that
    of the epochs. Raises `CannotRecord` if `sweep` is one of another kind, a number is not finite, or the sweep that
    started the program says otherwise, and OSError if it cannot be written.
    """

    def __init__(
        self,
        sweep: Path | str | None = None,
        *,
        train_samples: int,
        batch_size: int | None = None,
        lr: float | None = None,
        loss_threshold: float | None = None,
        weight_decay: float | None = None,
        seed: int | None = None,
        dataset: str = "own",
        model: str | None = None,
        optimizer: str | None = None,
        device: torch.device | str = "cpu",
        parameters: int | None = None,
        settings: Mapping[str, Any] | None = None,
        targets: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        passed = {
            "data.batch_size": batch_size, "model.name": model, "optimizer.name": optimizer, "optimizer.lr": lr,
            "optimizer.weight_decay": weight_decay, "trainer.loss_threshold": loss_threshold, "seed": seed,
            **{f"evaluation.targets.{name}": list(values) for name, values in (targets or {}).items()},
            **{f"model.arguments.{name}": value for name, value in (settings or {}).items()},
        }  # fmt: skip
        self.is_of_a_sweep = sweep is None
        if sweep is None:
            self.run_dir, self.record = run_of_a_sweep()
            refuse_otherwise(self.record.config, passed)
            self.sweep_dir, self.config = self.run_dir.parent, self.record.config
        else:
            self.sweep_dir, self.config = Path(sweep), config_of(passed, dataset, settings or {})
            folder = folder_of(self.config)
            self.run_dir = self.sweep_dir / folder
            self.record = Record(0, folder=folder, config=self.config)
        self.batch_size, self.seed = self.config["data"]["batch_size"], self.config["seed"]
        self.lr = self.config["optimizer"]["lr"]
        self.dataset, self.train_samples = dataset, train_samples
        self._schedule = Schedule(train_samples, self.batch_size)
        self.iterations_per_epoch = self._schedule.iterations_per_epoch
        self._last = last_iteration(self.config, self._schedule)
        self.record.dataset, self.record.train_samples, self.record.parameters = dataset, train_samples, parameters
        self.record.engine, self.record.device = OWN_LOOP, str(device)
        self.recorded = RecordedRun(self.run_dir, self.record)
        self._files = RunWriter(self.run_dir, self.batch_size, train_samples)
        # Evaluations since the last epoch that was recorded, and the losses of the present one.
        self._new: list[EvaluationRow] = []
        self._of_epoch: list[torch.Tensor | float] = []
        self.clock, self._seconds_before = Stopwatch(torch.device(device)), 0.0
        self._open, self._has_started, self._has_ended = ExitStack(), False, False

    @property
    def is_due(self) -> bool:
        """Whether the sweep that started this program wants an evaluation now, at its `evaluation.` keys."""
        return not self._has_ended and due(self.config, self._schedule, self.iterations)

    @property
    def iterations(self) -> int:
        """How many steps it has taken."""
        return self.recorded.iterations + len(self._of_epoch)

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
        if not self.is_of_a_sweep:
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
        if not self._has_started or self._has_ended:
            return
        self._has_ended = True
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
        # A sweep that has started this program keeps its tables itself.
        if not self.is_of_a_sweep:
            publish(self.sweep_dir)

    def _end_for(self, reason: str) -> None:
        """End the run because its sweep has what it wants, with the epoch as far as it is."""
        self.clock.stop()
        self.record.ended = reason
        if self._of_epoch:
            self._record_epoch()
        self.end()

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
        if self._has_ended:
            return
        if self._last is not None and self.iterations >= self._last:
            # Only now: the last step that counts may have been evaluated.
            self._end_for(MAX_EXAMPLES)
            return
        self._of_epoch.append(loss.detach() if isinstance(loss, torch.Tensor) else loss)

    def end_epoch(self) -> None:
        """Stop the clock and record the epoch.

        Raises `CannotRecord` if its steps are not as many as its examples make, and OSError if it cannot be written.
        """
        self.clock.stop()
        if self._has_ended:
            return
        number, steps = len(self.recorded.history) + 1, len(self._of_epoch)
        if steps != self.iterations_per_epoch:
            right = f"{self.train_samples} examples in batches of {self.batch_size} are {self.iterations_per_epoch}"
            raise CannotRecord(f"epoch {number} has {steps} steps, but train_samples and batch_size say that {right}")
        self._record_epoch()
        trainer, loss = self.config["trainer"], self.recorded.history[-1].loss_mean
        if self.is_of_a_sweep and not math.isfinite(loss):
            self._end_for(NO_NUMBER)
        elif trainer.get("stop_at_threshold") and loss < trainer["loss_threshold"]:
            self._end_for(THRESHOLD)

    def _record_epoch(self) -> None:
        """Record the epoch with the steps that it has."""
        losses = np.array([float(loss) for loss in self._of_epoch], dtype="<f4")
        exact, seconds = losses.astype(np.float64), self.clock.seconds - self._seconds_before
        until = self._schedule.examples_after(self.iterations)
        examples = until - (self.recorded.history[-1].examples if self.recorded.history else 0)
        row = EpochRow(
            len(self.recorded.history) + 1, float(exact.mean()), float(exact.std()), seconds, examples / seconds,
            len(losses) == self.iterations_per_epoch, self.iterations, until,
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
        if self._has_ended:
            return
        steps = self.iterations
        examples = self._schedule.examples_after(steps)
        values = (train_loss, train_error, test_loss, test_error, classes_never_predicted)
        row = EvaluationRow(steps, examples, self.clock.seconds, *values)
        self._new.append(row)
        self.recorded.evaluations.append(row)
        self.record.test_accuracy = 1 - test_error
        evaluation = self.config["evaluation"]
        if evaluation.get("stop") and all_reached(evaluation["targets"], self.recorded.evaluations):
            self._end_for(ALL_TARGETS)
