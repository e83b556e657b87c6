"""What a run starts from: the data set that its sweep settled on, and the engine that it began with."""

import math
from collections.abc import Callable
from dataclasses import replace

from digits_sweep.config.schema import Config
from digits_sweep.data.digits import Digits
from digits_sweep.data.loading import load, make_ready
from digits_sweep.errors import CannotResume, DataUnavailable, InvalidConfig
from digits_sweep.results.manifest import Manifest
from digits_sweep.results.record import Record
from digits_sweep.sweep.one_run.checkpoint import Checkpoint, restore
from digits_sweep.sweep.preflight import batch_too_large
from digits_sweep.training.building import BuiltEngine, build_engine
from digits_sweep.training.own import changed_code, sources


def digits_for(config: Config, manifest: Manifest | None, record: Record, say: Callable[[str], None]) -> Digits:
    """Load the data set of a run, the same bytes for all runs of its sweep, and note it in `record`.

    Without a manifest the run makes its own data ready. Raises `DataUnavailable` or `CannotResume` if the data set is
    not what it was before, and `InvalidConfig` if a batch is larger than it.
    """
    if manifest is None:
        digits, note = make_ready(config.data, say)
        if note:
            say(f"WARNING: training on {digits.name}: {note}")
    else:
        choice = manifest.dataset(config.data.name)
        digits = load(config.data, choice.used, say)
        if digits.digest != choice.digest:
            raise DataUnavailable(f"{choice.used} in {config.data.root} is not what it was when this sweep started")
    if record.dataset_digest not in (None, digits.digest):
        raise CannotResume(f"{digits.name} is not what this run started with")
    num_samples = len(digits.train_labels)
    for mistake in batch_too_large(config, digits.name, num_samples):
        raise InvalidConfig(mistake)
    record.dataset_digest = digits.digest
    record.summary |= {
        "dataset": digits.name,
        "train_samples": num_samples,
        "iterations_per_epoch": math.ceil(num_samples / config.data.batch_size),
    }
    return digits


def engine_for_run(config: Config, digits: Digits, record: Record, before: Checkpoint | None) -> BuiltEngine:
    """Build a run's engine, restore `before` into it, and note it in `record`.

    Raises `CannotResume` if the run started with another engine or device, which may round otherwise. The number of
    threads is that of the start. So does one whose own code is in a file that has changed.
    """
    built = build_engine(config, digits)
    own_code = sources(config)
    if before is not None and (changed := list(changed_code(config, record.own_code))):
        raise CannotResume("; ".join(changed))
    if before is not None:
        for name, now in (("engine", built.name), ("device", str(built.device))):
            if (then := record.summary.get(name)) != now:
                raise CannotResume(f"{name} was {then} when this run started, is {now} here")
        built = replace(built, num_threads=record.summary.get("num_threads", built.num_threads))
        restore(built.engine, before)
    record.flush_denormal = built.settle()
    record.engine_reason = built.reason
    record.own_code = own_code
    record.parameters = sum(each.numel() for each in built.engine.model.parameters() if each.requires_grad)
    record.seconds_setup = built.seconds_setup
    record.summary |= {"engine": built.name, "device": str(built.device), "num_threads": built.num_threads}
    return built
