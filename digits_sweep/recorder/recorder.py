"""A run whose training loop is somebody else's, with the files of a run of this program but for the checkpoint."""

import math
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed

from digits_sweep.config.keys import value_of
from digits_sweep.config.schema import Rule, or_null, whole_number
from digits_sweep.config.text import expand_home
from digits_sweep.errors import CannotRecord, UnreadableRecord
from digits_sweep.recorder.arguments import (
    ERRORS,
    LOSSES,
    config_of,
    folder_of,
    measure_name,
    measured,
    number,
    shown,
)
from digits_sweep.recorder.gradients import TwoBatches
from digits_sweep.recorder.steps import Steps
from digits_sweep.recorder.sweep import add_run, due, publish, refuse_otherwise, run_of_a_sweep
from digits_sweep.results.columns import LIMITS, OWN_LOOP
from digits_sweep.results.critical import divides_by_the_root
from digits_sweep.results.files import LINK, check_plain, make_folder, remove_leftovers
from digits_sweep.results.lock import only_writer, writers_in
from digits_sweep.results.losses import window_of
from digits_sweep.results.record import (
    ALL_TARGETS,
    MAX_EXAMPLES,
    NO_NUMBER,
    THRESHOLD,
    EpochRow,
    EvaluationRow,
    MeasureRow,
    Record,
    Status,
    Written,
    describe_environment,
    read_record,
    write_record,
)
from digits_sweep.results.targets import all_reached
from digits_sweep.results.writing import RunWriter, read_committed
from digits_sweep.training.device import PeakMemory, traceback_of
from digits_sweep.training.epochs import Stopwatch

# A loop without epochs is recorded as often, so that a process that is killed loses no more.
SECONDS_PER_PART, ITERATIONS_PER_PART = 30.0, 1_000
WITHIN_AN_EPOCH = "stopped within an epoch"
ANOTHER = "another run has another seed= or other settings="
# The runs that this process has recorded to their end.
_recorded_here: set[Path] = set()
# The measures that evaluations.csv has a column for.
OF_EVALUATIONS = (*LOSSES, *ERRORS, "classes_never_predicted")


def _has_ended(run_dir: Path) -> bool:
    try:
        return read_record(run_dir).status.has_ended
    except UnreadableRecord:
        return False


def rank() -> int:
    """Return which of several processes that train one network this is, from 0, which alone records."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank()
    # torchrun sets both before a process group exists.
    return int(os.environ.get("RANK", 0)) if os.environ.get("WORLD_SIZE", "1") != "1" else 0


class Recorder:
    """Records one run of a training loop in the sweep in the folder `sweep`, such as `outputs/sweeps/mine`.

    In a program that `python -m digits_sweep command=...` has started, leave out `sweep` and all that the sweep knows:
    `batch_size`, `lr`, `seed` and `config` say what it is. When the sweep has what it wants of the run, the run ends;
    what is recorded after that is dropped, and the sweep stops the program.

    A context manager: the run is completed at the end of the block, and failed or interrupted if that raises. An epoch
    trains on `train_samples` examples in batches of `batch_size`, of which only the last may be smaller; with None its
    length is not known beforehand, or there are no epochs. `accumulate` steps make an iteration, whose examples all of
    them have together; `batch_size` is that of all processes too. `settings` are what else the runs of the sweep differ
    in, by name. `targets` are thresholds by measure, for which `evaluated` looks: a loss or an error is to fall below
    its one, `{"test_error": [0.1]}`; any other measure says how, `{"f1": (">=", 0.9)}`. `loss_threshold` is that of the
    running loss, the mean over the last `window` examples: by default a twentieth of `train_samples`, or 1,000.
    `parameters` is the number of what is trained, `device` that of the losses, which the clock waits for. With
    `average` every process of a process group calls `step`, and what is recorded is the mean of their losses; else it
    is that of rank zero. With `replace` a completed run of the same name is recorded anew. Raises `CannotRecord` if
    `sweep` is one of another kind, a value could not be shown later, or the sweep that started the program says
    otherwise, and OSError if it cannot be written.
    """

    def __init__(
        self,
        sweep: os.PathLike[str] | str | None = None,
        *,
        train_samples: int | None,
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
        targets: Mapping[str, Any] | None = None,
        window: int | None = None,
        accumulate: int = 1,
        average: bool = False,
        replace: bool = False,
    ) -> None:
        passed: dict[str, Any] = {
            "batch_size": batch_size, "lr": lr, "weight_decay": weight_decay, "loss_threshold": loss_threshold,
            "seed": seed, "model": model, "optimizer": optimizer, "settings": settings or {}, "targets": targets or {},
        }  # fmt: skip
        self.is_of_a_sweep = sweep is None
        if sweep is None:
            self.run_dir, self.record = run_of_a_sweep()
            refuse_otherwise(self.record.config, passed)
            self.sweep_dir, self.config = self.run_dir.parent, self.record.config
        else:
            self.sweep_dir, self.config = Path(expand_home(os.fspath(sweep))), config_of(dataset=dataset, **passed)
            folder = folder_of(self.config)
            self.run_dir = self.sweep_dir / folder
            self.record = Record(0, folder=folder, config=self.config)
        self.batch_size: int = self.config["data"]["batch_size"]
        self.lr, self.seed = self.config["optimizer"]["lr"], self.config["seed"]
        self.train_samples = number("train_samples", train_samples, or_null(LIMITS["train_samples"]), whole=True)
        self.accumulate = number("accumulate", accumulate, _steps_of(self.batch_size), whole=True)
        self.average, self.replace = average, replace
        self.window = window_of(self.train_samples)
        if window is not None:
            self.window = number("window", window, LIMITS["train_samples"], whole=True)
            self.config["trainer"]["window"] = self.window
        self.record.dataset, self.record.train_samples, self.record.parameters = dataset, self.train_samples, parameters
        self.record.engine, self.record.device = OWN_LOOP, str(device)
        self.history: list[EpochRow] = []
        self.clock, self._seconds_before = Stopwatch(torch.device(device)), 0.0
        self._files = RunWriter(self.run_dir, self.batch_size, self.train_samples, self.window)
        # What is not written yet: the steps of the present epoch, and evaluations, the last of which may still change.
        self._steps, self._new, self._measures = Steps(), list[EvaluationRow](), list[MeasureRow]()
        # Iterations and their examples up to the last row of the history.
        self._iterations_before = self._examples_before = 0
        # Of the present epoch: examples seen, and steps since the last update.
        self._seen = self._since_update = 0
        self._in_epoch = self._has_started = self._has_ended = self._records = False
        self._has_epochs, self._step_size = self.train_samples is not None, self.batch_size // self.accumulate
        self._state: dict[str, Any] | None = None
        self._open, self._written_at = ExitStack(), 0.0
        # A sweep that has started this program gives a run up at so many examples.
        self._most = value_of(self.config, "trainer.max_examples") if self.is_of_a_sweep else None
        self._evaluated: list[EvaluationRow] = []
        self._gradients = TwoBatches(self.batch_size, divides_by_the_root(self.config["optimizer"]))

    # --- The run.

    @property
    def iterations(self) -> int:
        """How many times the weights have changed."""
        return self._iterations_before + len(self._steps.ends)

    @property
    def is_due(self) -> bool:
        """Whether the sweep that started this program wants an evaluation now, at its `evaluation.` keys."""
        samples = self.train_samples or self.batch_size
        return not self._has_ended and due(self.config, samples, self.batch_size, self.iterations)

    @property
    def is_completed(self) -> bool:
        """Whether such a run of the sweep is completed already, so that a script may leave it out.

        Warns if this process itself has recorded it: that would leave out every later seed.
        """
        is_completed = _has_ended(self.run_dir)
        if is_completed and self.run_dir.resolve() in _recorded_here:
            warnings.warn(f"{self.run_dir}: recorded before by this very process; {ANOTHER}", stacklevel=2)
        return is_completed

    def __enter__(self) -> "Recorder":
        self.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.end(error)

    def start(self) -> None:
        """Start the run. One that was stopped or failed starts again; what it left is replaced.

        A run whose `load_state_dict` was called continues. Raises `CannotRecord` if it is completed, if the state is
        another run's, or if its folder is a link, `UnreadableRecord` if something in that folder leads elsewhere.
        """
        self._records, self.average = rank() == 0, self.average and _is_one_of_several()
        if self._records:
            if not self.replace and self._state is None and _has_ended(self.run_dir):
                raise CannotRecord(
                    f"{self.run_dir}: is completed; {ANOTHER}, replace=True records this one anew, "
                    "recorder.is_completed tells if there is nothing to do"
                )
            self._start_recording()
        if self._state is not None:
            self._resume(self._state)
        self._has_started, self._written_at = True, time.perf_counter()
        if not self._has_epochs:
            self.clock.start()

    def _start_recording(self) -> None:
        record = self.record
        before = read_record(self.run_dir) if self._state is not None else None
        if before is not None and before.run_id != (self._state or {}).get("run_id"):
            raise CannotRecord(f"{self.run_dir}: the state that was loaded is that of another run")
        if not self.is_of_a_sweep:
            add_run(self.sweep_dir, record)
        make_folder(self.run_dir)
        if self.run_dir.is_symlink():
            raise CannotRecord(f"{self.run_dir}: {LINK}")
        check_plain(self.run_dir)
        self._open.enter_context(only_writer(self.run_dir))
        remove_leftovers(self.run_dir)
        environment: Any = {**describe_environment(), "torch": str(torch.__version__), "from_epoch": 1}
        record.environments = [environment]
        record.status, record.num_threads = Status.INTERRUPTED, torch.get_num_threads()
        record.concurrent_runs = max(1, writers_in(self.sweep_dir))
        record.started_at = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._memory = PeakMemory(self.clock.device)
        if before is None:
            self._files.create()
        else:
            self._restore_files(before)
        write_record(self.run_dir, record)

    def end(self, error: BaseException | None = None, why: str | None = None) -> None:
        """End the run: completed, diverged if its last loss is no number, or as the `error` says that stopped it.

        What was trained of the present epoch is recorded too. `why` says why a completed run ended when it did.
        """
        if not self._has_started or self._has_ended:
            return
        self._has_ended = True
        self.clock.stop()
        if error is not None:
            self.average = False  # The other processes may be gone.
        if self._gradients.is_worth_it(self.iterations):
            self._note_gradients()
        self._write()
        self._in_epoch = False
        record, history = self.record, self.history
        if error is None and history:
            record.status = Status.COMPLETED if math.isfinite(history[-1].loss_mean) else Status.DIVERGED
            record.ended = why or (WITHIN_AN_EPOCH if self._has_epochs and not history[-1].complete else None)
        elif isinstance(error, Exception):
            record.status, record.error = Status.FAILED, traceback_of(error, self.batch_size)
        if not self._records:
            return
        for name, peak in self._memory.peaks().items():
            setattr(record, name, round(peak, 1) or None)
        with self._open:
            self._files.add(self._new, self._measures)
            record.files = self._files.written
            write_record(self.run_dir, record)
        # A sweep that has started this program keeps its tables itself.
        if not self.is_of_a_sweep:
            publish(self.sweep_dir)
        _recorded_here.add(self.run_dir.resolve())

    # --- Epochs and steps.

    @contextmanager
    def epoch(self) -> Iterator[None]:
        """Time and record an epoch: the block makes its steps. Raises what `start_epoch` does."""
        self.start_epoch()
        yield
        self.end_epoch()

    def start_epoch(self) -> None:
        """Start the clock of an epoch; one that a state was saved in goes on.

        Raises `CannotRecord` if the run has not started, or if the epoch before had not as many examples as announced.
        """
        if self._has_ended:
            return
        if not self._has_started:
            raise CannotRecord("an epoch before the start: use `with recorder:`, or call recorder.start()")
        if self._in_epoch and self._state is None:
            self.end_epoch()
        if self.history and not self.history[-1].complete:
            last = self.history[-1]
            seen = last.examples - (self.history[-2].examples if len(self.history) > 1 else 0)
            raise CannotRecord(
                f"epoch {last.epoch} had {seen} examples of train_samples={self.train_samples}; if every epoch has as "
                f"many (drop_last=True), pass train_samples={seen}; if their number is not known, train_samples=None"
            )
        if not self._has_epochs:
            if self.iterations:
                raise CannotRecord("an epoch after steps outside an epoch: put all steps into one, or none")
            self.clock.reset()
        self._state, self._in_epoch, self._has_epochs = None, True, True
        self.clock.start()

    def step(self, loss: Any, examples: int | None = None, update: bool | None = None) -> None:
        """Take the mean loss of a batch, after its step. Nothing waits for the device: the value is read later.

        A batch has `examples` examples, by default as many as `batch_size` and `accumulate` say. `update` is whether
        the weights changed with it; by default that follows from `accumulate` and the end of the epoch. A batch that
        was left out, without a gradient, has the loss None. Raises `CannotRecord` if there is more than was announced.
        """
        if self._most is not None and self._examples >= self._most:
            # Only now: the last iteration may be evaluated before.
            self.end(why=MAX_EXAMPLES)
        if self._has_ended:
            return
        size, steps = self._size_of(examples), self._steps
        if loss is not None:
            steps.add(loss, size)
        self._seen += size
        self._since_update += 1
        if update is None:
            update = self._since_update >= self.accumulate or self._seen == self.train_samples
        if update:
            self._since_update = 0
            steps.close()
        if update and not self._in_epoch:
            # The end of a part, of a loop without epochs; several processes come to it together.
            seconds = time.perf_counter() - self._written_at
            is_due = len(steps.ends) == ITERATIONS_PER_PART if self.average else seconds > SECONDS_PER_PART
            if is_due:
                self._write()

    def _size_of(self, examples: int | None) -> int:
        """Return the examples of a step. Raises `CannotRecord` if it does not fit."""
        size, samples = self._step_size, self.train_samples
        if samples is None:
            if examples is not None:
                size = examples if examples.__class__ is int and examples > 0 else _examples(examples)
            if not self._has_started or self._has_epochs > self._in_epoch:
                self._refuse_step()
        else:
            rest = samples - self._seen
            if rest < size:
                size = rest
            if not self._in_epoch or rest <= 0 or (examples is not None and examples != size):
                self._refuse_step(examples, size)
        return size

    def _refuse_step(self, examples: int | None = None, size: int = 0) -> None:
        """Raise the `CannotRecord` that says why a step does not fit."""
        if not self._has_started:
            raise CannotRecord("a step before the start: use `with recorder:`, or call recorder.start()")
        if not self._in_epoch:
            raise CannotRecord(
                "a step outside an epoch: put it into `with recorder.epoch():`; without epochs, pass train_samples=None"
            )
        if examples is not None and size > 0:
            raise CannotRecord(
                f"examples={shown(examples)}: batch_size and train_samples make it {size}; for batches of any size, "
                "pass train_samples=None"
            )
        steps = math.ceil((self.train_samples or 0) / self._step_size)
        raise CannotRecord(
            f"step {steps + 1} of epoch {len(self.history) + 1}: train_samples={self.train_samples}, "
            f"batch_size={self.batch_size} and accumulate={self.accumulate} make {steps} steps; accumulate= is for "
            "several steps to one update of the weights"
        )

    def end_epoch(self) -> None:
        """Stop the clock and record the epoch. Raises OSError if it cannot be written."""
        self.clock.stop()
        if self._has_ended:
            return
        self._write(ends_epoch=True)
        self._in_epoch, self._seen, self._since_update = False, 0, 0
        # Batches without an update after them trained nothing.
        self._steps = Steps()
        if self.is_of_a_sweep and self.history:
            trainer, loss = self.config["trainer"], self.history[-1].loss_mean
            if not math.isfinite(loss):
                self.end(why=NO_NUMBER)
            elif trainer.get("stop_at_threshold") and loss < trainer["loss_threshold"]:
                self.end(why=THRESHOLD)

    def _write(self, ends_epoch: bool = False) -> None:
        """Record what was trained since the last time, with the evaluations that cannot change any more."""
        running = self.clock.seconds + self.clock.running_seconds
        iterations, examples = self.iterations, self._examples
        losses, sizes = self._steps.take()
        self._written_at = time.perf_counter()
        if not len(losses):
            return
        if self.average:
            losses = averaged(losses, self.clock.device)
        seconds, self._seconds_before = max(running - self._seconds_before, 1e-9), running
        exact, count = losses.astype(np.float64), int(sizes.sum())
        with np.errstate(invalid="ignore", over="ignore"):
            mean, deviation = float(exact.mean()), float(exact.std())
        complete = ends_epoch if self.train_samples is None else self._seen == self.train_samples
        row = EpochRow(len(self.history) + 1, mean, deviation, seconds, count / seconds, complete, iterations, examples)
        self.history.append(row)
        self._iterations_before, self._examples_before = iterations, examples
        settled = [each for each in self._new if each.iterations < iterations]
        measures = [each for each in self._measures if each.iterations < iterations]
        self._new, self._measures = self._new[len(settled) :], self._measures[len(measures) :]
        if self._records:
            self._files.append(row, losses, settled, sizes, measures)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock while the block runs, which validates for example."""
        was_running = self.clock.is_running
        self.clock.stop()
        yield
        if was_running:
            self.clock.start()

    @property
    def _examples(self) -> int:
        return self._examples_before + self._steps.examples

    # --- Evaluations.

    def evaluated(
        self,
        *,
        test_loss: float | None = None,
        test_error: float | None = None,
        train_loss: float | None = None,
        train_error: float | None = None,
        classes_never_predicted: int | None = None,
        **measures: float,
    ) -> None:
        """Record what was found at frozen weights: between steps, within `paused`, or between epochs.

        Errors are shares of examples, from 0 to 1; the last test error gives the run's test accuracy. `measures` are
        any others, such as `f1` or `perplexity`. Of a measure that is taken twice at one step the later value counts.
        Raises `CannotRecord` if a value could not be shown later.
        """
        if self._has_ended:
            return
        if not self._has_started:
            raise CannotRecord("an evaluation before the start: use `with recorder:`, or call recorder.start()")
        given = dict(zip(OF_EVALUATIONS, (test_loss, train_loss, test_error, train_error, classes_never_predicted),
                         strict=True)) | {measure_name(name): value for name, value in measures.items()}  # fmt: skip
        values = {name: measured(name, name, value) for name, value in given.items() if value is not None}
        if not values:
            raise CannotRecord("evaluated() without a value: name one, such as test_error=0.1 or f1=0.9")
        usual: dict[str, Any] = {name: values.pop(name) for name in OF_EVALUATIONS if name in values}
        self._note(**usual)
        again = [each for each in self._measures if each.iterations < self.iterations or each.measure not in values]
        self._measures = [*again, *(MeasureRow(self.iterations, name, value) for name, value in values.items())]
        if "test_error" in usual:
            self.record.test_accuracy = 1 - usual["test_error"]
        if "classes_never_predicted" in usual:
            self.record.classes_never_predicted = usual["classes_never_predicted"]
        evaluation = self.config["evaluation"]
        if self.is_of_a_sweep and evaluation.get("stop"):
            self._evaluated.append(self._new[-1])
            if all_reached(evaluation["targets"], self._evaluated):
                self.end(why=ALL_TARGETS)

    def _note(self, **values: Any) -> None:
        """Put values into the row of `evaluations.csv` of the present iteration."""
        seconds = self.clock.seconds + self.clock.running_seconds
        if self._new and self._new[-1].iterations == self.iterations:
            self._new[-1] = replace(self._new[-1], **values)
        else:
            nothing: dict[str, Any] = dict.fromkeys(OF_EVALUATIONS)
            self._new.append(EvaluationRow(self.iterations, self._examples, seconds, **nothing | values))

    # --- Gradients.

    def gradients(self, small: Any, large: Any, examples: tuple[int, int] | None = None) -> None:
        """Take two gradients at the present weights, from which the run's `batch_size_hint` follows.

        `small` is the gradient of the mean loss over some examples, `large` that over more, of which the former may be
        a part: with `accumulate`, of the first batch and of all batches of an iteration, which the numbers of
        `examples` are by default. Either is one tensor, or a list of tensors such as `[p.grad for p in parameters]`, of
        any shapes, the same in both; None stands for a parameter without a gradient. They are those of the loss that is
        recorded, in its units, as they come from `backward`: not scaled, not clipped, without weight decay, and copied
        if the loop adds to them. Call it before the step, in as many iterations as you like; pairs that are no numbers
        count nowhere. The metric is that of `optimizer`: name it. The time is the run's, unless in `paused`. Raises
        `CannotRecord` if the run has not started, the shapes differ, or `examples` are no two rising numbers.
        """
        if self._has_ended:
            return
        if not self._has_started:
            raise CannotRecord("gradients before the start: use `with recorder:`, or call recorder.start()")
        sizes = (self._step_size, self.batch_size) if examples is None else examples
        if len(sizes) != 2 or not 1 <= _examples(sizes[0]) < _examples(sizes[1]):
            hint = "; pass examples=(b, B)" if examples is None else ""
            raise CannotRecord(f"gradients: of {sizes[0]} and {sizes[-1]} examples; the second must be more{hint}")
        if not self._records:
            return
        if self._gradients.is_over(self.iterations):
            self._note_gradients()
        self._gradients.add(small, large, *sizes)

    def _note_gradients(self) -> None:
        """Record the noise since the last time."""
        if noise := self._gradients.take(self.iterations):
            plain, in_metric = noise
            self._note(
                gradient_squared_norm=plain.squared_norm, gradient_trace=plain.trace, noise_scale=plain.scale,
                optimizer_noise_scale=in_metric.scale,
            )  # fmt: skip

    # --- A loop that is stopped and continues.

    def state_dict(self) -> dict[str, Any]:
        """Return how far the run is, in numbers and texts, to be saved with the weights of the same moment."""
        return {
            "run_id": self.record.run_id,
            "written": {name: asdict(each) for name, each in self._files.written.items()},
            "iterations": self._iterations_before,
            "examples": self._examples_before,
            "seconds": self.clock.seconds + self.clock.running_seconds,
            "seconds_before": self._seconds_before,
            "in_epoch": self._in_epoch,
            "seen": self._seen,
            "since_update": self._since_update,
            "losses": list(self._steps.read()),
            "sizes": list(self._steps.sizes),
            "ends": list(self._steps.ends),
            "evaluations": [asdict(row) for row in self._new],
            "measures": [asdict(row) for row in self._measures],
            "gradients": self._gradients.state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the run continue from `state`, which `state_dict` returned, when it starts.

        What was recorded after it was saved is cut off. Raises `CannotRecord` if the run has started.
        """
        if self._has_started:
            raise CannotRecord("a state is loaded before the start of the run")
        self._state = dict(state)

    def _restore_files(self, before: Record) -> None:
        """Cut the files back to the state that was loaded, and note the break in the record."""
        state = self._state or {}
        written = {name: Written(**each) for name, each in state["written"].items()}
        try:
            self.history, _ = read_committed(self.run_dir, written)
            self._files.restore(written)
        except UnreadableRecord as error:
            raise CannotRecord(f"{self.run_dir}: {error}; it cannot continue, replace=True starts it anew") from error
        record, done = self.record, len(self.history)
        record.run_id, record.started_at = before.run_id, before.started_at
        record.environments = [*before.environments, {**record.environment, "from_epoch": done + 1}]
        record.resumed_after = [*before.resumed_after, done]
        record.concurrent_runs = max(record.concurrent_runs, before.concurrent_runs)
        record.test_accuracy, record.classes_never_predicted = before.test_accuracy, before.classes_never_predicted

    def _resume(self, state: dict[str, Any]) -> None:
        self._iterations_before, self._examples_before = state["iterations"], state["examples"]
        self.clock.seconds, self._seconds_before = state["seconds"], state["seconds_before"]
        self._in_epoch, self._seen, self._since_update = state["in_epoch"], state["seen"], state["since_update"]
        self._has_epochs |= self._in_epoch or any(row.complete for row in self.history)
        losses, sizes, ends = (list(state[name]) for name in ("losses", "sizes", "ends"))
        self._steps = Steps(losses, sizes, ends, sum(sizes[: ends[-1]]) if ends else 0)
        self._new = [EvaluationRow(**row) for row in state["evaluations"]]
        self._measures = [MeasureRow(**row) for row in state["measures"]]
        self._gradients.restore(state["gradients"])


def _is_one_of_several() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def averaged(losses: np.ndarray, device: torch.device) -> np.ndarray:
    """Return the mean of (iterations,) losses over all processes of the process group, as float32."""
    on_device = distributed.get_backend() == "nccl"
    total = torch.tensor(losses, dtype=torch.float64, device=device if on_device else "cpu")
    distributed.all_reduce(total)
    return (total / distributed.get_world_size()).cpu().numpy().astype("<f4")


def _steps_of(batch_size: int) -> Rule:
    whole = whole_number(1, batch_size)
    return Rule(
        lambda count: whole.holds(count) and batch_size % count == 0,
        f"must be a whole number of which batch_size={batch_size}, that of all steps of an update, is a multiple",
    )


def _examples(examples: Any) -> int:
    return number("examples", examples, whole_number(1, 10**9), whole=True)
