"""A command as a process: it can be stopped at any moment."""

import atexit
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType

from digits_sweep.process.streams import drop_what_is_left

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
def at_once() -> Iterator[None]:
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
