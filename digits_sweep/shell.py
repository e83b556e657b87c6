"""A command as a process and on a terminal: signals, output that cannot be written, lines, bars and tables.

Every command imports this first, so rich is imported by the functions that draw.
"""

import argparse
import atexit
import math
import os
import re
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Any, NoReturn, cast

from digits_sweep import __version__
from digits_sweep.errors import DigitsSweepError, escape_controls, one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars


class Tolerant:
    """A stream that drops what `stream` cannot take: what is printed must not change what is trained or recorded.

    The disk may be full, the terminal gone, the stream closed, or its encoding may lack a character. A program may have
    put any object in the place of standard output, which raises what it likes.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        try:
            return bool(self._stream.isatty())
        except Exception:
            return False

    def write(self, text: str) -> int:
        with suppress(Exception):
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                self._stream.write(text.encode(self.encoding, "replace").decode(self.encoding))
        return len(text)

    def flush(self) -> None:
        with suppress(Exception):
            self._stream.flush()


def write_line(text: str) -> None:
    """Print to standard output, as far as it can be written."""
    print(text, file=Tolerant(sys.stdout), flush=True)


def this_python() -> str:
    """Return what starts this Python in a shell: `python` if that is it, else the path of its file.

    Environments may share a Python, so folders are compared: a link in one is not the Python of another.
    """
    here, first = Path(sys.executable), shutil.which("python")
    if first and Path(first).parent.resolve() == here.parent.resolve():
        return "python"
    with suppress(ValueError, OSError):
        here = here.relative_to(Path.cwd())
    return shlex.quote(str(here))


def as_typed(module: str, *words: str) -> str:
    """Return the command that runs `module` of this Python with these words, as one types it."""
    return f"{this_python()} -m {module} {shlex.join(words)}".rstrip()


def in_this_folder(command: str) -> str:
    """Return a command to be run where this process stands, whose paths and modules may be relative."""
    return f"cd {shlex.quote(str(Path.cwd()))} && {command}"


# What a shell reports for a command that is stopped by SIGINT or SIGTERM.
INTERRUPTED, TERMINATED = 130, 143
CODES: dict[int, int] = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}


# How long a library may go on after a signal before that is said.
SECONDS_UNHEARD = 2.0
UNHEARD = "stopping after the present step, which is one call of a library; Ctrl-C again to end at once"


class Terminated(KeyboardInterrupt):
    """SIGTERM: what a scheduler sends before it kills."""


def entry_point(main: Callable[[list[str]], int | None]) -> Callable[..., None]:
    """Make `main` the entry point of a command, to be called with arguments, or with none for those of this process.

    `main` takes the arguments and returns an exit code, None for 0. `--version` is answered here. A `DigitsSweepError`,
    an OSError and a library that is not installed end the command with SystemExit and one line. If the reader of what
    is printed has gone, such as `head`, that is no error.

    Ctrl-C and SIGTERM end the process at once, until `main` enters a block of `stoppable` to save something. If a
    program calls the command with arguments, its signals are left alone until then.
    """

    @wraps(main)
    def command(arguments: Sequence[str] | None = None) -> None:
        if arguments is None:
            with _whole_process():
                _answer(main, sys.argv[1:])
        else:
            _answer(main, list(arguments))

    return command


def _answer(main: Callable[[list[str]], int | None], arguments: list[str]) -> None:
    if "--version" in arguments:
        write_line(f"digits_sweep {__version__}")
        return
    try:
        code = main(arguments)
    except BrokenPipeError:
        return
    except ModuleNotFoundError as missing:
        if (missing.name or "digits_sweep").partition(".")[0] == "digits_sweep":
            raise
        module = getattr(sys.modules[main.__module__].__spec__, "name", "digits_sweep").removesuffix(".__main__")
        sys.exit(f"{missing.name} is not installed here; run make sweep once, then .venv/bin/python -m {module}")
    except (DigitsSweepError, OSError) as error:
        sys.exit(str(error))
    if code:
        sys.exit(code)


class Parser(argparse.ArgumentParser):
    """Reads the arguments of a command, and refuses others in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with one line, without the usage, which `--help` shows."""
        self.exit(2, f"{message}\n")


@contextmanager
def _whole_process() -> Iterator[None]:
    """Run what this process is for: signals end it at once, and in the end it leaves without being taken apart.

    To take PyTorch apart takes some tenths of a second, and 60 to 110 MB of memory more than training took. The process
    leaves after every other function that `atexit` knows, as it is the first to be registered, and after all threads.
    After an error that nobody expected Python ends it as usual.
    """
    code: int | None = None

    def leave() -> None:
        if code is not None and not hasattr(sys, "last_value") and not sys.flags.inspect:
            # What cannot be written Python would report at exit, with an exit code of its own.
            Tolerant(sys.stdout).flush()
            Tolerant(sys.stderr).flush()
            os._exit(code)

    atexit.register(leave)
    _handle_signals(_stop_at_once)
    try:
        yield
        code = 0
    except KeyboardInterrupt as stop:
        # It came in the very moment in which a block of `stoppable` began or ended.
        _stop_at_once(signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    finally:
        # All is done: nothing is said of the last moments.
        _handle_signals(lambda number, frame: os._exit(CODES[number]))


@contextmanager
def stoppable() -> Iterator[None]:
    """Save what must be saved in the block: a signal raises KeyboardInterrupt or `Terminated` in it, a second ends all.

    Whatever the block makes of that, the command ends with SystemExit(130 or 143) and the line `stopped`, unless the
    block raises that SystemExit itself. Outside the main thread no signal is received, and the block just runs.
    """
    received: list[int] = []
    is_heard = threading.Event()

    def receive(number: int, frame: FrameType | None) -> None:
        is_heard.set()
        if received:
            _stop_at_once(number)
        received.append(number)
        # A library may lose the exception in a callback, which Python would report with a traceback.
        sys.unraisablehook = lambda unraisable: None
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    before, hook = _handle_signals(receive), sys.unraisablehook
    try:
        with _said_if_unheard(is_heard):
            yield
    except BaseException as error:
        is_said = isinstance(error, SystemExit) and error.code in CODES.values()
        if is_said or not (received or isinstance(error, KeyboardInterrupt)):
            raise
        _say_stopped()
        raise SystemExit(CODES[received[0] if received else signal.SIGINT]) from None
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _said_if_unheard(is_heard: threading.Event) -> Iterator[None]:
    """Say in the block that a signal has come which Python will hear later, and let a second one end all even then.

    A step of a large network is one call of a library, which no signal interrupts.
    """
    # Elsewhere a wakeup descriptor is no pipe, and outside the main thread there is none.
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_listen, args=(reader, is_heard), name="digits_sweep signals", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)


def _listen(reader: int, is_heard: threading.Event) -> None:
    """Read the numbers of signals until nobody writes any more."""
    has_come = False
    with os.fdopen(reader, "rb", buffering=0) as signals:
        while number := signals.read(1):
            if number[0] not in CODES or is_heard.wait(SECONDS_UNHEARD):
                continue
            if has_come:
                _stop_at_once(number[0])
            has_come = True
            print(UNHEARD, file=Tolerant(sys.stderr), flush=True)


def _handle_signals(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Let `handler` receive the signals that stop a command; return the handlers before.

    What a shell starts in the background ignores Ctrl-C, and goes on doing so. Outside the main thread nothing changes.
    """
    before: dict[int, Any] = {}
    with suppress(ValueError):
        for number in CODES:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    return before


def _stop_at_once(number: int, frame: FrameType | None = None) -> NoReturn:
    _say_stopped()
    os._exit(CODES[number])


def _say_stopped() -> None:
    print("stopped", file=Tolerant(sys.stderr), flush=True)


# Characters between two columns.
GAP = 2
# Columns are left out before the first one is folded to fewer characters than NARROWEST; with none left to leave out,
# every column is folded before the first one has fewer than LEAST.
NARROWEST, LEAST = 18, 8
# What a cell of a column of numbers may have in letters.
UNITS = re.compile(r"\b(s|min|h|ms|of|not set)\b|\d+e-?\d+|\u00b5s|nan|inf")
# In a pipe nothing is folded, whatever width the environment claims.
PIPE = 240


def console_on(stream: Any) -> "Console":
    """Return a console that writes to a stream what can be written to it; control characters on a terminal only.

    rich itself leaves colors out if NO_COLOR is set, and everything else too if TERM is dumb.
    """
    from rich.console import Console

    tolerant = Tolerant(stream)
    is_terminal = tolerant.isatty()
    return Console(
        file=cast(IO[str], tolerant), highlight=False, force_terminal=is_terminal, width=None if is_terminal else PIPE,
    )  # fmt: skip


def without_room(left_out: Sequence[str]) -> list[str]:
    """Return the line that names columns which were left out, if there are any."""
    return [f"no room for: {', '.join(left_out)} (all columns are in summary.csv)"] if left_out else []


def print_table(
    console: "Console", header: Sequence[str], rows: Sequence[Sequence[str]], optional: Sequence[str] = ()
) -> list[str]:
    """Print a table of text, the first column on the left; return the titles of the columns that had no room.

    Those in `optional` are left out, the first one first, until the others fit the console. Whatever is still too wide
    is folded.
    """
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    # As `Text`, because rich reads a plain string as markup, and a column may be named after a key in a file.
    columns = [[Text(one_line(cell)) for cell in column] for column in zip(header, *rows, strict=True)]
    widths = [max(cell_len(cell.plain) for cell in column) for column in columns]

    def width_with(first: int) -> int:
        return min(widths[0], first) + sum(GAP + widths[index] for index in shown[1:])

    shown, left_out = list(range(len(header))), []
    for title in optional:
        if width_with(NARROWEST) <= console.width:
            break
        if title in header[1:] and (index := header.index(title, 1)) in shown:
            shown.remove(index)
            left_out.append(title)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for index in shown:
        letters = UNITS.sub("", "\n".join(cell.plain for cell in columns[index][1:]))
        table.add_column(
            columns[index][0], justify="left" if index == 0 or any(map(str.isalpha, letters)) else "right",
            # rich folds the first column alone, as long as that is enough.
            overflow="fold", no_wrap=index > 0 and width_with(LEAST) <= console.width,
        )  # fmt: skip
    for row in zip(*(columns[index][1:] for index in shown), strict=True):
        table.add_row(*row)
    console.print(table)
    return left_out


@dataclass
class SweepProgress:
    """How far a sweep is whose runs train one after the other in this process.

    It is at `done` of its `total` runs, the present one in part, and about `left` seconds from its end. `epochs` and
    `batch_sizes` are those of every run, of which `number`, from 0, is training now on `num_samples` examples.
    """

    epochs: Sequence[int]
    batch_sizes: Sequence[int]
    number: int = 0
    num_samples: int = 1
    done: float = field(init=False, default=0.0)
    left: float = field(init=False, default=0.0)
    # What an epoch took, by its number of iterations.
    _seconds: dict[int, float] = field(init=False, default_factory=dict)

    @property
    def total(self) -> int:
        """The number of runs."""
        return len(self.epochs)

    def after(self, epoch: int, seconds: float) -> "SweepProgress":
        """Return how far the sweep is after an epoch of the present run that took so many seconds."""
        self._seconds[self._iterations(self.number)] = seconds
        self.done = self.number + epoch / self.epochs[self.number]
        rest = [self.epochs[self.number] - epoch, *self.epochs[self.number + 1 :]]
        self.left = math.fsum(self._seconds_of(number, epochs) for number, epochs in enumerate(rest, self.number))
        return self

    def _iterations(self, number: int) -> int:
        return math.ceil(self.num_samples / self.batch_sizes[number])

    def _seconds_of(self, number: int, epochs: int) -> float:
        """Return how long epochs of a run take: as measured, or in proportion to the nearest number of iterations."""
        iterations = self._iterations(number)
        nearest = min(self._seconds, key=lambda measured: abs(math.log(measured / iterations)))
        return epochs * self._seconds[nearest] * iterations / nearest


class Screen:
    """Standard output as this program uses it. Control characters are written only if it is a terminal.

    Those in a text, which may come from a file, are written out. A `quiet` one has no line for a run's start and for
    its epochs. Whoever reads one that is `in_python` types Python, and no commands.
    """

    def __init__(self, quiet: bool = False, in_python: bool = False) -> None:
        self.console = console_on(sys.stdout)
        self.quiet, self.in_python = quiet, in_python

    @property
    def is_terminal(self) -> bool:
        """Whether somebody looks at it, and not a file or another program."""
        return self.console.is_terminal

    def say(self, text: str) -> None:
        """Print one line, above the bar if there is one."""
        self.console.print(escape_controls(text), markup=False, emoji=False, soft_wrap=True)

    @contextmanager
    def run(
        self, title: str, num_epochs: int | None, done: int = 0, progress: SweepProgress | None = None
    ) -> Iterator["RunOnScreen"]:
        """Announce a run with `done` epochs finished; on a terminal, show below it how far it and its sweep are.

        `num_epochs` is None if nobody knows how many there will be.
        """
        from rich.progress import BarColumn
        from rich.progress import Progress as Bars

        if not self.quiet:
            self.say(title)
        bars = Bars(
            "  {task.description}",
            BarColumn(bar_width=20),
            "{task.fields[shown]}",
            console=self.console,
            disable=not self.console.is_terminal or self.console.is_dumb_terminal,
            transient=True,
            # Drawn after every epoch only: a bar that moves by itself takes time from the epoch that it shows.
            auto_refresh=False,
        )
        with bars:
            yield RunOnScreen(self, bars, num_epochs, done, progress)

    def table(
        self,
        header: Sequence[str],
        rows: Iterable[Sequence[str]],
        notes: Sequence[str] = (),
        optional: Sequence[str] = (),
    ) -> None:
        """Print a table of text between two empty lines, with `notes` below it.

        A terminal that is too narrow gets the columns in `optional` last: they are left out, and named below it.
        """
        self.say("")
        left_out = print_table(self.console, header, list(rows), optional)
        for line in (*notes, *without_room(left_out), ""):
            self.say(line)


class RunOnScreen:
    """One run's lines, its bar, and the bar of its sweep."""

    def __init__(
        self, screen: Screen, bars: "Bars", num_epochs: int | None, done: int, progress: SweepProgress | None
    ) -> None:
        self.screen, self.bars = screen, bars
        self.num_epochs, self.progress = num_epochs, progress
        self.run_bar = bars.add_task("run", total=num_epochs, completed=done, shown="")
        self.sweep_bar = bars.add_task("sweep", total=1, shown="", visible=progress is not None)

    def epoch(self, number: int, loss_mean: float, loss_std: float, seconds: float) -> None:
        """Print one line for a finished epoch."""
        if not self.screen.quiet:
            of_all = f"{number:{len(str(self.num_epochs))}}/{self.num_epochs}" if self.num_epochs else number
            self.screen.say(f"  epoch {of_all}  loss {loss_mean:.4f} +- {loss_std:.4f}  {seconds:.2f} s")
        if self.progress:
            sweep = self.progress.after(number, seconds)
            shown = f"run {min(int(sweep.done) + 1, sweep.total)} of {sweep.total}, {time_left(sweep.left)}"
            self.bars.update(self.sweep_bar, completed=sweep.done, total=sweep.total, shown=shown)
        left = f", {time_left((self.num_epochs - number) * seconds)}" if self.num_epochs else ""
        shown = f"epoch {self.position(number)}{left}"
        self.bars.update(self.run_bar, completed=number, shown=shown, refresh=True)

    def position(self, number: int) -> str:
        """Return an epoch's number, and of how many, if that is known."""
        return f"{number} of {self.num_epochs}" if self.num_epochs else str(number)


def time_left(seconds: float) -> str:
    """Write a time that is left: `about 12 s left`, `about 3 min left`, `about 2.5 h left`."""
    if seconds < 100:
        return f"about {seconds:.0f} s left"
    return f"about {seconds / 60:.0f} min left" if seconds < 100 * 60 else f"about {seconds / 3600:.1f} h left"
