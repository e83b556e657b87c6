"""What a terminal shows while a sweep runs: lines, a bar with the time left, and the table; in a pipe plain lines."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from digits_sweep.results.disk.harmless import visible
from digits_sweep.results.run.history import EpochRow
from digits_sweep.terminal import console_on, print_table, without_room


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
        self.console.print(Text(visible(text)), soft_wrap=True)

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

    def epoch(self, row: EpochRow) -> None:
        """Print one line for a finished epoch."""
        width = len(str(self.num_epochs))
        if not self.screen.quiet:
            self.screen.say(
                f"  epoch {row.epoch:{width}}/{self.num_epochs}  "
                f"loss {row.loss_mean:.4f} +- {row.loss_std:.4f}  {row.seconds:.2f} s"
            )
        if self.pace:
            sweep = self.pace.after(row.epoch, row.seconds)
            shown = f"run {min(int(sweep.done) + 1, sweep.total)} of {sweep.total}, {time_left(sweep.left)}"
            self.bar.update(self.sweep, completed=sweep.done, total=sweep.total, shown=shown)
        left = time_left((self.num_epochs - row.epoch) * row.seconds)
        self.bar.update(
            self.task, completed=row.epoch, shown=f"epoch {row.epoch} of {self.num_epochs}, {left}", refresh=True
        )


def time_left(seconds: float) -> str:
    """Write a time that is left: `about 12 s left`, `about 3 min left`, `about 2.5 h left`."""
    if seconds < 100:
        return f"about {seconds:.0f} s left"
    return f"about {seconds / 60:.0f} min left" if seconds < 100 * 60 else f"about {seconds / 3600:.1f} h left"
