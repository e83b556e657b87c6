"""A command as a process and on a terminal: signals, output that cannot be written, lines, bars and tables."""

import atexit
import io
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import IO, Any, Protocol, cast

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from digits_sweep.errors import escape_controls, one_line


class Tolerant(io.TextIOBase):
    """A stream that drops what `stream` cannot take: what is printed must not change what is trained or recorded.

    The disk may be full, the terminal gone, the stream closed, or its encoding may lack a character.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        try:
            return bool(self._stream.isatty())
        except Exception:
            return False

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            with suppress(Exception):
                self._stream.write(text.encode(self.encoding, "replace").decode(self.encoding))
        except Exception:
            # Whatever a program has put in the place of standard output raises what it likes.
            pass
        return len(text)

    def flush(self) -> None:
        with suppress(Exception):
            self._stream.flush()


def write_line(text: str) -> None:
    """Print to standard output, as far as it can be written."""
    print(text, file=Tolerant(sys.stdout), flush=True)


def drop_what_is_left() -> None:
    """Flush the standard streams. What cannot be written Python would report at exit, with an exit code of its own."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            with suppress(OSError, ValueError, AttributeError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)


# What a shell reports for SIGINT and SIGTERM.
INTERRUPTED, TERMINATED = 130, 143
CODES: dict[int, int] = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}


class Terminated(KeyboardInterrupt):
    """SIGTERM: what a scheduler sends before it kills."""


@contextmanager
def command(arguments: Sequence[str] | None) -> Iterator[None]:
    """Run a command in the block; `arguments` are those of its `main`, None if it is what this process is for.

    Ctrl-C raises KeyboardInterrupt in the block, SIGTERM `Terminated`. Whatever the block makes of that, no traceback
    is shown: the command ends with SystemExit(130 or 143), and with a line unless the block raised that itself.
    Outside the main thread no signal is received, and the block just runs.
    """
    stop = _Stop(is_process=arguments is None)
    leave = stop.leave
    with stop.received():
        try:
            yield
            if leave:
                leave.code = 0
        except GeneratorExit:
            raise
        except BaseException as error:
            stop.is_ending = True
            if not stop.is_meant_by(error):
                if leave and isinstance(error, SystemExit):
                    leave.code = error.code if isinstance(error.code, int) else int(error.code is not None)
                raise
            raise SystemExit(stop.end()) from None
        finally:
            stop.is_ending = True
            if stop.is_process:
                drop_what_is_left()


@contextmanager
def die_on_signal() -> Iterator[None]:
    """End the process at once if its command is stopped in the block, where nothing has to be cleaned up.

    This is for imports: an exception in the middle of one may become another, or leave half a module.
    """
    stop = _Stop.current
    if stop is None:
        yield
        return
    stop.is_importing = True
    try:
        yield
    finally:
        stop.is_importing = False


@contextmanager
def held() -> Iterator[None]:
    """Keep a signal that stops the command back until the block ends, or until `let_through` in it.

    This is for a library that must not be stopped just anywhere, because it has threads of its own, for example. While
    one signal is kept back, the next one is not.
    """
    stop = _Stop.current
    if stop is None:
        yield
        return
    stop.is_holding = True
    try:
        yield
    finally:
        stop.is_holding = False
    stop.deliver()


@contextmanager
def let_through() -> Iterator[None]:
    """Within a block of `held`: receive what was kept back, and what comes while this block runs."""
    stop = _Stop.current
    if stop is None:
        yield
        return
    stop.is_holding = False
    try:
        stop.deliver()
        yield
    finally:
        stop.is_holding = True


class _Stop:
    """Whether a command was asked to stop, and how it ends then."""

    current: "_Stop | None" = None

    def __init__(self, is_process: bool) -> None:
        self.is_process = is_process
        self.leave = _Leave() if is_process else None
        self.is_importing = False
        self.is_ending = False
        self.is_holding = False
        self.number: int | None = None
        self._kept_back: type[KeyboardInterrupt] | None = None
        self._has_said = False

    @contextmanager
    def received(self) -> Iterator[None]:
        """Handle signals in the block; if the process is for this command, also after it."""
        outer, _Stop.current = _Stop.current, self
        before, hooks = {}, (sys.excepthook, sys.unraisablehook)
        # Only the main thread may. What a shell starts in the background ignores Ctrl-C, and so does this then.
        with suppress(ValueError):
            for number in CODES:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    before[number] = signal.signal(number, self._receive)
        if self.is_process:
            sys.excepthook = self._excepthook
        try:
            yield
        finally:
            _Stop.current = outer
            if not self.is_process:
                for number, handler in before.items():
                    signal.signal(number, handler)
                sys.excepthook, sys.unraisablehook = hooks

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.is_process and self.is_ending and self.number is None:
            # It has done its work: nothing is said of its last moments.
            os._exit(CODES[number])
        self.number = self.number or number
        if self.is_process and (self.is_ending or self.is_importing):
            os._exit(self.end())
        # A library may lose the exception in a callback, which Python would report with a traceback.
        sys.unraisablehook = lambda unraisable: None
        raised = Terminated if number == signal.SIGTERM else KeyboardInterrupt
        if self.is_holding and self._kept_back is None:
            self._kept_back = raised
            return
        raise raised

    def deliver(self) -> None:
        """Raise what was kept back."""
        kept_back, self._kept_back = self._kept_back, None
        if kept_back:
            raise kept_back

    def is_meant_by(self, error: BaseException) -> bool:
        """Return whether the command ends by `error` because it was stopped, which it has not said itself."""
        if isinstance(error, SystemExit):
            return self.number is not None and error.code not in CODES.values()
        return self.number is not None or isinstance(error, KeyboardInterrupt)

    def end(self) -> int:
        """Say that the command was stopped, and return its exit code."""
        if not self._has_said:
            self._has_said = True
            with suppress(OSError, ValueError, AttributeError):
                sys.stderr.write("stopped\n")
                sys.stderr.flush()
        return CODES[self.number or signal.SIGINT]

    def _excepthook(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """A signal may come in the very moment in which the block ends."""
        if self.number is not None:
            os._exit(self.end())
        if self.leave:
            self.leave.code = None
        sys.__excepthook__(kind, error, trace)


class _Leave:
    """Ends the process when all is done, without taking it apart.

    To take PyTorch apart takes some tenths of a second, and 60 to 110 MB of memory more than training took. This comes
    after every other function that `atexit` knows, as it is the first to be registered, and after all threads.
    """

    def __init__(self) -> None:
        # None: Python ends it as usual, after an error that nobody expected, for example.
        self.code: int | None = None
        self._process = os.getpid()
        atexit.register(self._end)

    def _end(self) -> None:
        if self.code is not None and os.getpid() == self._process and not sys.flags.inspect:
            drop_what_is_left()
            os._exit(self.code)


GAP = 2
# Before the first column is folded to fewer characters than these, others are left out; if none is left, to at least so
# many.
NARROWEST, LEAST = 18, 8
# What a cell of a column of numbers may have in letters.
UNITS = re.compile(r"\b(s|min|h|ms|of|not set)\b|\d+e-?\d+|\u00b5s|nan|inf")


# In a pipe nothing is folded, whatever width the environment claims.
PIPE = 240


def console_on(stream: Any) -> Console:
    """Return a console that writes to a stream what can be written to it; control characters on a terminal only.

    rich itself leaves colors out if NO_COLOR is set, and everything else too if TERM is dumb.
    """
    tolerant = Tolerant(stream)
    is_terminal = tolerant.isatty()
    return Console(
        file=cast(IO[str], tolerant), highlight=False, force_terminal=is_terminal, width=None if is_terminal else PIPE,
    )  # fmt: skip


def without_room(left_out: Sequence[str]) -> list[str]:
    """Return the line that names columns which were left out, if there are any."""
    return [f"no room for: {', '.join(left_out)} (all columns are in summary.csv)"] if left_out else []


def print_table(
    console: Console, header: Sequence[str], rows: Sequence[Sequence[str]], optional: Sequence[str] = ()
) -> list[str]:
    """Print a table of text, the first column on the left; return the titles of the columns that had no room.

    Those in `optional` are left out, the first one first, until the others fit the console. Whatever is still too wide
    is folded.
    """
    titles = [one_line(each) for each in header]
    # As `Text`, because rich reads a plain string as markup, and a column may be named after a key in a file.
    cells = [[one_line(each) for each in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(titles, *cells, strict=True)]
    shown, left_out = list(range(len(titles))), []
    for title in optional:
        least = min(widths[0], NARROWEST) + sum(widths[place] + GAP for place in shown[1:])
        if least <= console.width:
            break
        if title in titles and (place := titles.index(title)) in shown[1:]:
            shown.remove(place)
            left_out.append(title)
    # Only the first column gives way, as long as that is enough.
    others = sum(widths[place] + GAP for place in shown[1:])
    first = min(widths[0], max(console.width - others, LEAST))
    fits = first + others <= console.width
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for place in shown:
        is_number = place > 0 and not any(map(str.isalpha, "".join(UNITS.sub("", row[place]) for row in cells)))
        table.add_column(
            Text(titles[place]), justify="right" if is_number else "left", overflow="fold",
            width=first if fits and not place else None, no_wrap=bool(place and fits),
        )  # fmt: skip
    for row in cells:
        table.add_row(*(Text(row[place]) for place in shown))
    console.print(table)
    return left_out


@dataclass(frozen=True)
class Progress:
    """How far a sweep is: `done` of its `total` runs, the present one in part, and about `left` seconds to its end."""

    done: float
    total: int
    left: float


class Pace(Protocol):
    """Something that knows a whole sweep."""

    def after(self, epoch: int, seconds: float) -> Progress:
        """Return how far the sweep is after an epoch of the present run that took so many seconds."""


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
        self.console.print(Text(escape_controls(text)), soft_wrap=True)

    @contextmanager
    def run(self, title: str, num_epochs: int, done: int = 0, pace: Pace | None = None) -> Iterator["RunOnScreen"]:
        """Announce a run with `done` epochs finished; on a terminal, show below it how far it and its sweep are."""
        if not self.quiet:
            self.say(title)
        bar = Bars(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[shown]}"),
            console=self.console,
            disable=not self.console.is_terminal or self.console.is_dumb_terminal,
            transient=True,
            # Drawn after every epoch only: a bar that moves by itself takes time from the epoch that it shows.
            auto_refresh=False,
        )
        with bar:
            yield RunOnScreen(self, bar, num_epochs, done, pace)

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
        for note in (*notes, *without_room(left_out)):
            self.say(note)
        self.say("")


class RunOnScreen:
    """One run's lines, its bar, and the bar of its sweep."""

    def __init__(self, screen: Screen, bar: Bars, num_epochs: int, done: int, pace: Pace | None = None) -> None:
        self.screen = screen
        self.bar = bar
        self.num_epochs = num_epochs
        self.pace = pace
        self.task = bar.add_task("run", total=num_epochs, completed=done, shown="")
        self.sweep = bar.add_task("sweep", total=1, shown="", visible=pace is not None)

    def epoch(self, number: int, loss_mean: float, loss_std: float, seconds: float) -> None:
        """Print one line for a finished epoch."""
        width = len(str(self.num_epochs))
        if not self.screen.quiet:
            self.screen.say(
                f"  epoch {number:{width}}/{self.num_epochs}  loss {loss_mean:.4f} +- {loss_std:.4f}  {seconds:.2f} s"
            )
        if self.pace:
            sweep = self.pace.after(number, seconds)
            shown = f"run {min(int(sweep.done) + 1, sweep.total)} of {sweep.total}, {time_left(sweep.left)}"
            self.bar.update(self.sweep, completed=sweep.done, total=sweep.total, shown=shown)
        left = time_left((self.num_epochs - number) * seconds)
        self.bar.update(self.task, completed=number, shown=f"epoch {number} of {self.num_epochs}, {left}", refresh=True)


def time_left(seconds: float) -> str:
    """Write a time that is left: `about 12 s left`, `about 3 min left`, `about 2.5 h left`."""
    if seconds < 100:
        return f"about {seconds:.0f} s left"
    return f"about {seconds / 60:.0f} min left" if seconds < 100 * 60 else f"about {seconds / 3600:.1f} h left"
