"""The commands of this program as a user types them: in this process, or as a process of their own."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from itertools import count
from pathlib import Path
from types import ModuleType

import pandas as pd

from tests.servers import CAP_SECONDS, Started, running

Finished = subprocess.CompletedProcess[str]

# Two runs: no machine has the memory that the first one wants, so that it fails when it is built; the second completes.
FAILS_THEN_COMPLETES = ("-m", "model.hidden_layers=1", f"model.hidden_size={10**9},8", "data=mnist_sample")


def module_of(name: str) -> ModuleType:
    """Import what `python -m name` runs."""
    found = import_module(name)
    return import_module(f"{name}.__main__") if hasattr(found, "__path__") else found


class Program:
    """`python -m digits_sweep` in a folder of its own, its output piped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outputs = folder / "outputs"
        self._numbers = count(1)

    def __call__(self, *arguments: str, module: str = "digits_sweep") -> Finished:
        """Run a command in this process, which is then as it was before."""
        return call(module_of(module).main, [module, *arguments], self.folder)

    def completes(self, *arguments: str, module: str = "digits_sweep") -> Finished:
        """Run a command in this process and assert that its exit code is 0."""
        finished = self(*arguments, module=module)
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished

    def process(self, *arguments: str, module: str = "digits_sweep", **options: object) -> Finished:
        """Run a command in a process of its own: if a test is about processes, and else for no reason."""
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=CAP_SECONDS, **options)

    @contextmanager
    def running(
        self, *arguments: str, module: str = "digits_sweep", environment: Mapping[str, str] | None = None
    ) -> Iterator[Started]:
        """Run a command as a process during the block; what is still running at its end is stopped."""
        output = self.folder / f"process_{next(self._numbers)}.out"
        with running(sys.executable, "-m", module, *arguments, output=output, environment=environment) as started:
            yield started

    def copy(self, folder: Path) -> "Program":
        """Return the program in another folder, with a copy of what this one has put out."""
        shutil.copytree(self.outputs, folder / "outputs")
        return Program(folder)

    def table(self) -> pd.DataFrame:
        """Return `summary.csv` of its outputs."""
        return pd.read_csv(self.outputs / "summary.csv")

    def sweeps(self) -> list[Path]:
        """Return the folders of all sweeps, the oldest first."""
        return sorted((self.outputs / "sweeps").glob("*"))

    def sweep(self) -> Path:
        """Return the folder of the only sweep."""
        (folder,) = self.sweeps()
        return folder


def call(main: Callable[[Sequence[str]], None], command: Sequence[str], folder: Path) -> Finished:
    """Call `main` with the arguments behind the first word of `command`, as the interpreter would in `folder`.

    Whatever it changes of this process is put back. An exception other than SystemExit is raised, because a command
    that ends with a traceback is a mistake of the program.
    """
    with ExitStack() as stack:
        stack.enter_context(_everything_put_back())
        os.chdir(folder)
        sys.argv = list(command)
        said, complained = stack.enter_context(_redirected(1)), stack.enter_context(_redirected(2))
        code = 0
        try:
            main(command[1:])
        except SystemExit as end:
            code = end.code
            if isinstance(code, str):
                print(code, file=sys.stderr)
                code = 1
        return subprocess.CompletedProcess(list(command), code or 0, said(), complained())


@contextmanager
def _redirected(descriptor: int) -> Iterator[Callable[[], str]]:
    """Standard output (1) or standard error (2), of processes started in the block too, go to a file; its text."""
    name = {1: "stdout", 2: "stderr"}[descriptor]
    stream, duplicate = getattr(sys, name), os.dup(descriptor)
    stream.flush()
    with tempfile.TemporaryFile() as file, os.fdopen(os.dup(file.fileno()), "w", 1, "utf-8") as ours:
        os.dup2(file.fileno(), descriptor)
        setattr(sys, name, ours)

        def text() -> str:
            ours.flush()
            return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode("utf-8")

        try:
            yield text
        finally:
            setattr(sys, name, stream)
            os.dup2(duplicate, descriptor)
            os.close(duplicate)


@contextmanager
def _everything_put_back() -> Iterator[None]:
    """Folder, environment, arguments, signals, warnings, logging, Hydra and torch are then as they were before."""
    folder, environment, argv, path = Path.cwd(), dict(os.environ), sys.argv, list(sys.path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with warnings.catch_warnings(), _logging_put_back(), _torch_put_back(), _hydra_put_back():
        try:
            yield
        finally:
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(environment)
            sys.argv, sys.path[:] = argv, path
            for number, handler in handlers.items():
                signal.signal(number, handler)


@contextmanager
def _logging_put_back() -> Iterator[None]:
    named = logging.root.manager.loggerDict.values()
    loggers = [logging.root, *(each for each in named if isinstance(each, logging.Logger))]
    before = [(each, each.level, list(each.handlers), each.propagate, each.disabled) for each in loggers]
    raising, disabled = logging.raiseExceptions, logging.root.manager.disable
    try:
        yield
    finally:
        logging.raiseExceptions = raising
        logging.disable(disabled)
        for logger, level, handlers, propagate, off in before:
            for handler in [each for each in logger.handlers if each not in handlers]:
                # The disk that it writes to may be full.
                with suppress(OSError):
                    handler.close()
            logger.handlers[:], logger.propagate, logger.disabled = handlers, propagate, off
            logger.setLevel(level)


@contextmanager
def _torch_put_back() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)


@contextmanager
def _hydra_put_back() -> Iterator[None]:
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    config = HydraConfig.instance().cfg
    try:
        yield
    finally:
        HydraConfig.instance().cfg = config
        GlobalHydra.instance().clear()
