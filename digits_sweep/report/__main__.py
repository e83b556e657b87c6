"""`python -m digits_sweep.report`: one or more sweeps as a page, and their table in Markdown."""

import argparse
import sys
from pathlib import Path

from digits_sweep.report.analysis.replicates import ended, replicates
from digits_sweep.report.analysis.study import Study, load_study
from digits_sweep.report.analysis.verdict import answer
from digits_sweep.report.questions import questions
from digits_sweep.report.tables import as_markdown, short_table
from digits_sweep.results.sweep import newest_sweep

COMPARING = "Of several sweeps, the others are held against the first."


def main() -> None:
    """Read the sweeps, print their answers and tables, write the page."""
    chosen = _parser().parse_args()
    try:
        folders = chosen.sweeps or [newest_sweep(chosen.outputs)]
    except FileNotFoundError as error:
        sys.exit(str(error))
    studies = [load_study(folder) for folder in folders]
    for study in studies:
        print(_on_the_terminal(study))
    try:
        if chosen.figure:
            _draw(studies[0], chosen.figure)
        # matplotlib takes a second to import: the table is there before.
        from digits_sweep.report.page import write_page

        path = chosen.page or chosen.outputs / "report" / "index.html"
        write_page(path, studies)
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}")
    print(f"the page: {path}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m digits_sweep.report", description=__doc__, epilog=COMPARING)
    add = parser.add_argument
    add("sweeps", nargs="*", type=_sweep, metavar="SWEEP", help="folders of sweeps, the newest one if not given")
    add("--outputs", type=Path, default=Path("outputs"), help="where the sweeps are (%(default)s)")
    add("--page", type=Path, help="where the page lands (report/index.html in the outputs)")
    add("--figure", type=Path, metavar="FILE", help="draw the first sweep's losses too, as .svg or .png")
    return parser


def _sweep(text: str) -> Path:
    folder = Path(text)
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: no such folder")
    return folder


def _on_the_terminal(study: Study) -> str:
    groups = replicates(study.runs)
    rows = (
        questions(study.runs, groups).as_text() if any(group.runs > 1 for group in groups) else short_table(study.runs)
    )
    return f"{study.folder}\n\n{answer(ended(study.runs), groups)}\n\n{as_markdown(rows)}"


def _draw(study: Study, path: Path) -> None:
    from digits_sweep.report.figures import loss_against_epoch
    from digits_sweep.report.style import as_file

    as_file(path, lambda axis: loss_against_epoch(study.runs, study.history, axis))


if __name__ == "__main__":
    main()
