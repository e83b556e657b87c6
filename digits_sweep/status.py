"""`python -m digits_sweep.status [SWEEP] [--watch]`: how every run of a sweep stands, wherever it runs."""

import argparse
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from digits_sweep.config.text import expand_home
from digits_sweep.errors import FolderInUse
from digits_sweep.shell import Screen, entry_point, stoppable

SECONDS_BETWEEN_LOOKS = 5.0


@entry_point
def main(arguments: list[str]) -> None:
    """Show a line a run, and bring `summary.csv` up to date; with `--watch` again and again until none runs."""
    parser = argparse.ArgumentParser(prog="python -m digits_sweep.status", description=__doc__)
    parser.add_argument("sweep", nargs="?", help="the sweep's folder; your newest sweep if not given")
    parser.add_argument("--outputs", default="outputs", help="the folder of all results (%(default)s)")
    parser.add_argument("--watch", action="store_true", help="again every five seconds, until no run waits or runs")
    chosen = parser.parse_args(arguments)
    from digits_sweep.results.sweep import newest_own_sweep, read_sweep
    from digits_sweep.sweep import status

    outputs, screen = Path(expand_home(chosen.outputs)), Screen()
    sweep = read_sweep(Path(expand_home(chosen.sweep)) if chosen.sweep else newest_own_sweep(outputs))
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


if __name__ == "__main__":
    main()
