"""What a step takes on this machine, for `critical.cost` of a study anywhere, and the largest batch that fits.

Batches are doubled until one does not fit, and none brings the machine down. On a GPU a step that runs out of memory is
an error, after which all memory is given back. On a CPU the system ends a process instead, so there a step is only
taken if twice the memory of the one before leaves a margin, and later runs are unharmed either way.
"""

import ctypes
import gc
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from digits_sweep.config.keys import changed
from digits_sweep.config.schema import Config, EngineConfig, config_from
from digits_sweep.data.digits import Digits
from digits_sweep.data.loading import for_run, make_ready
from digits_sweep.errors import InvalidConfig, UnreadableRecord
from digits_sweep.machine import UNKNOWN_BYTES, free_memory
from digits_sweep.report.critical import goal_text
from digits_sweep.report.words import rounded, short_seconds, two_digits
from digits_sweep.results.critical import (
    ANSWERS,
    COST_FILE,
    FLAT,
    FOLDER,
    Answer,
    MachineCost,
    StepCost,
    network_of,
    read_answers,
    write_cost,
)
from digits_sweep.results.files import make_folder
from digits_sweep.results.record import describe_environment, read_record
from digits_sweep.results.sweep import run_folders
from digits_sweep.search.answers import Cost, soonest_at
from digits_sweep.search.settings import CriticalConfig, Request, read_critical
from digits_sweep.shell import Screen
from digits_sweep.sweep import preflight
from digits_sweep.sweep.fitting import fitted
from digits_sweep.training.building import BuiltEngine, build_engine
from digits_sweep.training.device import (
    PeakMemory,
    flush_denormals_from_now_on,
    is_out_of_memory,
    random_numbers_kept,
    resident_peak,
    resolve_device,
)
from digits_sweep.training.epochs import Stopwatch, epoch_order

# What a step may take of the memory that is free: other processes want some, and an allocator leaves gaps.
MARGIN = 0.8
# Beyond such a step it is reckoned what larger ones would take.
SECONDS_OF_A_STEP = 2.0
FIRST = 64


@dataclass(frozen=True)
class Step:
    """What a step took: bytes of memory beside those that were held before all steps, and seconds."""

    bytes: float
    seconds: float


@dataclass(frozen=True)
class Largest:
    """The largest batch that fits: all examples that there are, or one of the doubled sizes, tried or reckoned."""

    batch_size: int
    is_everything: bool = False
    is_tried: bool = True


def largest_batch(config: Config, digits: Digits, engine: str, num_threads: int) -> Largest | None:
    """Return the largest batch of `digits` that `config` can be trained on here by an `engine` on so many threads.

    None if the smallest does not fit, or if the system does not say how much memory is free. Nothing that is trained is
    kept. Raises what `build_engine` raises.
    """
    device = resolve_device(config.device)
    if device.type != "cuda" and free_memory() >= UNKNOWN_BYTES:
        return None
    config = replace(config, engine=EngineConfig(engine), num_threads=num_threads)
    _forget(device)
    held = _peak(device)

    def step(size: int) -> Step | None:
        try:
            seconds = _seconds(build_engine(changed(config, {"data.batch_size": size}), digits), torch.arange(size))
            return Step(_peak(device) - held, seconds)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None

    try:
        with random_numbers_kept(device):
            return doubled(step, partial(_free, device), len(digits.train_labels), may_fail=device.type == "cuda")
    finally:
        _forget(device)


def doubled(step: Callable[[int], Step | None], free: Callable[[], float], most: int, may_fail: bool) -> Largest | None:
    """Return the largest of the doubled batch sizes, up to `most`, that leaves a margin of the `free` bytes.

    `step` takes a step of a size and returns None if that ran out of memory. Unless it `may_fail`, it is not tried
    where that is to be expected.
    """
    size, tried = min(FIRST, most), dict[int, Step]()
    while True:
        before, room = next(reversed(tried.items()), None), MARGIN * free()
        if before and not may_fail and before[1].bytes * size / before[0] > room:
            break
        taken = step(size)
        # A step that is over has taken what was free before it.
        if taken is None or taken.bytes > room:
            break
        tried[size] = taken
        if size == most:
            return Largest(most, is_everything=True)
        if taken.seconds > SECONDS_OF_A_STEP and len(tried) > 1:
            return _reckoned(tried, room, most)
        size = min(2 * size, most)
    return Largest(max(tried)) if tried else None


def _reckoned(tried: dict[int, Step], room: float, most: int) -> Largest:
    """Return the largest of the doubled sizes that has room, if memory goes on growing as over the last two steps."""
    (small, one), (size, two) = list(tried.items())[-2:]
    for_each = max((two.bytes - one.bytes) / (size - small), two.bytes / size / 2)
    largest = size
    while largest < most and two.bytes + for_each * (min(2 * largest, most) - size) <= room:
        largest = min(2 * largest, most)
    return Largest(largest, is_everything=largest == most, is_tried=largest == size)


def _seconds(built: BuiltEngine, order: Tensor) -> float:
    """Return how long an engine trains on the examples in `order`."""
    built.configure_threads()
    stopwatch = Stopwatch(built.device)
    with stopwatch.running():
        built.engine.train(order)
    return stopwatch.seconds


def _forget(device: torch.device) -> None:
    """Give back what no object holds any more, and count the most that is held anew."""
    gc.collect()
    # What the C library keeps of freed memory would hide what the next step takes; others than glibc keep little.
    with suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    PeakMemory(device)


def _peak(device: torch.device) -> float:
    return float(torch.cuda.max_memory_reserved(device) if device.type == "cuda" else resident_peak() or 0)


def _free(device: torch.device) -> float:
    """Return how many bytes there are for a step, and count what it takes anew."""
    _forget(device)
    return float(torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory())


# Those of a study, and some between them.
BATCH_SIZES = "5,20,50,100,300,1000,2000,4000"
# The quartiles of a quiet machine lie closer together.
NOISY = 1.1
# Seconds of a whole measurement; rounds that there are at least, and at most.
SECONDS, LEAST_ROUNDS, ROUNDS = 20.0, 3, 10


def run_cost(arguments: Sequence[str]) -> None:
    """Measure on this machine, show a row for every batch size, and write `cost.json`.

    Raises a `DigitsSweepError` if something cannot be trained here, OSError if the file cannot be written.
    """
    screen = Screen()
    planned = fitted(_read(arguments).planned, screen.say)
    preflight.check(planned, screen.say)
    flush_denormals_from_now_on()
    configs = {run.config.data.batch_size: run.config for run in planned.runs}
    first = next(iter(configs.values()))
    digits, note = make_ready(first.data, screen.say)
    if note:
        screen.say(f"WARNING: {note}")
    screen.say(f"{len(configs)} batch sizes in turns, about {SECONDS:.0f} s: let nothing else run meanwhile")
    steps = measured_steps(configs, for_run(digits, first))
    largest = largest_batch(first, for_run(digits, first), steps[-1].engine, steps[-1].num_threads)
    cost = MachineCost(
        machine=_machine(first.device), torch_version=str(torch.__version__), network=network_of(first), steps=steps,
        measured_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        largest_batch_size=largest.batch_size if largest else None,
    )  # fmt: skip
    _show(cost, screen)
    path = planned.outputs / COST_FILE
    make_folder(path.parent)
    write_cost(path, cost)
    screen.say(f"{path}: critical.cost={path} answers for this machine, here or elsewhere")
    screen.say(which_to_take(cost, largest, studied(planned.outputs, cost.network)))


def _read(arguments: Sequence[str]) -> Request[CriticalConfig]:
    """Plan a run for every batch size, as a study does that has the same arguments. Raises `InvalidConfig`."""
    request = read_critical(arguments, BATCH_SIZES)
    if request.resume is not None:
        raise InvalidConfig(f"resume={request.resume}: there is nothing to resume; leave it out")
    if request.planned.settings.command is not None:
        raise InvalidConfig("command=...: its steps are not this program's; type critical.cost={iteration:...} instead")
    if len(request.planned.runs) < 2:
        raise InvalidConfig("data.batch_size: give two or more, such as data.batch_size=5,100,1000")
    return request


def studied(outputs: Path, network: Mapping[str, str]) -> Answer | None:
    """Return the answer of the newest study in `outputs` of the same network, data and optimizer; None without one.

    Of its goals it is that of the one that takes the most examples, as in the study's first sentence.
    """
    for path in sorted((outputs / FOLDER).glob(f"*/{ANSWERS}"), reverse=True):
        # Somebody else's files may lie there.
        with suppress(UnreadableRecord, OSError, LookupError, TypeError):
            config = config_from(read_record(path.parent / run_folders(path.parent)[0][0]).config)
            known = [answer for answer in read_answers(path.parent) if answer.law]
            if network_of(config) == network and known:
                return max(known, key=lambda answer: answer.e_min or 0.0)
    return None


def which_to_take(cost: MachineCost, largest: Largest | None, answer: Answer | None) -> str:
    """Say in a line what fits, where throughput stops rising, the critical batch size if it is known, and what to take.

    With a study it is the batch size that is soonest at its goal by the measured steps, among those that fit; without
    one, where throughput stops rising: what more examples would cost is not known then.
    """
    sizes = [step.batch_size for step in cost.steps]
    most = min(largest.batch_size, max(sizes)) if largest else max(sizes)
    parts = [_fits(largest)]
    flat = cost.flat_from
    parts.append(f"throughput flat from {flat:,}" if flat else f"throughput still rises at {max(sizes):,}")
    if answer is None or (law := answer.law) is None:
        parts.append("critical not known (no study here: python -m digits_sweep.critical_batch_size)")
        return f"{'; '.join(parts)}: take at most {min(most, flat or most):,}"
    parts.append(f"critical {two_digits(law.b_crit)} ({goal_text(answer)})")
    steps = {step.batch_size: step.seconds for step in cost.steps}
    size = float(soonest_at(law, Cost(steps=steps), [*(size for size in sizes if size < most), most]))
    return f"{'; '.join(parts)}: take {min(most, float(f'{size:.2g}')):,.0f}, which is soonest there"


def _fits(largest: Largest | None) -> str:
    if largest is None:
        return "what fits is not known"
    if largest.is_everything:
        return f"all {largest.batch_size:,} examples fit in a batch"
    return f"largest that fits {'' if largest.is_tried else 'about '}{largest.batch_size:,}"


def measured_steps(configs: Mapping[int, Config], digits: Digits) -> list[StepCost]:
    """Train some steps of every configuration and return what a step takes; `configs` are by batch size.

    They take turns, so that other load falls on all batch sizes alike, for about `SECONDS`, or three rounds if these
    take longer. A turn is at most an epoch. Nothing that is trained is kept. Raises what `build_engine` raises.
    """
    count, started, taken = len(digits.train_labels), time.perf_counter(), {size: list[float]() for size in configs}
    built = {size: build_engine(config, digits) for size, config in configs.items()}
    orders = {size: epoch_order(config.seed, 1, count) for size, config in configs.items()}
    steps = dict.fromkeys(configs, 1)

    def turn(size: int) -> float:
        return _seconds(built[size], orders[size][: steps[size] * size]) / steps[size]

    with random_numbers_kept(resolve_device(next(iter(configs.values())).device)):
        for size in configs:
            # The first step also allocates, or compiles.
            turn(size)
            in_a_turn = int(SECONDS / len(configs) / (ROUNDS + 1) / max(turn(size), 1e-9))
            steps[size] = max(1, min(count // size, in_a_turn))
        rounds = 0
        while rounds < LEAST_ROUNDS or (rounds < ROUNDS and time.perf_counter() - started < SECONDS):
            for size in configs:
                taken[size].append(turn(size))
            rounds += 1
    rows = []
    for size, each in taken.items():
        low, middle, high = map(float, np.percentile(each, [25, 50, 75]))
        engine, threads = built[size].name, built[size].num_threads
        rows.append(StepCost(batch_size=size, seconds=middle, low=low, high=high, engine=engine, num_threads=threads))
    return rows


def _machine(device: str) -> str:
    known = describe_environment()
    cores = f"{known['cpu_cores']} cores of {known['cpu']}"
    resolved = resolve_device(device)
    return f"{torch.cuda.get_device_name(resolved)}, {cores}" if resolved.type == "cuda" else cores


def _show(cost: MachineCost, screen: Screen) -> None:
    header = ["batch size", "a step", "quartiles", "examples/s", "engine", "threads"]
    screen.table(header, [_row(step) for step in cost.steps])
    if any(step.high > NOISY * step.low for step in cost.steps):
        screen.say("WARNING: rounds differ by more than 10 %: something else runs here, or the clock changes")
    if cost.flat_from is None:
        largest = max(step.batch_size for step in cost.steps)
        screen.say(f"throughput still rises at batch size {largest:,}, the largest that was measured")
    else:
        within = f"within {100 * FLAT:.0f} % of the highest"
        screen.say(f"throughput is flat from batch size {cost.flat_from:,} on ({within})")


def _row(step: StepCost) -> list[str]:
    low, middle, high = (short_seconds(each) for each in (step.low, step.seconds, step.high))
    return [
        f"{step.batch_size:,}", middle, f"{low} to {high}", rounded(step.throughput), step.engine, str(step.num_threads)
    ]  # fmt: skip
