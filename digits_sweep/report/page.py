"""Write one or more sweeps as one HTML page that needs no other file and no network."""

import json
import os
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from digits_sweep.errors import escape_controls
from digits_sweep.report.analysis.own_curves import HIGH, WIDE, OwnCurve, common_settings, own_curves
from digits_sweep.report.analysis.panels import layout_of
from digits_sweep.report.analysis.sentences.critical import answer_sentence
from digits_sweep.report.analysis.sentences.lesson import findings
from digits_sweep.report.analysis.sentences.provenance import provenance
from digits_sweep.report.analysis.sentences.verdict import how_counted, verdict
from digits_sweep.report.analysis.sentences.warnings import warnings
from digits_sweep.report.analysis.statistics.comparison import apart, combine, differences, sweep_labels
from digits_sweep.report.analysis.statistics.ranking import ranked
from digits_sweep.report.analysis.statistics.replicates import ended, replicates
from digits_sweep.report.analysis.study import Study
from digits_sweep.report.figures.critical import sizes_of
from digits_sweep.report.language import language, said
from digits_sweep.report.pictures import critical
from digits_sweep.report.pictures.captions import pictures
from digits_sweep.report.pictures.legend import legend, legend_of_critical
from digits_sweep.report.tables.configurations import comparison, questions
from digits_sweep.report.tables.experiments import experiments
from digits_sweep.report.tables.table_of_runs import short_table
from digits_sweep.results.files import OLD_SECONDS, remove_leftovers, replace_file

HEADING = "How long is an epoch, and when is the loss below the threshold?"


# Of more configurations the soonest are shown, and the others on demand.
MOST_ROWS, FIRST_ROWS = 12, 10


# What the script on the page says, with %s for what it fills in.
OF_THE_SCRIPT = ("not reached", "Show rows with", "any text", "%s of %s", "Save as CSV", "Save as %s: %s")


@dataclass(frozen=True)
class Section:
    """What a page says of one sweep alone.

    `rows` has a run's number on the page, its name and its cells; `curves` what its details show, `links` its address
    as seen from the page, and `settings` the keys and values that all runs have in common.
    """

    label: str
    name: str
    verdicts: list[str]
    findings: list[str]
    cautions: list[str]
    warnings: list[str]
    header: list[str]
    rows: list[tuple[int, str, list[str]]]
    curves: list[OwnCurve]
    links: list[str]
    settings: list[tuple[str, str]]
    provenance: list[tuple[str, str]]
    summary: str


def write_page(path: Path, studies: Sequence[Study]) -> None:
    """Replace the page at `path`, in the present language, in which `studies` must have been loaded too.

    Raises OSError if it cannot be written.
    """
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
    environment.globals["said"] = said
    return environment.get_template("page.html.j2").render(_content(studies, folder))


def _finalized(value: Any) -> Any:
    """Write out the control characters of a text; what is marked as HTML is ready already."""
    return escape_controls(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _unbroken(text: str) -> Markup:
    """Escape `text` and mark where no line may break: within `2.04 s` and `1e-4`."""
    marked = r'<span class="unbroken">\g<0></span>'
    return Markup(re.sub(r"\d[\d.]*(?: (?:s|min|h)\b| %|e-\d+)", marked, str(escape(escape_controls(text)))))


def _content(studies: Sequence[Study], folder: Path) -> dict[str, Any]:
    sections, first = [], 0
    for label, study in zip(sweep_labels(studies), studies, strict=True):
        sections.append(_section(label, study, folder, first))
        first += len(study.runs)
    shared = combine(studies) if len(studies) > 1 else None
    tables = apart(shared) if shared else studies[0]
    groups = replicates(tables.runs)
    alone = studies[0].critical if len(studies) == 1 else None
    several = any(group.runs > 1 for group in groups)
    many = not alone and len(groups) > MOST_ROWS
    groups = ranked(tables.runs, groups) if many else groups
    script = _file("page.js")
    return {
        "sections": sections,
        "heading": said(critical.HEADING if alone else HEADING),
        "comparison": comparison(shared) if shared else None,
        "differences": differences(shared) if shared else [],
        "questions_heading": said("Steps, examples and seconds") if alone else said("The two questions"),
        "questions": critical.table(alone)
        if alone
        else questions(tables.runs, groups[:FIRST_ROWS] if many else groups, tables.goal),
        "all_questions": questions(tables.runs, groups, tables.goal) if many else None,
        "checks": critical.checks(alone) if alone else [],
        "how_counted": said(critical.HOW_COUNTED) if alone else how_counted(tables.goal),
        "several_seeds": not alone and several,
        "experiments": [] if alone or shared else list(experiments(studies[0])),
        "legend": legend_of_critical(alone, sizes_of(alone)) if alone else legend(layout_of(tables.runs), several),
        "pictures": pictures(tables),
        "language": language(),
        "texts": json.dumps({text: said(text) for text in OF_THE_SCRIPT}),
        "wide": WIDE,
        "high": HIGH,
        "style": Markup(_file("page.css")),
        "script": Markup(script),
        # No other script runs, whatever a text from a file looks like to a browser.
        "script_hash": b64encode(sha256(f"\n{script}".encode()).digest()).decode(),
    }


def _file(name: str) -> str:
    return (files("digits_sweep.report") / "templates" / name).read_text(encoding="utf-8")


def _section(label: str, study: Study, folder: Path, first: int) -> Section:
    finished, groups, summary = ended(study.runs), replicates(study.runs), short_table(study.runs)
    found = warnings(study)
    return Section(
        label=label,
        name=study.folder.name,
        verdicts=list(map(answer_sentence, study.critical.answers))
        if study.critical
        else [verdict(finished, groups, study.goal)],
        findings=[] if study.critical else findings(finished, groups),
        cautions=[str(each) for each in found if each.bears_on_verdict],
        warnings=[str(each) for each in found if not each.bears_on_verdict],
        header=summary[0],
        rows=[
            (number, str(name), row)
            for number, (name, row) in enumerate(zip(study.runs["run_dir"], summary[1:], strict=True), first)
        ],
        curves=own_curves(study, first),
        links=[_link(study.folder / str(name), folder) for name in study.runs["run_dir"]],
        settings=common_settings(study),
        provenance=provenance(study),
        summary=_link(study.folder / "summary.csv", folder),
    )


def _link(target: Path, folder: Path) -> str:
    return quote(Path(os.path.relpath(target, folder)).as_posix())
