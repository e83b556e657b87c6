"""Commands in processes that are forked from this one, which has imported what they need: they start at once."""

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import NoReturn, cast

import torch

from tests.commands import Program, module_of
from tests.servers import Started

# What a sweep, a search and a report import when they need it.
IMPORTED = ("digits_sweep.sweep.session", "digits_sweep.sweep.launch", "digits_sweep.report.page")
SEARCHES = {
    "digits_sweep.tune": "digits_sweep.search.tune",
    "digits_sweep.critical_batch_size": "digits_sweep.search.critical",
}


class Forked:
    """A process as `subprocess.Popen` shows one, as far as the tests ask."""

    def __init__(self, pid: int, args: Sequence[str]) -> None:
        self.pid, self.args, self.returncode = pid, args, cast("int | None", None)

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit code. Raises TimeoutExpired."""
        give_up = time.monotonic() + (timeout or float("inf"))
        while (code := self.poll()) is None:
            if time.monotonic() > give_up:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class ForkedProgram(Program):
    """`python -m digits_sweep` in a folder of its own; running commands are forks of this process."""

    @contextmanager
    def running(
        self, *arguments: str, module: str = "digits_sweep", environment: Mapping[str, str] | None = None
    ) -> Iterator[Started]:
        """Run a command as a process during the block; what is still running at its end is killed."""
        for name in (*IMPORTED, *filter(None, [SEARCHES.get(module)])):
            import_module(name)
        module_of(module)
        # A pool of threads does not survive a fork: a child would wait for it for ever.
        torch.set_num_threads(1)
        output = self.folder / f"process_{next(self._numbers)}.out"
        output.touch()
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            _becomes(module, arguments, output)
        process = Forked(pid, [module, *arguments])
        try:
            yield Started(cast("subprocess.Popen[bytes]", process), output)
        finally:
            process.kill()
            process.wait()


def _becomes(module: str, arguments: Sequence[str], output: Path) -> NoReturn:
    """Make this process one that runs a command, with its output in a file."""
    code = 1
    try:
        os.chdir(output.parent)
        for number in (1, 2):
            os.dup2(os.open(output, os.O_WRONLY | os.O_APPEND), number)
        sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
        sys.argv = [module, *arguments]
        module_of(module).main()
        code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
