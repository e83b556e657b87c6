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
    from digits_sweep.results.lock import only_one
    from digits_sweep.trackers.following import Follower

    settings, sweep_dir = json.loads(sys.stdin.readline()), Path(arguments[0])
    # That of a sweep which was stopped and is resumed may still be sending: both would report the same epochs.
    with stoppable(), only_one(sweep_dir / ".trackers.lock"):
        follower = Follower(sweep_dir, settings, write_line)
        while not select.select([sys.stdin], [], [], SECONDS_BETWEEN_LOOKS)[0]:
            follower.follow()
        follower.follow(last=True)


if __name__ == "__main__":
    main()
