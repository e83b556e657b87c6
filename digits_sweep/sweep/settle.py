"""What `auto` stands for, settled once for all runs of a sweep that are alike, before the first one starts.

Runs that train side by side share the cores and the GPUs. What is settled is in a run's planned record; on a cluster it
is settled on the node, by the job.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

import torch

from digits_sweep.config.plan import Plan, PlannedRun
from digits_sweep.config.schema import Config, EngineConfig, config_from
from digits_sweep.data.loading import for_run, load, name_of
from digits_sweep.errors import DeviceUnavailable
from digits_sweep.machine import usable_cores
from digits_sweep.results.record import Record
from digits_sweep.results.sweep import Manifest
from digits_sweep.training.building import model_on_meta, options_here, workload_of
from digits_sweep.training.device import gpus_here, resolve_device
from digits_sweep.training.engines import ENGINES
from digits_sweep.training.trial import fastest


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
    """Return what runs were settled on whose engine and number of threads are recorded, by what they are alike in."""
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
