"""The device: which one, its threads, its denormals, its memory."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import Tensor, nn

from digits_sweep.errors import DeviceUnavailable


def resolve_device(name: str) -> torch.device:
    """Return the device behind `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    `auto` takes a CUDA GPU, else Apple's, else the CPU. Raises `DeviceUnavailable` if PyTorch sees no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda":
        seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= seen:
            raise DeviceUnavailable(f"device={name}: PyTorch sees {seen} CUDA devices here; choose auto or cpu")
        return torch.device("cuda", device.index or 0)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceUnavailable("device=mps: PyTorch sees no Apple GPU here; choose auto or cpu")
    return device


def threads_for(num_threads: int | str) -> int:
    """Return the number of CPU threads for the key `num_threads`: `auto` is one, on every machine.

    Another number of threads may add in another order and so change the last digit of a loss: a number that depended
    on the machine, or on a launcher's share of it, would give the same command other results elsewhere, and a resumed
    run other results than it began with. One is also what pays for small networks, whose steps are operations of some
    microseconds: on two quiet cores a second thread gains about a tenth at batch size 100, but while another program
    took one of the cores, an epoch of 0.7 s was seen to take half a minute. `engine=native` gives the same bits for any
    number of threads, but there too a second one costs time at small batch sizes while others use the cores.
    """
    return 1 if num_threads == "auto" else int(num_threads)


def flush_denormals_from_now_on() -> None:
    """Treat float32 numbers below 1.2e-38 as 0 in this thread, and in PyTorch's threads if none is running yet.

    The setting belongs to a thread, and the threads of PyTorch's pool inherit it from the one whose operation first
    needs them, so this must come before the first operation on a tensor. An engine that wants denormals gets them in
    the main thread alone.
    """
    torch.set_flush_denormal(True)


def seed_random_numbers(device: torch.device, seed: int) -> None:
    """Start PyTorch's global random numbers, of the CPU and of `device`, from `seed` (0 to 2**64 - 1)."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def random_state(device: torch.device) -> list[Tensor]:
    """Return where PyTorch's global random numbers stand, those of the CPU and of `device`."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    elif device.type == "mps":
        states.append(torch.mps.get_rng_state())
    return states


def set_random_state(device: torch.device, states: list[Tensor]) -> None:
    """Set PyTorch's global random numbers to where they stood when `random_state` returned `states`."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(states[1])


@contextmanager
def random_numbers_kept(device: torch.device) -> Iterator[None]:
    """Leave PyTorch's global random numbers after the block where they stood before it."""
    states = random_state(device)
    try:
        yield
    finally:
        set_random_state(device, states)


class RandomNumbers:
    """A stream of PyTorch's global random numbers, which takes their place in a block and goes on in the next one."""

    def __init__(self, device: torch.device, seed: int) -> None:
        """Start the stream of the CPU and of `device` from `seed` (0 to 2**64 - 1)."""
        self.device = device
        with random_numbers_kept(device):
            seed_random_numbers(device, seed)
            self.state = random_state(device)

    @contextmanager
    def drawn_from(self) -> Iterator[None]:
        """Let what draws random numbers in the block draw from this stream, and nothing else notice it."""
        with random_numbers_kept(self.device):
            set_random_state(self.device, self.state)
            yield
            self.state = random_state(self.device)


@contextmanager
def frozen(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Keep every module of `model` in evaluation mode in the block, and its mode and random numbers as they were."""
    modes = {module: module.training for module in model.modules()}
    with random_numbers_kept(device):
        try:
            model.eval()
            yield
        finally:
            for module, training in modes.items():
                module.training = training


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
