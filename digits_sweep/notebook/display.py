"""What a notebook shows while a sweep trains: one display that updates itself, with a bar and a line a run."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from html import escape
from typing import Any

from digits_sweep.errors import escape_controls
from digits_sweep.shell import Pace, RunOnScreen, Screen, time_left

# Of more lines the last are shown.
MOST_LINES = 100
# Epochs of a few milliseconds would make the browser busy, and the notebook large.
SECONDS_BETWEEN_UPDATES = 0.3

# Shows what is first, by its MIME types, and returns what shows later states in its place.
Display = Callable[[dict[str, str]], Callable[[dict[str, str]], None]]


def screen_for(quiet: bool) -> Screen:
    """Return the screen of a program that calls `run`: a display in a notebook, else standard output."""
    display = _display_here()
    return NotebookScreen(display) if display else Screen(quiet, in_python=True)


def _display_here() -> Display | None:
    """Return what shows HTML in the present cell; None outside of a notebook, such as in IPython on a terminal."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if getattr(shell, "kernel", None) is None:
        return None
    from IPython.display import display

    def show(content: dict[str, str]) -> Callable[[dict[str, str]], None]:
        handle = display(content, raw=True, display_id=True)
        return lambda later: handle.update(later, raw=True)

    return show


class NotebookScreen(Screen):
    """One display: how far the sweep is, and below it a line for every run that has ended.

    It has no table: the sweep that `run` returns shows itself as one.
    """

    def __init__(self, display: Display) -> None:
        super().__init__(quiet=True, in_python=True)
        self.lines: list[str] = []
        self.bar = ""
        self._display = display
        self._update: Callable[[dict[str, str]], None] | None = None
        self._updated_at = 0.0

    @property
    def is_terminal(self) -> bool:
        """Whether it has a width: a notebook has none."""
        return False

    def say(self, text: str) -> None:
        """Add a line."""
        self.lines.append(escape_controls(text))
        self.show()

    @contextmanager
    def run(self, title: str, num_epochs: int, done: int = 0, pace: Pace | None = None) -> Iterator[RunOnScreen]:
        """Show how far a run is that has `done` epochs finished, and how far its sweep."""
        shown = RunInNotebook(self, title, num_epochs, pace)
        shown.draw(done / num_epochs, f"epoch {done} of {num_epochs}")
        yield shown

    def table(
        self,
        header: Sequence[str],
        rows: Iterable[Sequence[str]],
        notes: Sequence[str] = (),
        optional: Sequence[str] = (),
    ) -> None:
        """Remove the bar: nothing trains any more."""
        self.bar = ""
        self.show()

    def show(self) -> None:
        """Bring the display up to date. One that cannot be shown stops no training."""
        self._updated_at = time.monotonic()
        content = {"text/html": self._html(), "text/plain": "\n".join(self._shown())}
        with suppress(Exception):
            if self._update:
                self._update(content)
            else:
                self._update = self._display(content)

    def show_epoch(self) -> None:
        """Bring it up to date unless that has just been done."""
        if time.monotonic() - self._updated_at >= SECONDS_BETWEEN_UPDATES:
            self.show()

    def _shown(self) -> list[str]:
        more = len(self.lines) - MOST_LINES
        return self.lines if more <= 0 else [f"({more} lines before)", *self.lines[-MOST_LINES:]]

    def _html(self) -> str:
        lines = f'<pre style="max-height: 24em; overflow: auto">{escape(chr(10).join(self._shown()))}</pre>'
        return f"<div>{self.bar}{lines if self.lines else ''}</div>"


class RunInNotebook(RunOnScreen):
    """One run's part of the display."""

    def __init__(self, screen: NotebookScreen, title: str, num_epochs: int, pace: Pace | None) -> None:
        self.notebook, self.title, self.num_epochs, self.pace = screen, title, num_epochs, pace

    def epoch(self, number: int, loss_mean: float, loss_std: float, seconds: float) -> None:
        """Show a finished epoch."""
        share, left = number / self.num_epochs, (self.num_epochs - number) * seconds
        if self.pace:
            sweep = self.pace.after(number, seconds)
            share, left = sweep.done / sweep.total, sweep.left
        self.draw(share, f"{time_left(left)}; epoch {number} of {self.num_epochs}, loss {loss_mean:.4f}")

    def draw(self, share: float, text: str) -> None:
        """Draw the bar at a share of its length, with `text` beside it."""
        bar = f'<progress value="{share:.4f}" max="1" style="width: 20em">{share:.0%}</progress>'
        self.notebook.bar = f"<p>{bar} {escape(escape_controls(text))}<br>{escape(escape_controls(self.title))}</p>"
        self.notebook.show_epoch()
