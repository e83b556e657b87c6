"""What a terminal shows while a sweep runs: lines, a bar with the time left, and the table; in a pipe plain lines."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from digits_sweep.results.disk.harmless import visible
from digits_sweep.results.history import EpochRow
from digits_sweep.terminal import console_on, print_table, without_room


class Screen:
    """Standard output as this program uses it. Control characters are written only if it is a terminal.

    Those in a text, which may come from a file, are written out.
    """

    def __init__(self) -> None:
        self.console = console_on(sys.stdout)

    @property
    def is_terminal(self) -> bool:
        """Whether somebody looks at it, and not a file or another program."""
        return self.console.is_terminal

    def say(self, text: str) -> None:
        """Print one line, above the bar if there is one."""
        self.console.print(Text(visible(text)), soft_wrap=True)

    @contextmanager
    def run(self, title: str, num_epochs: int, done: int = 0) -> Iterator["RunOnScreen"]:
        """Announce a run with `done` epochs finished; on a terminal, show its bar below until the block ends."""
        self.say(title)
        bar = Progress(
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs,"),
            TimeElapsedColumn(),
            TextColumn("elapsed,"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self.console,
            disable=not self.console.is_terminal or self.console.is_dumb_terminal,
            transient=True,
            # Drawn after every epoch only: a bar that moves by itself takes time from the epoch that it shows.
            auto_refresh=False,
        )
        with bar:
            yield RunOnScreen(self, bar, num_epochs, done)

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
    """One run's lines and its bar."""

    def __init__(self, screen: Screen, bar: Progress, num_epochs: int, done: int) -> None:
        self.screen = screen
        self.bar = bar
        self.num_epochs = num_epochs
        self.task = bar.add_task("", total=num_epochs, completed=done)

    def epoch(self, row: EpochRow) -> None:
        """Print one line for a finished epoch."""
        width = len(str(self.num_epochs))
        self.screen.say(
            f"  epoch {row.epoch:{width}}/{self.num_epochs}  "
            f"loss {row.loss_mean:.4f} +- {row.loss_std:.4f}  {row.seconds:.2f} s"
        )
        self.bar.update(self.task, completed=row.epoch, refresh=True)
