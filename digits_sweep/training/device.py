"""Which device a run computes on, and with how many threads."""

import os

import torch


class DeviceUnavailable(Exception):
    """The device that was asked for does not exist here. The text names the key, the value and what would be right."""


def resolve_device(name: str) -> torch.device:
    """The device behind `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    `auto` takes a CUDA GPU, else Apple's, else the CPU. Raises `DeviceUnavailable` where PyTorch sees no such device.
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


# What launchers set where they start several processes and give each its part of the cores: joblib and Ray the first,
# Slurm the second.
PARTS = ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK")


def usable_cores() -> int:
    """The CPU cores that this process may use: a launcher that starts several gives each its part of them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parts = (os.environ.get(name, "") for name in PARTS)
    return min([cores, *(int(part) for part in parts if part.isdigit() and int(part) > 0)])


def flush_denormals_from_now_on() -> None:
    """Take float32 numbers below 1.2e-38 as 0 in this thread, and in PyTorch's threads if none is running yet.

    The setting belongs to a thread, and the threads of PyTorch's pool inherit it from the one whose operation first
    needs them: so this comes before the first operation on a tensor. An engine that wants denormals after all gets
    them in the main thread alone.
    """
    torch.set_flush_denormal(True)
