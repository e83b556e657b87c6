"""`python -m benchmarks`: a table of seconds per epoch, and of two ratios that hold on other machines too."""

import argparse

from digits_sweep import __version__
from digits_sweep.shell import entry_point, stoppable

BATCH_SIZES = (100, 20, 5)


@entry_point
def main(arguments: list[str]) -> None:
    """Measure, show the table and write it to `bench.csv`.

    Ends with SystemExit and the reason if the configuration, the data or the device cannot be used.
    """
    chosen = _parser().parse_args(arguments)
    from benchmarks.table import bench

    with stoppable():
        bench(chosen.batch_sizes, chosen.overrides)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Time every engine, an epoch each in turn, beside the lesson's loop and the bare kernels.",
    )
    parser.add_argument("--version", action="version", version=f"digits_sweep {__version__}")
    parser.add_argument("overrides", nargs="*", help="keys of the sweep, such as data.root=... or num_threads=1")
    parser.add_argument(
        "--batch-sizes", type=int, nargs="+", default=BATCH_SIZES, metavar="N", help="100 20 5 if not given"
    )
    return parser


if __name__ == "__main__":
    main()
