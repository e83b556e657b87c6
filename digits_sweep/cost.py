"""`python -m digits_sweep.cost`: what a step takes on this machine at eight batch sizes, for a study on another one.

Type the network, the data and the optimizer of the study as there, such as model.hidden_size=32. It takes about
20 seconds and writes cost.json into the outputs folder. Where the study is:

  python -m digits_sweep.critical_batch_size resume=latest critical.cost=cost.json critical.price=2.5
"""

from digits_sweep.shell import entry_point, write_line


@entry_point
def main(arguments: list[str]) -> None:
    """Measure, show the table and write it to `cost.json` in the outputs folder."""
    if {"-h", "--help"} & set(arguments):
        write_line(str(__doc__).strip())
        return
    from digits_sweep.search.cost import run_cost

    run_cost(arguments)


if __name__ == "__main__":
    main()
