"""`python -m digits_sweep.which_batch_size`: a first answer in a minute to which batch size a network wants."""

from digits_sweep.search.command import run_search
from digits_sweep.shell import entry_point


@entry_point
def main(arguments: list[str]) -> int:
    """Make a quick study of the critical batch size, unless it is typed that it is not; return the exit code."""
    return run_search("critical_batch_size", str(__doc__), ["critical.quick=true", *arguments])


if __name__ == "__main__":
    main()
