"""`python -m digits_sweep.cancel [SWEEP]`: end what a sweep has started, its jobs and processes, and nothing else."""

from digits_sweep.shell import entry_point
from digits_sweep.sweep.command import cancel_sweep


@entry_point
def main(arguments: list[str]) -> int:
    """Cancel the jobs of a sweep, and stop its processes of this machine; return 1 if there are none."""
    return cancel_sweep(str(__doc__), arguments)


if __name__ == "__main__":
    main()
