"""`python -m digits_sweep.status [SWEEP] [--watch]`: how every run of a sweep stands, wherever it runs."""

from digits_sweep.shell import entry_point
from digits_sweep.sweep.command import show_status


@entry_point
def main(arguments: list[str]) -> None:
    """Show a line a run, and bring `summary.csv` up to date; with `--watch` again and again until none runs."""
    show_status(str(__doc__), arguments)


if __name__ == "__main__":
    main()
