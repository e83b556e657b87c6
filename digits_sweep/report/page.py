"""Write one or more sweeps as one HTML page that needs no other file and no network."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from digits_sweep.report import critical
from digits_sweep.report.analysis.sentences.critical import answer_sentence
from digits_sweep.report.analysis.sentences.lesson import findings
from digits_sweep.report.analysis.sentences.provenance import provenance
from digits_sweep.report.analysis.sentences.verdict import how_counted, verdict
from digits_sweep.report.analysis.sentences.warnings import warnings
from digits_sweep.report.analysis.statistics.comparison import apart, combine, differences, sweep_labels
from digits_sweep.report.analysis.statistics.replicates import ended, replicates
from digits_sweep.report.analysis.study import Study
from digits_sweep.report.captions import pictures
from digits_sweep.report.table_of_runs import short_table
from digits_sweep.report.tables import comparison, questions
from digits_sweep.results.disk.files import OLD_SECONDS, remove_leftovers, replace_file
from digits_sweep.results.disk.harmless import visible

HEADING = "How long is an epoch, and when is the loss below the threshold?"


@dataclass(frozen=True)
class Section:
    """What a page says of one sweep alone; `rows` has a run's address as seen from the page, its name and its cells."""

    label: str
    name: str
    verdicts: list[str]
    findings: list[str]
    warnings: list[str]
    header: list[str]
    rows: list[tuple[str, str, list[str]]]
    provenance: list[tuple[str, str]]
    summary: str


def write_page(path: Path, studies: Sequence[Study]) -> None:
    """Replace the page at `path`. Raises OSError if it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent, OLD_SECONDS)
    replace_file(path, page(studies, path.parent))


def page(studies: Sequence[Study], folder: Path) -> str:
    """Return the HTML of the page; links to the sweeps are relative to `folder`.

    The template escapes every text, and control characters are written out.
    """
    environment = Environment(
        loader=PackageLoader("digits_sweep.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalized,
    )
    environment.filters["unbroken"] = _unbroken
    return environment.get_template("page.html.j2").render(_content(studies, folder))


def _finalized(value: Any) -> Any:
    """Write out the control characters of a text; what is marked as HTML is ready already."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _unbroken(text: str) -> Markup:
    """Escape `text` and mark where no line may break: within `2.04 s` and `1e-4`."""
    marked = r'<span class="unbroken">\g<0></span>'
    return Markup(re.sub(r"\d[\d.]*(?: (?:s|min|h)\b|e-\d+)", marked, str(escape(visible(text)))))


def _content(studies: Sequence[Study], folder: Path) -> dict[str, Any]:
    named = zip(sweep_labels(studies), studies, strict=True)
    content: dict[str, Any] = {"sections": [_section(label, study, folder) for label, study in named]}
    shared = combine(studies) if len(studies) > 1 else None
    tables = apart(shared) if shared else studies[0]
    groups = replicates(tables.runs)
    alone = studies[0].critical if len(studies) == 1 else None
    return content | {
        "heading": critical.HEADING if alone else HEADING,
        "comparison": comparison(shared) if shared else None,
        "differences": differences(shared) if shared else [],
        "questions_heading": "Steps, examples and seconds" if alone else "The two questions",
        "questions": critical.table(alone) if alone else questions(tables.runs, groups, tables.goal),
        "checks": critical.checks(alone) if alone else [],
        "how_counted": critical.HOW_COUNTED if alone else how_counted(tables.goal),
        "several_seeds": not alone and any(group.runs > 1 for group in groups),
        "pictures": list(critical.pictures(studies[0], alone)) if alone else pictures(tables),
    }


def _section(label: str, study: Study, folder: Path) -> Section:
    finished, groups, summary = ended(study.runs), replicates(study.runs), short_table(study.runs)
    return Section(
        label=label,
        name=study.folder.name,
        verdicts=list(map(answer_sentence, study.critical.answers))
        if study.critical
        else [verdict(finished, groups, study.goal)],
        findings=[] if study.critical else findings(finished, groups),
        warnings=warnings(study),
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
