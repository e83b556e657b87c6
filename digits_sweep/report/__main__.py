"""`python -m digits_sweep.report`: write one or more sweeps as a page, and print their tables (Markdown in a pipe)."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from digits_sweep import __version__
from digits_sweep.config.text import expand_home
from digits_sweep.errors import escape_controls
from digits_sweep.report.language import CATALOGUES, ENGLISH, in_language, said
from digits_sweep.shell import console_on, entry_point, print_table, stoppable, without_room, write_line

if TYPE_CHECKING:
    from digits_sweep.report.analysis.study import Study

FIGURE = "also draw a figure of the first sweep's page, as .svg or .png (loss-epoch, if none is named)"
COMPARING = "Of several sweeps, the others are compared with the first."


@entry_point
def main(arguments: list[str]) -> None:
    """Read the sweeps, print their verdicts and tables, write the page. Exit with an error if that is not possible.

    Whoever reads what is printed, such as `head`, may stop: the page is written all the same.
    """
    chosen = _parser().parse_args(arguments)
    from digits_sweep.report.analysis.study import load_study
    from digits_sweep.results.sweep import newest_sweep

    with in_language(chosen.language):
        studies = [load_study(folder) for folder in chosen.sweeps or [newest_sweep(chosen.outputs)]]
        for study in studies:
            _show(study)
        path = chosen.page or chosen.outputs / "report" / "index.html"
        try:
            if chosen.figure:
                _draw(studies[0], *chosen.figure)
            # matplotlib takes a second to import: the tables are printed before.
            from digits_sweep.report.page import write_page

            with stoppable():
                write_page(path, studies)
        except OSError as error:
            name = error.filename2 or error.filename
            sys.exit(f"{name}: {error.strerror}" if name else str(error))
        write_line(f"{said('page')}: {path}")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Exit with one line, without the usage, which `--help` shows."""
        self.exit(2, f"{message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m digits_sweep.report", description=__doc__, epilog=COMPARING)
    add = parser.add_argument
    add("--version", action="version", version=f"digits_sweep {__version__}")
    add("sweeps", nargs="*", type=_sweep, metavar="SWEEP", help="folders of sweeps; the newest sweep if not given")
    add("--outputs", type=_path, default=Path("outputs"), help="the folder of all results (%(default)s)")
    add("--page", type=_file, metavar="FILE", help="the file to write (report/index.html in the folder of all results)")
    add("--language", choices=list(CATALOGUES), default=ENGLISH, help="the language of page and tables (%(default)s)")
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
    """Read `rules=rules.svg`, or a path alone: it may have an equals sign in the names of its folders."""
    name, equals, path = text.partition("=")
    is_named = equals and all(each.isalpha() or each == "-" for each in name)
    return (name, _file(path)) if is_named else ("loss-epoch", _file(text))


def _sweep(text: str) -> Path:
    folder = _path(text)
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: no such folder")
    return folder


def _show(study: "Study") -> None:
    """Print the verdict and a table: on a terminal as wide as that is, else in Markdown."""
    from digits_sweep.report.analysis.sentences.verdict import verdict
    from digits_sweep.report.analysis.statistics.replicates import ended, replicates
    from digits_sweep.report.tables.configurations import questions
    from digits_sweep.report.tables.experiments import experiments
    from digits_sweep.report.tables.table_of_runs import as_markdown, named_table
    from digits_sweep.report.tables.terminal import configurations_for_terminal, runs_for_terminal

    if study.critical:
        from digits_sweep.report.analysis.sentences.critical import branch_sentence, sentences

        found = study.critical
        lines = [*sentences(found.answers), *([branch_sentence(found.branches)] if found.branches else [])]
        write_line(escape_controls(f"{study.folder}\n\n" + "\n".join(lines) + "\n"))
        return
    groups = replicates(study.runs)
    several = any(group.runs > 1 for group in groups)
    write_line(escape_controls(f"{study.folder}\n\n{verdict(ended(study.runs), groups, study.goal)}\n"))
    console = console_on(sys.stdout)
    if console.is_terminal:
        table = configurations_for_terminal(study.runs, groups) if several else runs_for_terminal(study.runs)
        left_out = print_table(console, table.header, table.rows, table.optional)
        write_line(escape_controls("\n".join([*table.notes, *without_room(left_out), ""])))
    else:
        rows = questions(study.runs, groups, study.goal).as_text() if several else named_table(study.runs)
        write_line(escape_controls(as_markdown(rows)))
    for experiment in experiments(study):
        write_line(escape_controls(f"\n{experiment.heading}\n\n{as_markdown(experiment.table.as_text())}"))


def _draw(study: "Study", name: str, path: Path) -> None:
    from digits_sweep.report.figures.svg import as_file
    from digits_sweep.report.pictures.captions import pictures

    found = {picture.name: picture for picture in pictures(study)}
    if name not in found:
        names = ", ".join(found) or "none, because no run has an epoch"
        sys.exit(f"--figure {name}={path}: {study.folder} has no such figure; choose among {names}")
    with stoppable():
        as_file(path, found[name].panels, found[name].columns, found[name].height)


if __name__ == "__main__":
    main()
