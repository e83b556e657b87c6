"""`python -m digits_sweep.report`: write one or more sweeps as a page, and print their tables in Markdown."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from digits_sweep.errors import DigitsSweepError
from digits_sweep.report.analysis.replicates import ended, replicates
from digits_sweep.report.analysis.study import Study, load_study
from digits_sweep.report.analysis.verdict import verdict
from digits_sweep.report.tables import as_markdown, questions, short_table
from digits_sweep.results.harmless import visible
from digits_sweep.results.manifest import newest_sweep

COMPARING = "Of several sweeps, the others are compared with the first."


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the sweeps, print their verdicts and tables, write the page. Exit with an error if that is not possible."""
    chosen = _parser().parse_args(arguments)
    try:
        studies = [load_study(folder) for folder in chosen.sweeps or [newest_sweep(chosen.outputs)]]
    except (DigitsSweepError, FileNotFoundError) as error:
        sys.exit(str(error))
    for study in studies:
        print(visible(_on_the_terminal(study)))
    try:
        if chosen.figure:
            _draw(studies[0], chosen.figure)
        # matplotlib takes a second to import: the tables are printed before.
        from digits_sweep.report.page import write_page

        path = chosen.page or chosen.outputs / "report" / "index.html"
        write_page(path, studies)
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}")
    print(f"page: {path}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m digits_sweep.report", description=__doc__, epilog=COMPARING)
    add = parser.add_argument
    add("sweeps", nargs="*", type=_sweep, metavar="SWEEP", help="folders of sweeps; the newest sweep if not given")
    add("--outputs", type=Path, default=Path("outputs"), help="the folder of all results (%(default)s)")
    add("--page", type=Path, help="the file to write (report/index.html in the folder of all results)")
    add("--figure", type=Path, metavar="FILE", help="also draw the first sweep's losses, as .svg or .png")
    return parser


def _sweep(text: str) -> Path:
    folder = Path(text)
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: no such folder")
    return folder


def _on_the_terminal(study: Study) -> str:
    groups = replicates(study.runs)
    several = any(group.runs > 1 for group in groups)
    rows = questions(study.runs, groups).as_text() if several else short_table(study.runs)
    return f"{study.folder}\n\n{verdict(ended(study.runs), groups)}\n\n{as_markdown(rows)}"


def _draw(study: Study, path: Path) -> None:
    from digits_sweep.report.analysis.curves import losses
    from digits_sweep.report.figures import loss_against_epoch
    from digits_sweep.report.style import as_file

    as_file(path, lambda axis: loss_against_epoch(losses(study.runs, study.history), axis))


if __name__ == "__main__":
    main()
