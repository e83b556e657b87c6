"""One run: train, or resume, and record every epoch."""

import logging
import math
import traceback
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

import torch

from digits_sweep.config.schema import Config
from digits_sweep.console import Screen
from digits_sweep.data.digits import Digits
from digits_sweep.data.loading import name_of
from digits_sweep.errors import CannotRecord
from digits_sweep.results.columns import fill
from digits_sweep.results.disk.lock import only_writer
from digits_sweep.results.manifest import Manifest
from digits_sweep.results.run.environment import describe_environment
from digits_sweep.results.run.record import Record, Status, write_record
from digits_sweep.sweep.one_run.job import Enough, Job, recording
from digits_sweep.sweep.one_run.on_disk.run_state import RunState, load_run_state
from digits_sweep.sweep.one_run.recorded_training import RecordedTraining, ended, title
from digits_sweep.sweep.one_run.setup import digits_for, engine_for_run
from digits_sweep.sweep.resume import is_finished
from digits_sweep.training.building import BuiltEngine
from digits_sweep.training.device import flush_denormals_from_now_on, resolve_device
from digits_sweep.training.measures.evaluation import evaluate
from digits_sweep.training.measures.memory import PeakMemory, is_out_of_memory

log = logging.getLogger(__name__)


def run(
    config: Config,
    run_dir: Path,
    number: int = 0,
    manifest: Manifest | None = None,
    enough: Enough | None = None,
    screen: Screen | None = None,
) -> Record:
    """Train once as `config` says and record it in `run_dir`; if a run was started there, resume it.

    `number` is the run's place in its sweep, from 0, and `manifest` the sweep's; without one the run makes its own data
    ready. It reports to `screen`, or to standard output. After every epoch `enough` is asked with the epochs so far: a
    reason that it returns ends the run there, `interrupted`, with the reason as its `error`. An error inside the run is
    not raised: it is reported, logged and recorded with its traceback, and the record's `status` is `failed`, because
    the other runs of a sweep continue.
    If another process writes in `run_dir`, such as a job of a cluster that outlived its sweep, this waits for it to
    end and resumes from there. Raises `CannotResume` if `run_dir` holds a run with another configuration,
    `CannotRecord` or OSError if results cannot be written, and KeyboardInterrupt if the user stops it.
    """
    flush_denormals_from_now_on()
    job = Job(config, run_dir, manifest, enough, screen or Screen(quiet=config.quiet))
    run_dir.mkdir(parents=True, exist_ok=True)
    with only_writer(run_dir, waits=job.screen.say):
        state = load_run_state(config, run_dir, number, job.screen.say)
        if is_finished(state.record, config):
            job.screen.say(f"{run_dir.name}: {state.record.status} before, kept")
        else:
            _attempt(job, state)
    return state.record


def _attempt(job: Job, state: RunState) -> None:
    """Train what is left, and leave the record as the run ended, on disk too."""
    record = state.record
    _start(job, state)
    memory: PeakMemory | None = None
    try:
        memory = PeakMemory(resolve_device(job.config.device))
        digits = digits_for(job.config, job.manifest, record, job.screen.say)
        built = engine_for_run(job.config, digits, record, state.checkpoint)
        RecordedTraining(job, state, built, digits).run(title(job, record))
        if record.error is None:
            _evaluate(job.config, record, built, digits)
            finite = record.ended is not None or math.isfinite(float(record.summary["final_loss"]))
            record.status = Status.COMPLETED if finite else Status.DIVERGED
    except (CannotRecord, KeyboardInterrupt) as stop:
        log.warning("%s after epoch %s", type(stop).__name__, record.summary["epochs"])
        raise
    except Exception as error:
        record.status, record.error = Status.FAILED, traceback.format_exc()
        log.error("%s", record.error)
        what = f"{type(error).__name__}: {error}"
        if is_out_of_memory(error):
            what = f"out of memory at batch size {job.config.data.batch_size}"
            record.error += what
        job.screen.say(f"  failed: {what}".splitlines()[0])
        job.screen.say(f"  its traceback: {job.run_dir / 'record.json'}")
    if memory:
        memory.note(record.summary)
    fill(record, state.history)
    with recording(record):
        write_record(job.run_dir, record)
    if job.screen.quiet:
        job.screen.say(f"{title(job, record)}  {ended(record)}")
    if record.status is Status.DIVERGED:
        job.screen.say(
            f"  diverged: the mean loss of epoch {record.summary['epochs']} is {record.summary['final_loss']}"
        )


def _start(job: Job, state: RunState) -> None:
    """Write the record of a run that is about to train: until it ends it reads `interrupted`."""
    record, done = state.record, len(state.history)
    if record.config:
        record.resumed_after.append(done)
    record.status, record.error, record.folder = Status.INTERRUPTED, None, job.run_dir.name
    record.config = asdict(job.config)
    environment = {**describe_environment(), "torch": str(torch.__version__)}
    if record.environment != {**environment, "from_epoch": record.environment.get("from_epoch")}:
        record.environments.append({**environment, "from_epoch": done + 1})
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    first = {"dataset": name_of(job.config.data), "concurrent_runs": 1, "started_at": started}
    # What was found on the test set belongs to an earlier end of the run.
    record.test_answers = None
    record.summary = first | record.summary | {"test_accuracy": None, "classes_never_predicted": None}
    fill(record, state.history)
    with recording(record):
        write_record(job.run_dir, record)


def _evaluate(config: Config, record: Record, built: BuiltEngine, digits: Digits) -> None:
    labels = digits.test_labels.to(built.device)
    evaluation = evaluate(built.engine.model, digits.test_images, labels, how=config.data.scale)
    record.test_answers = evaluation.answers_per_class
    record.summary["test_accuracy"] = evaluation.accuracy
    record.summary["classes_never_predicted"] = evaluation.classes_never_predicted
