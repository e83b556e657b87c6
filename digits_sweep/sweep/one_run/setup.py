"""What a run starts from: the data set that its sweep settled on, and the engine that it began with."""

import math
from collections.abc import Callable
from dataclasses import replace

from digits_sweep.config.own_code import changed_code, sources
from digits_sweep.config.schema import Config, EngineConfig
from digits_sweep.data.digits import Digits
from digits_sweep.data.loading import changed, load, make_ready, name_of
from digits_sweep.errors import CannotResume, DataUnavailable, EngineRefused, InvalidConfig
from digits_sweep.results.manifest import Manifest
from digits_sweep.results.run.record import Record
from digits_sweep.sweep.one_run.on_disk.checkpoint import Checkpoint, restore
from digits_sweep.sweep.preflight import unfit
from digits_sweep.training.building import BuiltEngine, build_engine
from digits_sweep.training.engines import AUTO_PICKS, ENGINES


def digits_for(config: Config, manifest: Manifest | None, record: Record, say: Callable[[str], None]) -> Digits:
    """Load the data set of a run, the same bytes for all runs of its sweep, and note it in `record`.

    Without a manifest the run makes its own data ready. Raises `DataUnavailable` or `CannotResume` if the data set is
    not what it was before, and `InvalidConfig` if the configuration does not fit it.
    """
    if manifest is None:
        digits, note = make_ready(config.data, say)
        if note:
            say(f"WARNING: training on {digits.name}: {note}")
    else:
        choice = manifest.dataset(name_of(config.data))
        digits = load(config.data, choice.used, say)
        if digits.digest != choice.digest:
            raise DataUnavailable(changed(config.data, choice.used))
    if record.dataset_digest not in (None, digits.digest):
        raise CannotResume(f"{digits.name} is not what this run started with")
    num_samples = len(digits.train_labels)
    if mistakes := list(unfit(config, digits)):
        raise InvalidConfig("\n".join(mistakes))
    record.dataset_digest = digits.digest
    record.summary |= {
        "dataset": digits.name,
        "train_samples": num_samples,
        "iterations_per_epoch": math.ceil(num_samples / config.data.batch_size),
    }
    return digits


def engine_for_run(config: Config, digits: Digits, record: Record, before: Checkpoint | None) -> BuiltEngine:
    """Build a run's engine, restore `before` into it, and note it in `record`.

    A run that continues keeps its engine and its number of threads. Raises `CannotResume` if it started with an engine
    or a device that cannot be had here, because another one may round otherwise, or with code of the user's that has
    changed.
    """
    if before is not None and (changed := list(changed_code(config, record.own_code))):
        raise CannotResume("; ".join(changed))
    built = build_engine(config, digits) if before is None else _as_it_started(config, digits, record)
    if before is not None:
        restore(built.engine, before)
    record.flush_denormal = built.settle()
    record.engine_reason = built.reason
    record.own_code = sources(config)
    record.parameters = sum(each.numel() for each in built.engine.model.parameters() if each.requires_grad)
    record.seconds_setup = built.seconds_setup
    record.summary |= {"engine": built.name, "device": str(built.device), "num_threads": built.num_threads}
    return built


def _as_it_started(config: Config, digits: Digits, record: Record) -> BuiltEngine:
    """Build the engine that a run started with, even if `engine=auto` would take another one now."""
    started = recorded_engine(config, record)
    try:
        built = build_engine(replace(config, engine=EngineConfig(started or config.engine.name)), digits)
    except EngineRefused as refused:
        if started is None:
            raise
        reason = str(refused).removesuffix(AUTO_PICKS)
        raise CannotResume(f"engine was {started} when this run started; {reason}") from refused
    for name, now in (("engine", built.name), ("device", str(built.device))):
        if (then := record.summary.get(name)) != now:
            raise CannotResume(f"{name} was {then} when this run started, is {now} here")
    num_threads = record.summary.get("num_threads", built.num_threads)
    return replace(built, num_threads=num_threads, reason=record.engine_reason or built.reason)


def recorded_engine(config: Config, record: Record) -> str | None:
    """Return the name of the engine that `engine=auto` took when the run of `record` started, None if it took none."""
    name = record.summary.get("engine")
    return name if config.engine.name == "auto" and isinstance(name, str) and name in ENGINES else None
