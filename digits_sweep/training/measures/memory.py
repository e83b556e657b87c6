"""The most memory that a run held at once, and errors that say that there was no more."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

MB = 1e6
# Linux counts the most memory that was resident, and starts counting anew if 5 is written here.
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# What PyTorch's allocator of the CPU says; it has no error of its own.
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
            # Nothing is counted before the process has used the device.
            torch.cuda.init()
            # What a run before kept for itself, perhaps one that ran out of memory.
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)

    def note(self, summary: dict[str, Any]) -> None:
        """Raise the columns of memory in `summary`, in MB, to what was measured since; what they have may be higher."""
        found = {"peak_memory_mb": (resident_peak() or 0) / MB}
        if self.device.type == "cuda":
            found["peak_cuda_memory_mb"] = torch.cuda.max_memory_allocated(self.device) / MB
        for name, value in found.items():
            summary[name] = round(max(value, summary.get(name) or 0.0), 1) or None


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
