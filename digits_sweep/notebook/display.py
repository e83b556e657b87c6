"""What a notebook shows while a sweep trains: one display that updates itself, with a bar and a line a run."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from html import escape
from typing import Any

from digits_sweep.errors import escape_controls
from digits_sweep.shell import RunOnScreen, Screen, SweepProgress, time_left

# Of more lines the last are shown.
MOST_LINES = 100
# Epochs of a few milliseconds would make the browser busy, and the notebook large.
SECONDS_BETWEEN_UPDATES = 0.3


def screen_for(quiet: bool) -> Screen:
    """Return the screen of a program that calls `run`: a display in a notebook, else standard output.

    IPython on a terminal has no kernel, and shows no HTML.
    """
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if getattr(shell, "kernel", None) is None:
        return Screen(quiet, in_python=True)
    from IPython.display import display

    return NotebookScreen(display)


class NotebookScreen(Screen):
    """One display: how far the sweep is, and below it a line for every run that has ended.

    It has no table: the sweep that `run` returns shows itself as one. `display` is that of IPython.
    """

    def __init__(self, display: Callable[..., Any]) -> None:
        super().__init__(quiet=True, in_python=True)
        self.lines: list[str] = []
        self.bar = ""
        self._display = display
        self._handle: Any = None
        self._updated_at = 0.0

    def say(self, text: str) -> None:
        """Add a line."""
        self.lines.append(escape_controls(text))
        self.show()

    @contextmanager
    def run(
        self, title: str, num_epochs: int | None, done: int = 0, progress: SweepProgress | None = None
    ) -> Iterator[RunOnScreen]:
        """Show how far a run is that has `done` epochs finished, and how far its sweep."""
        shown = RunInNotebook(self, title, num_epochs, progress)
        shown.draw(done / num_epochs if num_epochs else 0.0, f"epoch {shown.position(done)}")
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
        more = len(self.lines) - MOST_LINES
        text = "\n".join(self.lines if more <= 0 else [f"({more} lines before)", *self.lines[-MOST_LINES:]])
        lines = f'<pre style="max-height: 24em; overflow: auto">{escape(text)}</pre>' if text else ""
        content = {"text/html": f"<div>{self.bar}{lines}</div>", "text/plain": text}
        with suppress(Exception):
            if self._handle:
                self._handle.update(content, raw=True)
            else:
                self._handle = self._display(content, raw=True, display_id=True)

    def show_bar(self, bar: str) -> None:
        """Show another bar, unless the display has just been brought up to date."""
        self.bar = bar
        if time.monotonic() - self._updated_at >= SECONDS_BETWEEN_UPDATES:
            self.show()


class RunInNotebook(RunOnScreen):
    """One run's part of the display."""

    def __init__(
        self, screen: NotebookScreen, title: str, num_epochs: int | None, progress: SweepProgress | None
    ) -> None:
        self.notebook, self.title, self.num_epochs, self.progress = screen, title, num_epochs, progress

    def epoch(self, number: int, loss_mean: float, loss_std: float, seconds: float) -> None:
        """Show a finished epoch."""
        if not self.num_epochs:
            self.draw(0.0, f"epoch {number}, loss {loss_mean:.4f}")
            return
        share, left = number / self.num_epochs, (self.num_epochs - number) * seconds
        if self.progress:
            sweep = self.progress.after(number, seconds)
            share, left = sweep.done / sweep.total, sweep.left
        self.draw(share, f"{time_left(left)}; epoch {self.position(number)}, loss {loss_mean:.4f}")

    def draw(self, share: float, text: str) -> None:
        """Draw the bar at a share of its length, with `text` beside it and the run's title below."""
        bar = f'<progress value="{share:.4f}" max="1" style="width: 20em">{100 * share:.0f} %</progress>'
        words = "<br>".join(escape(escape_controls(line)) for line in (text, self.title))
        self.notebook.show_bar(f"<p>{bar} {words}</p>")
