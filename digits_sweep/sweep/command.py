"""What `python -m digits_sweep.status` and `python -m digits_sweep.cancel` do: which sweep they name, and what is said.

Modules that take seconds to import are imported by the functions: `--help` and a mistake wait for none of them.
"""

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from digits_sweep.config.text import expand_home
from digits_sweep.errors import FolderInUse
from digits_sweep.shell import Parser, Screen, stoppable

if TYPE_CHECKING:
    from digits_sweep.results.sweep import RecordedSweep

SECONDS_BETWEEN_LOOKS = 5.0


def show_status(about: str, arguments: Sequence[str]) -> None:
    """Show a line a run, and bring `summary.csv` up to date; with `--watch` again and again until none runs."""
    parser = _parser("status", about)
    parser.add_argument("--watch", action="store_true", help="again every five seconds, until no run waits or runs")
    chosen = parser.parse_args(arguments)
    from digits_sweep.sweep import status

    sweep, outputs = _named(chosen)
    screen = Screen()
    with stoppable():
        while True:
            rows = status.statuses(sweep)
            screen.table(status.HEADER, list(status.shown(rows)), optional=("log", "where"))
            counts = Counter(row.state for row in rows)
            screen.say(", ".join(f"{count} {state}" for state, count in counts.items()))
            screen.say(status.cpu_hours(sweep))
            with suppress(FolderInUse):
                status.refresh_tables(sweep, outputs)
            if not chosen.watch or not counts.keys() & {"queued", "running"}:
                return
            time.sleep(SECONDS_BETWEEN_LOOKS)
            sweep.refresh()


def cancel_sweep(about: str, arguments: Sequence[str]) -> int:
    """Cancel the jobs of a sweep, and stop its processes of this machine; return 1 if there are none."""
    chosen = _parser("cancel", about).parse_args(arguments)
    from digits_sweep.sweep import status

    sweep, _ = _named(chosen)
    screen = Screen()
    if status.cancel(sweep, screen.say):
        return 0
    screen.say(f"{sweep.folder}: nothing of it runs or waits")
    return 1


def _parser(name: str, about: str) -> Parser:
    parser = Parser(prog=f"python -m digits_sweep.{name}", description=about)
    parser.add_argument("sweep", nargs="?", help="the sweep's folder; your newest sweep if not given")
    parser.add_argument("--outputs", default="outputs", help="the folder of all results (%(default)s)")
    return parser


def _named(chosen: argparse.Namespace) -> "tuple[RecordedSweep, Path]":
    """Return the sweep that a command line names, and the folder of all results."""
    from digits_sweep.results.sweep import newest_own_sweep, read_sweep

    outputs = Path(expand_home(chosen.outputs))
    folder = Path(expand_home(chosen.sweep)) if chosen.sweep else newest_own_sweep(outputs)
    return read_sweep(folder), outputs
