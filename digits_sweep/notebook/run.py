"""`run`: a sweep without a command line, in this process."""

import inspect
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from digits_sweep.config.own_code import is_object
from digits_sweep.config.own_modules import expect_changes
from digits_sweep.config.plan import plan
from digits_sweep.errors import DigitsSweepError, InvalidConfig
from digits_sweep.notebook.display import screen_for
from digits_sweep.notebook.keywords import as_overrides, signature
from digits_sweep.notebook.result import SweepResult
from digits_sweep.sweep import session
from digits_sweep.sweep.launch import launch_in_process

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from digits_sweep.notebook.keys import Keys


# How `run` is called, and the only flags that mean something there.
EXAMPLE = "run('data.batch_size=100,20', 'trainer.num_epochs=3')"
CONFIG_DIR = ("--config-dir", "-cd")


def run(*overrides: str, **keys: "Unpack[Keys]") -> SweepResult:
    """Train what `python -m digits_sweep -m` would with these overrides, one run after the other, in this process.

    `run("data.batch_size=100,20,5")` or `run(batch_size=[100, 20, 5])` is the sweep, `run(batch_size=5)` a single run,
    `run(resume="latest")` resumes what was stopped. A keyword is the last part of a key or the name of a group; several
    values are a list or a range. `run(model=Network, data=(train, test))` takes a class or a function that makes a
    network, and data or a function that returns them: what `model.target` and `data.target` name on a command line.
    Returns the sweep. In a notebook it is shown as a table with its verdict, and while it trains a display shows how
    far it is. Threads and denormals of PyTorch, handlers of signals and Hydra are as before when it returns or raises.

    Raises a `DigitsSweepError` before anything is trained if an override or a keyword is wrong, or data, device or
    folder cannot be had, and TypeError for what is no override. A run that fails says so in its row and its record;
    with `fail_fast=true` it is the last one. After KeyboardInterrupt `latest()` is the sweep as far as it came.
    """
    for override in overrides:
        if not isinstance(override, str) or (override.startswith("-") and not override.startswith(CONFIG_DIR)):
            raise TypeError(f"run({override!r}): must be key=value, a text for each key: {EXAMPLE}")
    try:
        with restored_process_state():
            expect_changes()
            planned = plan(["-m", *overrides, *as_overrides(keys, overrides)])
            if planned.settings.dry_run or not planned.launcher.in_process:
                raise InvalidConfig("dry_run=true and hydra/launcher=... are for the command line; leave them out")
            screen = screen_for(planned.settings.quiet)
            if objects := [each for each in planned.command if is_object(each.partition("=")[2])]:
                screen.say(f"{', '.join(objects)}: no file, so that no other process can resume this sweep")
            _, folder = session.execute(planned, launch_in_process, screen)
            return SweepResult(cast(Path, folder), outputs=planned.outputs)
    except (DigitsSweepError, OSError, KeyboardInterrupt) as error:
        # The text says it all: the calls in between are of no use to whoever reads it.
        raise error.with_traceback(None) from None


# What completes keywords in a notebook reads it.
run.__signature__ = signature(inspect.signature(run))  # type: ignore[attr-defined]


@contextmanager
def restored_process_state() -> Iterator[None]:
    """Run the block; PyTorch's threads, its denormals and the handlers of signals are then as they were."""
    # PyTorch does not say whether it takes float32 numbers below 1.2e-38 as 0.
    threads, flushes_denormals = torch.get_num_threads(), (torch.tensor(2e-38) / 10).item() == 0
    names = ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in numbers}
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if torch.are_deterministic_algorithms_enabled() != deterministic:
            torch.use_deterministic_algorithms(deterministic)
        torch.set_flush_denormal(flushes_denormals)
        for number, handler in handlers.items():
            # Only the main thread may, and only it can have changed them. None is a handler that is not Python's.
            with suppress(ValueError):
                if handler is not None and signal.getsignal(number) is not handler:
                    signal.signal(number, handler)
