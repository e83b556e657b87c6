"""`python -m digits_sweep.cost`: what a step takes on this machine at eight batch sizes, for a study on another one."""

from digits_sweep.shell import entry_point


@entry_point
def main(arguments: list[str]) -> None:
    """Measure, show the table and write it to `cost.json` in the outputs folder."""
    from digits_sweep.search.cost import run_cost

    run_cost(str(__doc__), arguments)


if __name__ == "__main__":
    main()
