"""`python -m digits_sweep.critical_batch_size`: which batch size reaches a goal in how many steps, its rate tuned."""

from collections.abc import Sequence

from digits_sweep.search.command import run_search


def main(arguments: Sequence[str] | None = None) -> None:
    """Tune the rate at every batch size and count steps to the goals on fresh seeds (`sys.argv` if None).

    Raises SystemExit with an exit code other than 0, or with a message, if that is stopped, fails or is refused.
    """
    run_search("critical_batch_size", str(__doc__), arguments)


if __name__ == "__main__":
    main()
