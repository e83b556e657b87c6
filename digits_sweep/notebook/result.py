"""A sweep as a value in Python: its tables, its figures and its page. A notebook shows it as a table."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from digits_sweep.config.text import expand_home
from digits_sweep.errors import escape_controls
from digits_sweep.report import ENGLISH
from digits_sweep.report.figures import figures
from digits_sweep.report.page import write_page
from digits_sweep.report.ranking import finished, ranked
from digits_sweep.report.sentences import verdict
from digits_sweep.report.study import load_study
from digits_sweep.report.tables import Cell, Table, table_of_study
from digits_sweep.report.vega import Figure
from digits_sweep.report.words import in_language
from digits_sweep.results.losses import LOSSES_FILE, read_losses
from digits_sweep.results.sweep import load_history, load_sweep, newest_sweep

if TYPE_CHECKING:
    from torch import nn

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
        # In a cell of Colab, which is a frame too, the height of a window is that of the cell.
        frame = (
            'style="width: 100%; height: 640px; border: 0; resize: vertical" sandbox="allow-scripts allow-downloads"'
        )
        return f'<iframe title="report" {frame} srcdoc="{page}"></iframe>'


@dataclass(frozen=True)
class SweepResult(os.PathLike[str]):
    """A sweep, read from its `folder` whenever it is asked for something: a sweep that was resumed has grown.

    It can be given to whatever takes the path of a folder. `language` is that of its verdict, figures and page: en or
    pt-BR. `outputs` is the folder of all results, which its page lands in.
    """

    folder: Path
    language: str = ENGLISH
    outputs: Path = field(default=Path("outputs"), compare=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("folder", "outputs"):
            object.__setattr__(self, name, Path(expand_home(os.fspath(getattr(self, name)))).absolute())

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
    def targets(self) -> pd.DataFrame:
        """Return a row a run and target, reached or not, with the columns of `targets.csv`."""
        return load_study(self.folder).targets

    @property
    def evaluations(self) -> pd.DataFrame:
        """Return a row an evaluation of every run: `run_dir` and the columns of `evaluations.csv`."""
        return load_study(self.folder).evaluations.drop(columns="configuration")

    @property
    def losses(self) -> dict[str, np.ndarray]:
        """Return the loss of every iteration, (iterations,) float32, by the name of the run.

        Raises `UnreadableRecord` if a run's file is not what its record says.
        """
        files = {name: record.files.get(LOSSES_FILE) for name, record in load_study(self.folder).records.items()}
        return {name: read_losses(self.folder / name, file) for name, file in files.items() if file}

    @property
    def best(self) -> pd.Series | None:
        """Return the row of the run that the verdict is about; None if no run reached the goal.

        It is the run of the soonest configuration that needed the fewest examples.
        """
        study = load_study(self.folder)
        order = [group for group in ranked(study) if group.reached]
        if not order or study.goal.problem:
            return None
        runs = finished(study)
        runs = runs[(runs["configuration"] == order[0].configuration) & runs["examples_to_goal"].notna()]
        first = runs.sort_values("examples_to_goal", kind="stable")["run_dir"].iloc[0]
        return self.table.set_index("run_dir", drop=False).loc[first]

    def load_model(self, run: str | None = None, model: "Callable[..., nn.Module] | None" = None) -> "nn.Module":
        """Load the trained network of a run, of the `best` one if none is named, as `load_model` of the package does.

        Raises ValueError with the names of the runs if there is no such run, or none is the best.
        """
        from digits_sweep.notebook.trained import load_model  # imports torch, which reading a sweep does not need

        table = self.table
        name = run or (None if (best := self.best) is None else best["run_dir"])
        if name not in set(table["run_dir"]):
            why = "there is no such run" if run else "no run reached the goal, name one"
            raise ValueError(f"load_model({run!r}): {why}; there are {', '.join(table['run_dir'])}")
        return load_model(self.folder / str(name), model)

    @property
    def verdict(self) -> str:
        """Return which batch size reached the goal first, how far behind the next one is, and how sure that is."""
        with in_language(self.language):
            return verdict(load_study(self.folder))

    @property
    def figures(self) -> list[str]:
        """Return the names of the figures that this sweep has something for."""
        return [each.name for each in figures(load_study(self.folder))]

    def figure(self, name: str = "loss") -> Figure:
        """Return the figure called `name`, or the first whose name starts like that; notebooks show it by themselves.

        Its `save` writes it to a file. Raises ValueError with the names that there are if there is none.
        """
        with in_language(self.language):
            drawn = figures(load_study(self.folder))
            chosen = [each for each in drawn if each.name == name]
            chosen += [each for each in drawn if each.name.startswith(name)]
            if not chosen:
                names = ", ".join(each.name for each in drawn) or "none yet, because no run has trained an epoch"
                raise ValueError(f"figure({name!r}): there is no such figure; there are {names}")
            return chosen[0]

    def in_language(self, name: str) -> "SweepResult":
        """Return the same sweep in another language: en or pt-BR."""
        return replace(self, language=name)

    def report(self, path: Path | str | None = None) -> Page:
        """Write the sweep's page, to `report/index.html` in the folder of all results if no `path` is given."""
        page = Path(path).absolute() if path else self.outputs / "report" / "index.html"
        with in_language(self.language):
            write_page(page, [load_study(self.folder)])
        return Page(page)

    def _repr_html_(self) -> str:
        """Return the verdict and the table: a row a run, of several seeds a row a configuration."""
        with in_language(self.language):
            study = load_study(self.folder)
            return f"<p>{_escaped(verdict(study))}</p>{_html(table_of_study(study))}<p>{_escaped(str(self.folder))}</p>"


def latest(outputs: Path | str = "outputs") -> SweepResult:
    """Return the sweep that was started last in the folder of all results, whether it was completed or not.

    Raises FileNotFoundError if there is none.
    """
    folder = Path(expand_home(os.fspath(outputs)))
    return SweepResult(newest_sweep(folder), outputs=folder)


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
