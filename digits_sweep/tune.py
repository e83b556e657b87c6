"""`python -m digits_sweep.tune data.batch_size=5 tune.trials=30`: search learning rate and weight decay."""

from collections.abc import Sequence

from digits_sweep.search.command import run_search


def main(arguments: Sequence[str] | None = None) -> None:
    """Run trials until the study has as many as asked for, and show the best of them (`sys.argv` if None).

    Raises SystemExit with an exit code other than 0, or with a message, if that is stopped, fails or is refused.
    """
    run_search("tune", str(__doc__), arguments)


if __name__ == "__main__":
    main()
