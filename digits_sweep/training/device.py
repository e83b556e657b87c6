"""Which device a run computes on, and with how many threads."""

import os

import torch

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


# Set by launchers that start several processes and give each a share of the cores: the first by joblib and Ray, the
# second by Slurm.
SHARES = ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK")


def usable_cores() -> int:
    """Count the CPU cores that this process may use; a launcher that starts several gives each a share of them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shares = (os.environ.get(name, "") for name in SHARES)
    return min([cores, *(int(share) for share in shares if share.isdigit() and int(share) > 0)])


def threads_for(batch_size: int, cores: int) -> int:
    """Return the number of CPU threads that pays for itself: one for batches below 500, every core above.

    A step of a small network is tens of operations of some microseconds each. Threads that share one wait for each
    other in a busy loop: on two quiet cores that gains about a tenth at batch size 100, but while another program took
    one of the cores, an epoch of 0.7 s was seen to take half a minute. `num_threads` overrules this.
    """
    return 1 if batch_size < 500 else cores


def flush_denormals_from_now_on() -> None:
    """Treat float32 numbers below 1.2e-38 as 0 in this thread, and in PyTorch's threads if none is running yet.

    The setting belongs to a thread, and the threads of PyTorch's pool inherit it from the one whose operation first
    needs them, so this must come before the first operation on a tensor. An engine that wants denormals gets them in
    the main thread alone.
    """
    torch.set_flush_denormal(True)
