"""`python -m digits_sweep.report`: write one or more sweeps as a page, and print their tables (Markdown in a pipe)."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from digits_sweep import __version__
from digits_sweep.config.text import expand_home
from digits_sweep.errors import escape_controls
from digits_sweep.report import ENGLISH, LANGUAGES
from digits_sweep.shell import Parser, console_on, entry_point, print_table, stoppable, without_room, write_line

if TYPE_CHECKING:
    from digits_sweep.report.study import Study

ABOUT = "Write one or more sweeps as a page, and print their tables (Markdown in a pipe)."
FIGURE = "also draw a figure of the first sweep's page, as .svg, .png or .pdf (loss-epoch, if none is named)"
COMPARING = "Of several sweeps, the others are compared with the first."


@entry_point
def main(arguments: list[str]) -> None:
    """Read the sweeps, print their verdicts and tables, write the page. Exit with an error if that is not possible.

    Whoever reads what is printed, such as `head`, may stop: the page is written all the same.
    """
    chosen = _parser().parse_args(arguments)
    from digits_sweep.report.study import load_study
    from digits_sweep.report.words import _, in_language
    from digits_sweep.results.sweep import newest_sweep

    with in_language(chosen.language):
        studies = [load_study(folder) for folder in chosen.sweeps or [newest_sweep(chosen.outputs)]]
        for study in studies:
            _show(study)
        path = chosen.page or chosen.outputs / "report" / "index.html"
        try:
            if chosen.figure:
                _draw(studies[0], *chosen.figure)
            from digits_sweep.report.page import write_page

            with stoppable():
                write_page(path, studies)
        except OSError as error:
            name = error.filename2 or error.filename
            sys.exit(f"{name}: {error.strerror}" if name else str(error))
        write_line(f"{_('page')}: {path}")


def _parser() -> Parser:
    parser = Parser(prog="python -m digits_sweep.report", description=ABOUT, epilog=COMPARING)
    add = parser.add_argument
    add("--version", action="version", version=f"digits_sweep {__version__}")
    add("sweeps", nargs="*", type=_sweep, metavar="SWEEP", help="folders of sweeps; the newest sweep if not given")
    add("--outputs", type=_path, default=Path("outputs"), help="the folder of all results (%(default)s)")
    add("--page", type=_file, metavar="FILE", help="the file to write (report/index.html in the folder of all results)")
    add("--language", choices=LANGUAGES, default=ENGLISH, help="the language of page and tables (%(default)s)")
    add("--figure", type=_figure, metavar="[NAME=]FILE", help=FIGURE)
    return parser


def _path(text: str) -> Path:
    # A shell leaves ~ as it is in --outputs=~/x.
    return Path(expand_home(text))


def _file(text: str) -> Path:
    path = _path(text)
    if path.is_dir() or text.endswith("/"):
        raise argparse.ArgumentTypeError(f"{text} is a folder; name a file, such as {Path(text) / 'index.html'}")
    # A device would be replaced by a file.
    if path.exists() and not path.is_file():
        raise argparse.ArgumentTypeError(f"{text} is no file that can be replaced; name another")
    return path


def _figure(text: str) -> tuple[str, Path]:
    """Read `cost=cost.svg`, or a path alone: it may have an equals sign in the names of its folders."""
    name, equals, path = text.partition("=")
    is_named = equals and all(letter.isalnum() or letter == "-" for letter in name)
    return (name, _file(path)) if is_named else ("loss-epoch", _file(text))


def _sweep(text: str) -> Path:
    folder = _path(text)
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: no such folder")
    return folder


def _show(study: "Study") -> None:
    """Print the verdict and a table: on a terminal as wide as that is, else in Markdown."""
    from digits_sweep.report.critical import details
    from digits_sweep.report.sentences import hint_sentences, verdict
    from digits_sweep.report.tables import as_markdown, for_terminal, table_of_study
    from digits_sweep.report.warnings import cautions

    critical = study.critical
    lines = details(critical.answers, critical.branches) if critical else [*cautions(study), *hint_sentences(study)]
    write_line(escape_controls("\n".join([f"{study.folder}\n", verdict(study), *lines, ""])))
    if critical:
        return
    console = console_on(sys.stdout)
    if console.is_terminal:
        table = for_terminal(study)
        left_out = print_table(console, table.header, table.rows, table.optional)
        write_line(escape_controls("\n".join([*table.notes, *without_room(left_out), ""])))
    else:
        write_line(escape_controls(as_markdown(table_of_study(study).as_text())))


def _draw(study: "Study", name: str, path: Path) -> None:
    from digits_sweep.report.figures import figures

    drawn = {figure.name: figure for figure in figures(study)}
    if name not in drawn:
        names = ", ".join(drawn) or "none, because no run has an epoch"
        sys.exit(f"--figure {name}={path}: {study.folder} has no such figure; choose among {names}")
    try:
        with stoppable():
            drawn[name].save(path)
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
