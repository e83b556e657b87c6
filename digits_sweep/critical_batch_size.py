"""`python -m digits_sweep.critical_batch_size`: which batch size reaches a goal in how many steps, its rate tuned."""

from digits_sweep.search.command import run_search
from digits_sweep.shell import entry_point


@entry_point
def main(arguments: list[str]) -> int:
    """Tune the rate at every batch size and count steps to the goals on fresh seeds; return the exit code."""
    return run_search("critical_batch_size", str(__doc__), arguments)


if __name__ == "__main__":
    main()
