"""Is this machine quiet enough to time anything? Its load, and a loop that takes the same time when it is alone."""

import os
import time
from statistics import median

import torch

# A loop of about 50 ms, repeated: alone, the slower half of the repetitions is hardly slower than the fastest.
REPETITIONS, PRODUCTS, SIZE = 20, 200, 128
MOST_SPREAD = 1.10
# The share of the machine's cores that may be busy with something else before timing starts.
MOST_LOAD = 0.25


def warn_if_busy() -> float | None:
    """Print why timings made now cannot be believed, if so; return the load, None if the system does not say."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    if why := busy(calibration_seconds(), load, os.cpu_count() or 1):
        print(f"WARNING: this machine is too busy to believe what follows: {why}")
    return load


def calibration_seconds() -> list[float]:
    """Time a loop of small matrix products on one thread, again and again; return the seconds of every repetition."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    values, out = torch.rand(SIZE, SIZE), torch.empty(SIZE, SIZE)
    seconds = []
    for _ in range(REPETITIONS):
        started = time.perf_counter()
        for _ in range(PRODUCTS):
            torch.mm(values, values, out=out)
        seconds.append(time.perf_counter() - started)
    torch.set_num_threads(threads)
    return seconds


def busy(seconds: list[float], load: float | None, cores: int) -> str | None:
    """Say why timings made now cannot be believed, or return None.

    `seconds` are those of `calibration_seconds`, `load` is the number of processes that wanted to run during the last
    minute on the machine's `cores`; None if the system does not say.
    """
    spread = median(seconds) / min(seconds)
    reasons = []
    if load is not None and load > MOST_LOAD * cores:
        reasons.append(f"{load:.1f} processes wanted to run during the last minute on {cores} cores")
    if spread > MOST_SPREAD:
        reasons.append(f"a loop that should always take as long takes {spread:.2f} times its best time")
    return " and ".join(reasons) or None
