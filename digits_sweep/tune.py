"""`python -m digits_sweep.tune data.batch_size=5 tune.trials=30`: search learning rate and weight decay."""

from digits_sweep.search.command import run_search
from digits_sweep.shell import entry_point


@entry_point
def main(arguments: list[str]) -> int:
    """Run trials until the study has as many as asked for, and show the best of them; return the exit code."""
    return run_search("tune", str(__doc__), arguments)


if __name__ == "__main__":
    main()
