"""A sweep as a value in Python: its table, its history, its figures and its page. A notebook shows it as a table."""

import os
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from digits_sweep.errors import escape_controls
from digits_sweep.report.analysis.sentences.verdict import verdict
from digits_sweep.report.analysis.statistics.replicates import ended, replicates
from digits_sweep.report.analysis.study import Study, load_study
from digits_sweep.report.figures.svg import as_figure
from digits_sweep.report.language import ENGLISH, in_language
from digits_sweep.report.page import write_page
from digits_sweep.report.pictures.captions import pictures
from digits_sweep.report.tables.configurations import Cell, Table, questions
from digits_sweep.report.tables.table_of_runs import named_table
from digits_sweep.results.sweep import load_history, load_sweep, newest_sweep

SCROLLING = "max-height: 32em; overflow: auto"


@dataclass(frozen=True)
class Page(os.PathLike[str]):
    """A page that has been written: a notebook shows it inline, and elsewhere it is the path of its file."""

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        """Return the page in a frame, in which its own script runs and nothing else of the notebook can be reached."""
        page = escape(self.path.read_text(encoding="utf-8"))
        frame = 'style="width: 100%; height: 800px; border: 0" sandbox="allow-scripts allow-downloads"'
        return f'<iframe title="report" {frame} srcdoc="{page}"></iframe>'


@dataclass(frozen=True)
class SweepResult(os.PathLike[str]):
    """A sweep, read from its `folder` whenever it is asked for something: a sweep that was resumed has grown.

    It can be given to whatever takes the path of a folder. `language` is that of its verdict, figures and page: en or
    pt-BR.
    """

    folder: Path
    language: str = ENGLISH

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder).absolute())

    def __fspath__(self) -> str:
        return str(self.folder)

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def table(self) -> pd.DataFrame:
        """Return a row a run, as `load_sweep` does."""
        return load_sweep(self.folder)

    @property
    def history(self) -> pd.DataFrame:
        """Return a row an epoch of every run, as `load_history` does."""
        return load_history(self.folder)

    @property
    def verdict(self) -> str:
        """Return which batch size reached the threshold after how many examples and seconds."""
        with in_language(self.language):
            return _verdict(load_study(self.folder))

    @property
    def figures(self) -> list[str]:
        """Return the names of the figures that this sweep has something for."""
        return [picture.name for picture in pictures(load_study(self.folder))]

    def figure(self, name: str = "loss") -> Figure:
        """Draw the figure called `name`, or the first whose name starts like that, with matplotlib.

        Raises ValueError with the names that there are if there is none.
        """
        with in_language(self.language):
            drawn = {picture.name: picture for picture in pictures(load_study(self.folder))}
            match = name if name in drawn else next((known for known in drawn if known.startswith(name)), None)
            if match is None:
                names = ", ".join(drawn) or "none yet, because no run has trained an epoch"
                raise ValueError(f"figure({name!r}): there is no such figure; there are {names}")
            return as_figure(drawn[match].panels, drawn[match].columns, drawn[match].height)

    def in_language(self, name: str) -> "SweepResult":
        """Return the same sweep in another language: en or pt-BR."""
        return replace(self, language=name)

    def report(self, path: Path | str | None = None) -> Page:
        """Write the sweep's page, to `report/index.html` in the folder of all results if no `path` is given."""
        is_usual = self.folder.parent.name == "sweeps"
        outputs = self.folder.parent.parent if is_usual else self.folder.parent
        page = Path(path).absolute() if path else outputs / "report" / "index.html"
        with in_language(self.language):
            write_page(page, [load_study(self.folder)])
        return Page(page)

    def _repr_html_(self) -> str:
        """Return the verdict and the table: a row a run, of several seeds a row a configuration."""
        with in_language(self.language):
            study = load_study(self.folder)
            groups = replicates(study.runs)
            if any(group.runs > 1 for group in groups):
                table = questions(study.runs, groups, study.goal)
            else:
                header, *rows = named_table(study.runs)
                table = Table(header, [list(map(Cell, row)) for row in rows])
            return f"<p>{_escaped(_verdict(study))}</p>{_html(table)}<p>{_escaped(str(self.folder))}</p>"


def latest(outputs: Path | str = "outputs") -> SweepResult:
    """Return the sweep that was started last in the folder of all results, whether it was completed or not.

    Raises FileNotFoundError if there is none.
    """
    return SweepResult(newest_sweep(Path(outputs)))


def _verdict(study: Study) -> str:
    return verdict(ended(study.runs), replicates(study.runs), study.goal)


def _html(table: Table) -> str:
    head = "".join(f"<th>{_escaped(title)}</th>" for title in table.header)
    lines = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
    return f'<div style="{SCROLLING}"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


def _cell(cell: Cell) -> str:
    # A line may not break within 1e-4.
    note = f"<br><small>{_escaped(cell.note)}</small>" if cell.note else ""
    return f'<td style="white-space: nowrap">{_escaped(cell.text)}{note}</td>'


def _escaped(text: str) -> str:
    return escape(escape_controls(text))
