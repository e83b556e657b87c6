"""Which device a run computes on, and with how many threads."""

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


def threads_for(num_threads: int | str) -> int:
    """Return the number of CPU threads for the key `num_threads`: `auto` is one, on every machine.

    Another number of threads may add in another order and so change the last digit of a loss: a number that depended
    on the machine, or on a launcher's share of it, would give the same command other results elsewhere, and a resumed
    run other results than it began with. One is also what pays for small networks, whose steps are operations of some
    microseconds: on two quiet cores a second thread gains about a tenth at batch size 100, but while another program
    took one of the cores, an epoch of 0.7 s was seen to take half a minute.
    """
    return 1 if num_threads == "auto" else int(num_threads)


def flush_denormals_from_now_on() -> None:
    """Treat float32 numbers below 1.2e-38 as 0 in this thread, and in PyTorch's threads if none is running yet.

    The setting belongs to a thread, and the threads of PyTorch's pool inherit it from the one whose operation first
    needs them, so this must come before the first operation on a tensor. An engine that wants denormals gets them in
    the main thread alone.
    """
    torch.set_flush_denormal(True)
