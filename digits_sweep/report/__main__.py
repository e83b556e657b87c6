"""`python -m digits_sweep.report`: the newest sweep's table in Markdown."""

import argparse
import sys
from pathlib import Path

from digits_sweep.report.table import as_markdown
from digits_sweep.results.manifest import newest_sweep
from digits_sweep.results.summary import load_sweep


def main() -> None:
    """Print the table of one sweep."""
    parser = argparse.ArgumentParser(prog="python -m digits_sweep.report", description=__doc__)
    parser.add_argument("sweep", nargs="?", type=Path, help="the folder of a sweep; the newest one if not given")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="where the sweeps are (outputs)")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw the losses too, as .svg or .png")
    chosen = parser.parse_args()
    try:
        sweep_dir = chosen.sweep or newest_sweep(chosen.outputs)
    except FileNotFoundError as error:
        sys.exit(str(error))
    print(f"{sweep_dir}\n")
    summary = load_sweep(sweep_dir)
    print(as_markdown(summary), end="")
    if chosen.figure:
        # matplotlib takes a second to import: the table alone does without.
        from digits_sweep.report.figures import draw

        draw(summary, sweep_dir, chosen.figure)


if __name__ == "__main__":
    main()
