"""What a plan leaves open: classes, batch sizes and thresholds that follow from the data, and what `auto` stands for.

`auto` is settled once for all runs of a sweep that are alike, before the first one starts: runs that train side by side
share the cores and the GPUs. What is settled is in a run's planned record; on a cluster it is settled on the node, by
the job.
"""

import math
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import torch

from digits_sweep.config.keys import changed, checked
from digits_sweep.config.plan import Plan, PlannedRun
from digits_sweep.config.schema import Config, EngineConfig, OwnDataConfig, config_from
from digits_sweep.data.digits import Digits
from digits_sweep.data.labels import description
from digits_sweep.data.loading import for_run, load, name_of, train_samples_of
from digits_sweep.errors import DeviceUnavailable, OwnCodeFailed, escape_controls
from digits_sweep.machine import usable_cores
from digits_sweep.results.files import make_folder, replace_file
from digits_sweep.results.record import Record
from digits_sweep.results.sweep import Manifest
from digits_sweep.training.building import model_on_meta, options_here, workload_of
from digits_sweep.training.device import flush_denormals_from_now_on, gpus_here, resolve_device
from digits_sweep.training.engines import ENGINES
from digits_sweep.training.trial import fastest

# Of a data set whose size nobody knows yet, any batch size may fit.
MANY = 10**9
THRESHOLDS = "evaluation.targets.train_loss"


def fitted(planned: Plan, say: Callable[[str], None]) -> Plan:
    """Load the user's own data and return `planned` fitted to them; what was typed stays as it is.

    `say` gets a line for every data set: what was seen in it, and one for everything that was converted. A command has
    data of its own. Raises `InvalidConfig` if the data cannot be had, or if labels fit no loss.
    """
    if planned.settings.command is not None:
        return planned
    said: dict[str, None] = {}
    runs = []
    with traceback_in_file(planned.outputs):
        for run in planned.runs:
            if not isinstance(run.config.data, OwnDataConfig):
                runs.append(run)
                continue
            flush_denormals_from_now_on()
            digits = for_run(load(run.config.data, name_of(run.config.data), say), run.config)
            runs.append(replace(run, config=fitted_config(run.config, digits, planned.typed)))
            for line in (description(digits), *(f"{digits.name}: {note}" for note in digits.notes)):
                if line not in said:
                    said[line] = None
                    say(line)
    return replace(planned, runs=tuple(_of_batch_sizes_that_fit(runs, planned.typed)))


def _of_batch_sizes_that_fit(runs: Sequence[PlannedRun], typed: Collection[str]) -> list[PlannedRun]:
    """Return the runs without those whose batch size, which was not typed, is larger than the training set.

    If all are too large, the batch is the whole set.
    """
    if "data.batch_size" in typed:
        return list(runs)
    fitting = [run for run in runs if run.config.data.batch_size <= train_examples(run.config)]
    if fitting:
        return fitting
    configs = (changed(run.config, {"data.batch_size": train_examples(run.config)}) for run in runs)
    return [replace(run, config=config) for run, config in zip(runs, configs, strict=True)]


def train_examples(config: Config) -> int:
    """Return how many examples there are to train on; of a data set that says so, without loading it."""
    return train_samples_of(config.data) or MANY


def with_fixed_decay(config: Config) -> Config:
    """Return `config` with the end of its decay written out: the rate falls the same if the run is ended sooner."""
    schedule, trainer = config.schedule, config.trainer
    if schedule.decay is None or schedule.decay_examples is not None or config.command is not None:
        return config
    last = min(trainer.num_epochs * train_examples(config), trainer.max_examples or math.inf)
    return changed(config, {"schedule.decay_examples": int(last)})


def fitted_config(config: Config, digits: Digits, typed: Collection[str]) -> Config:
    """Return the configuration of a run on the user's own data with every number that follows from them.

    Raises `InvalidConfig` if a value that follows breaks a rule.
    """
    data, model, targets = config.data, config.model, config.evaluation.targets
    outputs = max(digits.num_classes, data.num_classes or 0)
    if data.num_classes is None and not digits.train_labels.is_floating_point():
        data = replace(data, num_classes=outputs)
    if model.num_classes is None:
        model = replace(model, num_classes=outputs)
    # A choice of evaluations comes with the threshold of MNIST.
    if targets.train_loss and THRESHOLDS not in typed:
        threshold = config.trainer.loss_threshold
        targets = replace(targets, train_loss=[] if threshold is None else [threshold])
    return checked(replace(config, data=data, model=model, evaluation=replace(config.evaluation, targets=targets)))


def fitted_run(run: PlannedRun, like: PlannedRun) -> PlannedRun:
    """Return a run that was planned later with what the data have decided for another one of the same command."""
    config, decided = run.config, like.config
    data = replace(config.data, num_classes=decided.data.num_classes)
    return replace(
        run,
        config=replace(config, data=data, model=decided.model, evaluation=decided.evaluation, trainer=decided.trainer),
    )


@dataclass(frozen=True)
class Settled:
    """What a run trains with in place of `auto`; None: its job finds out."""

    engine: str | None = None
    engine_reason: str | None = None
    num_threads: int | None = None
    device: str | None = None


def settle(
    planned: Plan, manifest: Manifest, say: Callable[[str], None], recorded: Iterable[Record] = ()
) -> dict[str, Settled]:
    """Return what is settled for the runs of a plan, by their folders, and say what was tried.

    Engines and numbers of threads are tried at the largest batch size of runs that are alike but for that, their rates
    and their seeds; runs like some that are `recorded` get what these have, because another answer rounds otherwise.
    """
    if planned.launcher.elsewhere or planned.settings.command is not None:
        return {}
    at_once = _at_once(planned)
    most_threads = max(1, usable_cores() // at_once)
    groups: dict[str, list[PlannedRun]] = {}
    for run in planned.runs:
        groups.setdefault(_kind(run.config), []).append(run)
    settled: dict[str, Settled] = {}
    before = _of_records(recorded)
    for kind, runs in groups.items():
        config = max((run.config for run in runs), key=lambda config: config.data.batch_size)
        tried = before.get(kind) or _tried(config, manifest, most_threads, say)
        settled |= {run.folder: tried for run in runs}
    return {
        run.folder: replace(settled[run.folder], device=_gpu(run.config, number) if at_once > 1 else None)
        for number, run in enumerate(planned.runs)
    }


def _of_records(records: Iterable[Record]) -> dict[str, Settled]:
    """Return what recorded runs were settled on, engine and number of threads, by what runs are alike in."""
    settled: dict[str, Settled] = {}
    for record in records:
        if record.engine in ENGINES and record.num_threads:
            # A record of an earlier version may lack a key.
            with suppress(KeyError, TypeError, AttributeError):
                known = Settled(record.engine, record.engine_reason, record.num_threads)
                settled.setdefault(_kind(config_from(record.config)), known)
    return settled


def _at_once(planned: Plan) -> int:
    """Return how many runs train side by side."""
    if planned.launcher.in_process:
        return 1
    jobs = int(planned.hydra.launcher.get("n_jobs") or -1)
    return min(len(planned.runs), jobs if jobs > 0 else usable_cores())


def _kind(config: Config) -> str:
    parts = (config.model, config.optimizer.name, config.schedule, config.loss, config.engine, config.device)
    return repr((name_of(config.data), config.data.scale, config.data.micro_batch, *parts, config.num_threads))


# Waves of a search are settled one after the other, on the same.
_known: dict[tuple[str, int, int], Settled] = {}


def _tried(config: Config, manifest: Manifest, most_threads: int, say: Callable[[str], None]) -> Settled:
    key = (_kind(config), config.data.batch_size, most_threads)
    if key not in _known:
        _known[key] = _try(config, manifest, most_threads, say)
    return _known[key]


def _try(config: Config, manifest: Manifest, most_threads: int, say: Callable[[str], None]) -> Settled:
    options, reason = options_here(config, most_threads)
    if len(options) == 1:
        # Without a reason, which the job has too.
        return Settled(num_threads=options[0].num_threads)
    digits = for_run(load(config.data, manifest.dataset(name_of(config.data)).used, say), config)
    device, model = resolve_device(config.device), model_on_meta(config)
    workload = workload_of(config, digits.train_images, digits.train_labels, model, device)
    best, reason = fastest(config, digits, workload, options)
    say(f"{best}: {reason}")
    return Settled(best.engine, reason, best.num_threads)


def _gpu(config: Config, number: int) -> str | None:
    """Return the GPU of the run with this number: they are dealt out to the runs in turn."""
    usable = [f"cuda:{index}" for index, why_not in enumerate(gpus_here()) if why_not is None]
    return usable[number % len(usable)] if config.device == "auto" and len(usable) > 1 else None


def recorded_engine(config: Config, record: Record) -> str | None:
    """Return the name of the engine that `engine=auto` took when the run of `record` started, None if it took none."""
    return record.engine if config.engine.name == "auto" and record.engine in ENGINES else None


def as_settled(config: Config, record: Record) -> Config:
    """Return `config` with what its run was settled on, or started with, in place of `auto`."""
    if engine := recorded_engine(config, record):
        config = replace(config, engine=EngineConfig(engine))
    if config.num_threads == "auto" and record.num_threads:
        config = replace(config, num_threads=record.num_threads)
    if config.device == "auto" and record.device and torch.device(record.device).type == "cuda":
        try:
            config = replace(config, device=str(resolve_device(record.device)))
        # The machine may be another one.
        except (DeviceUnavailable, RuntimeError):
            return config
    return config


TRACEBACK_FILE = "own-code.log"


@contextmanager
def traceback_in_file(outputs: Path) -> Iterator[None]:
    """Write the traceback of the user's code that fails in the block to `own-code.log` in `outputs`, and name the file.

    The file holds the last such traceback and nothing else. If it cannot be written, the message stays as it is.
    Raises `OwnCodeFailed`.
    """
    try:
        yield
    except OwnCodeFailed as failed:
        error = failed.__cause__
        if error is None:
            raise
        path = outputs / TRACEBACK_FILE
        lines = [f"{datetime.now():%Y-%m-%d %H:%M:%S} {failed}\n", *traceback.format_exception(error)]
        try:
            make_folder(outputs)
            replace_file(path, escape_controls("".join(lines)), durable=False)
        except OSError:
            raise failed from error
        raise OwnCodeFailed(f"{failed}; its traceback is in {path}") from error
