"""What the user's code changes of this process is put back, and said: other runs must not depend on it."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

OUR_THREADS, GONE = "digits_sweep", "a folder that is gone"
# What PyTorch has if the user's code is the first that imports it.
DEFAULTS = {"torch's default type": "torch.float32", "torch's default device": "cpu", "torch's gradients": True}
# What the user's code changed of this process, a line each, until somebody says it.
_taken_back: list[str] = []


@contextmanager
def changes_taken_back(who: str) -> Iterator[None]:
    """Run code of the user's, `who`; what it changes of the process for whatever runs later is as before.

    `what_was_taken_back` then returns a line for that, and for threads that it has left running.
    """
    before, threads = _process_state(), set(threading.enumerate())
    try:
        yield
    finally:
        for name, (value, put) in _process_state().items():
            then = before[name][0] if name in before else DEFAULTS.get(name, value)
            if value != then and then != GONE:
                put(then)
                _taken_back.append(f"{who} has changed {name} to {value}; it is {then} again")
        # The program's own are gone in a moment, and have this name.
        left = [each for each in threading.enumerate() if each not in threads and not each.name.startswith(OUR_THREADS)]
        if left:
            _taken_back.append(f"{who} has left threads running ({len(left)}), beside which later runs are timed")


def what_was_taken_back() -> list[str]:
    """Return, once, what the user's code has changed since this was called last."""
    lines = list(dict.fromkeys(_taken_back))
    _taken_back.clear()
    return lines


def _process_state() -> dict[str, tuple[Any, Callable[[Any], Any]]]:
    """Return what code may change of a process without being asked to, and what sets it, by its name."""
    state: dict[str, tuple[Any, Callable[[Any], Any]]] = {"the working folder": (_working_folder(), os.chdir)}
    if torch := sys.modules.get("torch"):
        state |= {
            "torch's default type": (
                str(torch.get_default_dtype()),
                lambda name: torch.set_default_dtype(getattr(torch, name.removeprefix("torch."))),
            ),
            # A device that is set, even to what it is anyway, makes every call slower.
            "torch's default device": (
                str(torch.get_default_device()),
                lambda name: torch.set_default_device(None if name == "cpu" else name),
            ),
            "torch's gradients": (torch.is_grad_enabled(), torch.set_grad_enabled),
            "torch's number of threads": (torch.get_num_threads(), torch.set_num_threads),
        }
    return state


def _working_folder() -> str:
    try:
        return str(Path.cwd())
    # It may have been removed.
    except FileNotFoundError:
        return GONE
