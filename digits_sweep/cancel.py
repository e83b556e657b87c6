"""`python -m digits_sweep.cancel [SWEEP]`: end what a sweep has started, its jobs and processes, and nothing else."""

import argparse
from pathlib import Path

from digits_sweep.config.text import expand_home
from digits_sweep.shell import Screen, entry_point


@entry_point
def main(arguments: list[str]) -> int:
    """Cancel the jobs of a sweep, and stop its processes of this machine; return 1 if there are none."""
    parser = argparse.ArgumentParser(prog="python -m digits_sweep.cancel", description=__doc__)
    parser.add_argument("sweep", nargs="?", help="the sweep's folder; your newest sweep if not given")
    parser.add_argument("--outputs", default="outputs", help="the folder of all results (%(default)s)")
    chosen = parser.parse_args(arguments)
    from digits_sweep.results.sweep import newest_own_sweep, read_sweep
    from digits_sweep.sweep import status

    outputs, screen = Path(expand_home(chosen.outputs)), Screen()
    sweep = read_sweep(Path(expand_home(chosen.sweep)) if chosen.sweep else newest_own_sweep(outputs))
    if status.cancel(sweep, screen.say):
        return 0
    screen.say(f"{sweep.folder}: nothing of it runs or waits")
    return 1


if __name__ == "__main__":
    main()
