"""The device: which one, its threads, its denormals, its random numbers, its memory."""

import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from digits_sweep.errors import DeviceUnavailable, reason_of

MB = 1e6
# What a GPU must be able to give: PyTorch's own context takes half of it.
LEAST_GPU_BYTES = 2**30


def resolve_device(name: str) -> torch.device:
    """Return the device behind `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    `auto` takes the first CUDA GPU that can be used, else Apple's, else the CPU. Raises `DeviceUnavailable` if PyTorch
    sees no such device, or has no kernels for it.
    """
    if name == "auto":
        usable = [index for index, why_not in enumerate(gpus_here()) if why_not is None]
        if usable:
            return torch.device("cuda", usable[0])
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda":
        seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= seen:
            raise DeviceUnavailable(f"device={name}: PyTorch sees {seen} CUDA devices here; choose auto or cpu")
        if why_not := _without_kernels(device.index or 0):
            raise DeviceUnavailable(f"device={name}: {why_not}; choose auto or cpu")
        return torch.device("cuda", device.index or 0)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceUnavailable("device=mps: PyTorch sees no Apple GPU here; choose auto or cpu")
    return device


@cache
def gpus_here() -> list[str | None]:
    """Return for every CUDA GPU that PyTorch sees why `device=auto` does not take it, or None if it does.

    Looked at once in a process: later, the memory that a GPU cannot give may be that of this process's own runs.
    """
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [_why_not(index) for index in range(seen)]


def _why_not(index: int) -> str | None:
    try:
        if why_not := _without_kernels(index):
            return why_not
        free, _ = torch.cuda.mem_get_info(index)
    # A GPU that another user has for himself alone, or that has failed, says so in errors of many kinds.
    except RuntimeError as error:
        return f"cuda:{index}: {reason_of(error)}"
    if free < LEAST_GPU_BYTES:
        return f"cuda:{index} has {free / MB:,.0f} MB of memory left, and {LEAST_GPU_BYTES / MB:,.0f} are needed"
    return None


def _without_kernels(index: int) -> str | None:
    """Say that this PyTorch was not compiled for a GPU, or return None.

    Machine code (`sm_86`) runs on GPUs of the same major version and the same minor version or a higher one;
    intermediate code (`compute_90`) is compiled for any later GPU.
    """
    major, minor = torch.cuda.get_device_capability(index)
    listed = torch.cuda.get_arch_list()
    for kind, digits in (re.match(r"(sm|compute)_(\d+)", name).groups() for name in listed):  # type: ignore[union-attr]
        compiled_for = int(digits[:-1]), int(digits[-1])
        if compiled_for <= (major, minor) and (kind == "compute" or compiled_for[0] == major):
            return None
    name = torch.cuda.get_device_name(index)
    return f"cuda:{index} ({name}, {major}.{minor}): this PyTorch has kernels for {', '.join(listed) or 'no GPU'} only"


def arithmetic_of(device: torch.device) -> str | None:
    """Say how a GPU computes with float32 numbers: what a figure depends on besides versions. None for another device.

    TensorFloat-32 has 10 bits of the 23 after the point; cuDNN may choose among algorithms that sum in another order.
    """
    if device.type != "cuda":
        return None
    backends: Any = torch.backends
    parts = [
        f"{name}: {'TF32' if part.fp32_precision == 'tf32' else 'float32'}"
        for name, part in (("matrix products", backends.cuda.matmul), ("convolutions", backends.cudnn.conv))
    ]
    parts.append(f"cuDNN {backends.cudnn.version()}")
    parts += ["cuDNN tries its algorithms"] if backends.cudnn.benchmark else []
    parts += ["deterministic algorithms only"] if torch.are_deterministic_algorithms_enabled() else []
    return ", ".join(parts)


def threads_for(num_threads: int | str) -> int:
    """Return the number of CPU threads that a run needs at least: one if the key `num_threads` is `auto`."""
    return 1 if num_threads == "auto" else int(num_threads)


def flush_denormals_from_now_on() -> None:
    """Treat float32 numbers below 1.2e-38 as 0 in this thread, and in PyTorch's threads if none is running yet.

    The setting belongs to a thread. The threads of PyTorch's pool inherit it from the thread whose operation needs them
    first, so call this before the first operation on a tensor. An engine that wants denormals gets them in the main
    thread alone.
    """
    torch.set_flush_denormal(True)


def _generators(device: torch.device) -> list[torch.Generator]:
    """Return PyTorch's global random numbers: the CPU's, and those of `device` if it is a GPU."""
    if device.type == "cuda":
        torch.cuda.init()
        return [torch.default_generator, torch.cuda.default_generators[device.index or 0]]
    if device.type == "mps":
        return [torch.default_generator, torch.mps._get_default_mps_generator()]
    return [torch.default_generator]


@contextmanager
def random_numbers_kept(device: torch.device) -> Iterator[None]:
    """Leave PyTorch's global random numbers after the block where they stood before it."""
    generators = _generators(device)
    states = [generator.get_state() for generator in generators]
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


class RandomNumbers:
    """A stream of random numbers that takes the place of PyTorch's global ones in a block, and goes on in the next."""

    def __init__(self, device: torch.device, seed: int) -> None:
        """Start the stream of the CPU and of `device` from `seed` (0 to 2**64 - 1)."""
        self.device = device
        with random_numbers_kept(device):
            self.states = [generator.manual_seed(seed).get_state() for generator in _generators(device)]

    @contextmanager
    def drawn_from(self) -> Iterator[None]:
        """Let whatever draws random numbers in the block draw from this stream; the global ones stay as they are."""
        generators = _generators(self.device)
        with random_numbers_kept(self.device):
            for generator, state in zip(generators, self.states, strict=True):
                generator.set_state(state)
            yield
            self.states = [generator.get_state() for generator in generators]


@contextmanager
def frozen(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Put every module of `model` into evaluation mode in the block; restore modes and random numbers after it."""
    modes = {module: module.training for module in model.modules()}
    with random_numbers_kept(device):
        try:
            model.eval()
            yield
        finally:
            for module, training in modes.items():
                module.training = training


# Linux counts the most memory that was resident, and starts counting anew if 5 is written here.
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# How PyTorch's allocator of the CPU words it, which has no error of its own.
OF_THE_ALLOCATOR = ("can't allocate memory", "not enough memory")


class PeakMemory:
    """Measures the most memory that this process holds from now on: resident, and allocated on a CUDA device.

    Where the system cannot start counting anew, it is the most since the process started.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        with suppress(OSError):
            CLEAR.write_text("5")
        if device.type == "cuda":
            # Before the process has used the device, nothing is counted.
            torch.cuda.init()
            # An earlier run may have kept memory for itself, perhaps one that ran out of it.
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)

    def peaks(self) -> dict[str, float]:
        """Return what was measured since, in MB, by the name of its column."""
        peaks = {"peak_memory_mb": (resident_peak() or 0) / MB}
        if self.device.type == "cuda":
            peaks["peak_cuda_memory_mb"] = torch.cuda.max_memory_allocated(self.device) / MB
        return peaks


def resident_peak() -> int | None:
    """Return the most bytes that were resident since the count was started anew, or since the process started.

    None if the system does not count them.
    """
    with suppress(OSError, ValueError, KeyError):
        lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    # Windows has no such module.
    with suppress(ImportError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` says that a device, or this machine, has no more memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OF_THE_ALLOCATOR)


def error_line(error: BaseException, batch_size: int) -> str:
    """Return the line that names an error inside a run: its kind and the first line of what it says."""
    if is_out_of_memory(error):
        return f"out of memory at batch size {batch_size}"
    first_line = str(error).strip().partition("\n")[0]
    return ": ".join(filter(None, [type(error).__name__, first_line]))


def traceback_of(error: BaseException, batch_size: int) -> str:
    """Return the traceback of an error inside a run; its last line names it, however many lines PyTorch says."""
    text, line = "".join(traceback.format_exception(error)), error_line(error, batch_size)
    return text if text.rstrip().endswith(line) else text + line
