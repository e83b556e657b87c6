"""What training sets in a process, put back for a larger program that the sweep is only a part of."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

HANDLED = ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP")


@contextmanager
def as_before() -> Iterator[None]:
    """Run the block; PyTorch's threads, its denormals and the handlers of signals are then as they were."""
    threads, flushes = torch.get_num_threads(), _flushes_denormals()
    numbers = [getattr(signal, name) for name in HANDLED if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushes)
        for number, handler in handlers.items():
            # Only the main thread may, and only it can have changed them. None is a handler that is not Python's.
            with suppress(ValueError):
                if handler is not None and signal.getsignal(number) is not handler:
                    signal.signal(number, handler)


def _flushes_denormals() -> bool:
    """Return whether this thread takes float32 numbers below 1.2e-38 as 0. PyTorch has no question for that."""
    return (torch.tensor(2e-38) / 10).item() == 0
