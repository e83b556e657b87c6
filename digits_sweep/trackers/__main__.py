"""`python -m digits_sweep.trackers SWEEP`: tell a sweep's trackers what is in its folder, until standard input ends."""

import select
import sys
from pathlib import Path

from digits_sweep.results.sweep import read_manifest
from digits_sweep.trackers.following import Follower

# An epoch takes longer than this at most batch sizes, and looking takes next to nothing.
SECONDS_BETWEEN_LOOKS = 1.0


def main() -> None:
    """Look, tell, wait; once more when the sweep has let go of the other end of standard input, then end."""
    sweep_dir = Path(sys.argv[1])
    trackers = {name: chosen for name, chosen in read_manifest(sweep_dir).configs[0]["tracker"].items() if chosen}
    follower = Follower(sweep_dir, trackers, lambda line: print(line, flush=True))
    while not select.select([sys.stdin], [], [], SECONDS_BETWEEN_LOOKS)[0]:
        follower.follow()
    follower.follow(last=True)


if __name__ == "__main__":
    main()
