"""`python -m digits_sweep.trackers SWEEP`: report a sweep to trackers until standard input ends.

The first line of standard input holds the settings of every tracker, by its name, as JSON. Sweeps start this process.
"""

import json
import select
import sys
from collections.abc import Sequence
from pathlib import Path

from digits_sweep import __version__
from digits_sweep.shell import command, die_on_signal, write_line

# An epoch takes longer than this at most batch sizes, and looking takes next to nothing.
SECONDS_BETWEEN_LOOKS = 1.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Report what is new once a second, and a last time when the sweep has closed standard input."""
    with command(arguments):
        arguments = sys.argv[1:] if arguments is None else arguments
        if len(arguments) != 1 or arguments[0].startswith("-"):
            write_line(f"digits_sweep {__version__}" if "--version" in arguments else str(__doc__))
            return
        with die_on_signal():
            from digits_sweep.trackers.following import Follower
        settings = json.loads(sys.stdin.readline())
        # Every tracker imports its library.
        with die_on_signal():
            follower = Follower(Path(arguments[0]), settings, write_line)
        while not select.select([sys.stdin], [], [], SECONDS_BETWEEN_LOOKS)[0]:
            follower.follow()
        follower.follow(last=True)


if __name__ == "__main__":
    main()
