"""One or more sweeps as one HTML page that needs nothing but itself."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from digits_sweep.report.analysis.comparison import comparison, differences, labels, side_by_side
from digits_sweep.report.analysis.lesson import findings, is_the_lesson
from digits_sweep.report.analysis.provenance import provenance
from digits_sweep.report.analysis.replicates import ended, replicates
from digits_sweep.report.analysis.study import Study
from digits_sweep.report.analysis.verdict import answer
from digits_sweep.report.analysis.warnings import concerns
from digits_sweep.report.captions import gallery
from digits_sweep.report.questions import questions
from digits_sweep.report.tables import short_table
from digits_sweep.results.files import replace_file


@dataclass(frozen=True)
class Section:
    """What a page says of one sweep alone. Every row has the address of its run's folder first, seen from the page."""

    label: str
    name: str
    answer: str
    findings: list[str]
    concerns: list[str]
    header: list[str]
    rows: list[tuple[str, str, list[str]]]
    provenance: list[tuple[str, str]]
    summary: str


def write_page(path: Path, studies: Sequence[Study]) -> None:
    """Replace the page at `path`. Raises OSError where it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, page(studies, path.parent))


def page(studies: Sequence[Study], folder: Path) -> str:
    """The page's HTML; its links to the sweeps are relative to `folder`. The template escapes every text."""
    environment = Environment(
        loader=PackageLoader("digits_sweep.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = _unbroken
    return environment.get_template("page.html.j2").render(_content(studies, folder))


def _unbroken(text: str) -> Markup:
    """Escaped, and marked where no line may end: within `2.04 s` and `1e-4`."""
    marked = r'<span class="unbroken">\g<0></span>'
    return Markup(re.sub(r"\d[\d.]*(?: (?:s|min|h)\b|e-\d+)", marked, str(escape(text))))


def _content(studies: Sequence[Study], folder: Path) -> dict[str, Any]:
    named = list(zip(labels(studies), studies, strict=True))
    content: dict[str, Any] = {"sections": [_section(label, study, folder) for label, study in named]}
    if len(studies) == 1:
        runs, history, answers = studies[0].runs, studies[0].history, studies[0].answers
        content |= {"comparison": None, "differences": []}
    else:
        runs, history = side_by_side(studies)
        content |= {"comparison": comparison(runs), "differences": differences(runs)}
        runs, history = _labelled(runs), _labelled(history)
        answers = pd.concat([study.answers.rename(index=f"{label}/{{}}".format) for label, study in named])
    groups = replicates(runs)
    return content | {
        "questions": questions(runs, groups),
        "several_seeds": any(group.runs > 1 for group in groups),
        "pictures": gallery(runs, history, answers),
    }


def _labelled(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(configuration=table["sweep"] + ": " + table["configuration"].astype("string"))


def _section(label: str, study: Study, folder: Path) -> Section:
    groups, summary = replicates(study.runs), short_table(study.runs)
    return Section(
        label=label,
        name=study.folder.name,
        answer=answer(ended(study.runs), groups),
        findings=findings(ended(study.runs), groups) if is_the_lesson(study.runs) else [],
        concerns=concerns(study),
        header=summary[0],
        rows=[
            (_link(study.folder / name, folder), name, row)
            for name, row in zip(study.runs["run_dir"], summary[1:], strict=True)
        ],
        provenance=provenance(study),
        summary=_link(study.folder / "summary.csv", folder),
    )


def _link(target: Path, folder: Path) -> str:
    return quote(Path(os.path.relpath(target, folder)).as_posix())
