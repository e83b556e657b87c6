"""`python -m digits_sweep.trackers SWEEP`: report a sweep to trackers until standard input ends.

The first line of standard input holds the settings of every tracker, by its name, as JSON. Sweeps start this process.
"""

import json
import select
import sys
from pathlib import Path

from digits_sweep.shell import entry_point, stoppable, write_line

# An epoch takes longer than this at most batch sizes, and looking takes next to nothing.
SECONDS_BETWEEN_LOOKS = 1.0


@entry_point
def main(arguments: list[str]) -> None:
    """Report what is new once a second, and a last time when the sweep has closed standard input."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        write_line(str(__doc__))
        return
    from digits_sweep.trackers.following import Follower

    follower = Follower(Path(arguments[0]), json.loads(sys.stdin.readline()), write_line)
    with stoppable():
        while not select.select([sys.stdin], [], [], SECONDS_BETWEEN_LOOKS)[0]:
            follower.follow()
        follower.follow(last=True)


if __name__ == "__main__":
    main()
