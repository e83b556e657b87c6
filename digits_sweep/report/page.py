"""Write one or more sweeps as one HTML page that needs no other file and no network.

What is drawn on it stands there as SVG. With the page's own script, and Vega from `vl_convert`, the same specifications
become figures that answer to a mouse and to keys.
"""

import json
import os
import re
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from digits_sweep.config.keys import flat
from digits_sweep.config.text import to_text
from digits_sweep.errors import escape_controls
from digits_sweep.report import critical
from digits_sweep.report.figures import figures
from digits_sweep.report.ranking import combine, has_seeds, sweep_labels, trained, with_sweep_names
from digits_sweep.report.sentences import differences, hint_sentences, how_counted, provenance, verdict
from digits_sweep.report.study import MOST_NAMED, Study, first_runs, labels
from digits_sweep.report.tables import (
    FIXED,
    answer_table,
    comparison_table,
    configuration_table,
    critical_table,
    run_table,
)
from digits_sweep.report.vega import Figure, config, layout_of, plain, printable, shades, template
from digits_sweep.report.warnings import cautions, warnings
from digits_sweep.report.words import _, cell, language
from digits_sweep.results.files import OLD_SECONDS, cache_file, keep, read_kept, remove_leftovers, replace_file

HEADING = "How long is an epoch, and when is the loss below the threshold?"
# Of more configurations the soonest are shown, and the others on demand.
MOST_ROWS, FIRST_ROWS = 12, 10
# Levels of a setting that can be switched one by one.
MOST_SWITCHES = 12
# Of more runs, and of longer ones, a page has not every number.
MOST_WITH_NUMBERS, MOST_NUMBERS = 100, 12
# What the script on the page says, with %s for what it fills in.
OF_THE_SCRIPT = (
    *("not reached", "Show rows with", "any text", "%s of %s", "Save as CSV", "Save as %s: %s", "Show", "all"),
    *("logarithmic", "across", "up", "zoom in", "zoom out", "whole", "%s: %s"),
    "%s Arrow keys read values, plus and minus zoom, 0 shows all.",
)


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
    environment.filters["number"] = lambda value: "" if value is None else to_text(value)
    environment.globals["_"] = _
    return environment.get_template("page.html.j2").render(_content(studies, folder))


def _finalized(value: Any) -> Any:
    """Write out the control characters of a text; what is marked as HTML is ready already."""
    return escape_controls(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _unbroken(text: str) -> Markup:
    """Escape `text` and mark where no line may break: within `2.04 s` and `1e-4`."""
    marked = r'<span class="unbroken">\g<0></span>'
    return Markup(re.sub(r"\d[\d.,]*(?: (?:s|min|h)\b| %|e-\d+)", marked, str(escape(escape_controls(text)))))


def _content(studies: Sequence[Study], folder: Path) -> dict[str, Any]:
    several = len(studies) > 1
    combined = combine(studies) if several else None
    study = with_sweep_names(combined) if combined else studies[0]
    alone = study.critical
    table = critical_table(alone) if alone else configuration_table(study)
    drawn = _worth_showing(study)
    script, library = template("page.js"), vega() if drawn else ""
    return {
        "sections": [
            _section(label, each, folder, several) for label, each in zip(sweep_labels(studies), studies, strict=True)
        ],
        "heading": _(critical.HEADING if alone else HEADING),
        "comparison": comparison_table(combined) if combined else None,
        "differences": differences(combined) if combined else [],
        "table_heading": _("Steps, examples and seconds") if alone else _("Every configuration"),
        "table": table,
        "first_rows": FIRST_ROWS if len(table.rows) > MOST_ROWS and not alone else None,
        "answers": answer_table(alone.answers) if alone else None,
        "details": critical.details(alone.answers, alone.branches) if alone else [],
        "how_counted": how_counted(study),
        "several_seeds": has_seeds(study) and not alone,
        "figures": drawn,
        "language": language(),
        "data": _json(_of_the_script(study, drawn)),
        "style": Markup(template("page.css")),
        "library": Markup(library),
        "script": Markup(script),
        # No other script runs, whatever a text from a file looks like to a browser.
        "hashes": [_hash(text) for text in (library, script) if text],
    }  # fmt: skip


def _worth_showing(study: Study) -> list[Figure]:
    """Leave out what compares batch sizes if there is one configuration: its mark in an empty panel says nothing."""
    drawn = figures(study)
    others = [figure for figure in drawn if figure.spec["usermeta"].get("x") != "place"]
    return others if not study.critical and study.runs["configuration"].nunique() < 2 else drawn


def _json(content: Any) -> Markup:
    """Return JSON that stands in a page: no text in it ends the element that it stands in."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))


def _hash(script: str) -> str:
    return b64encode(sha256(f"\n{script}".encode()).digest()).decode()


def vega() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script.

    `vl_convert` needs a second to put it together, so it stands in the user's cache folder afterwards.
    """
    import vl_convert

    path = cache_file(f"vega-{version('vl-convert-python')}.js")
    if path and (content := read_kept(path)):
        return content.decode()
    # An element of a page ends at the first of these, whatever a script means by it.
    bundle = vl_convert.javascript_bundle()  # type: ignore[call-arg]
    text = bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")
    if path:
        # The cache may be on a full disk.
        with suppress(OSError):
            keep(path, text.encode())
    return text


def _of_the_script(study: Study, drawn: Sequence[Figure]) -> dict[str, Any]:
    """Return what the script works with: the specifications with their tables, and which runs a legend switches."""
    runs = study.runs[study.runs["batch_size"].notna()]
    names = list(dict.fromkeys(runs["configuration"].astype(str)))
    numbers = {name: number for number, name in enumerate(names)}
    content = {
        "texts": {text: _(text) for text in OF_THE_SCRIPT},
        "language": language(),
        "configurations": names,
        "runs": {str(run): numbers[str(name)] for run, name in runs[["run_dir", "configuration"]].to_numpy()},
        "legend": _legend(study, numbers),
        "config": config(),
        "figures": {figure.name: {"spec": figure.spec} for figure in drawn},
    }
    content = printable(content)
    for figure in drawn:
        content["figures"][figure.name]["table"] = _compact(figure.table)
    return content


def _compact(table: pd.DataFrame) -> dict[str, Any]:
    """Return a table by columns; of a column with few different values each once, and where it stands."""
    columns: dict[str, Any] = {}
    for name in table:
        values = plain(table[name])
        number = {value: number for number, value in enumerate(dict.fromkeys(values))}
        if len(number) < len(values) / 4 or any(isinstance(value, str) for value in number):
            columns[str(name)] = {"of": list(number), "at": [number[value] for value in values]}
        else:
            columns[str(name)] = {"values": values}
    return {"rows": len(table), "columns": columns}


def _legend(study: Study, numbers: dict[str, int]) -> list[dict[str, Any]]:
    """Return what can be switched: every configuration if they are few, else batch sizes and the levels of factors."""
    runs = trained(study)
    # The figures of a critical batch size are of goals, not of runs.
    if runs.empty or study.critical:
        return []
    first = first_runs(runs)
    names, sizes = list(map(str, first.index)), list(map(int, first["batch_size"]))
    colors = dict(zip(sorted(set(sizes)), shades(len(set(sizes))), strict=True))
    # A title, the levels, the level of every configuration, and whether a color stands for it.
    groups: list[tuple[str, list[Any], list[Any], bool]] = [(_("batch size"), sorted(colors), sizes, True)]
    factors = layout_of(study).factors
    words = labels(list(factors))
    for name, values in factors.items():
        levels = list(dict.fromkeys(values.values()))
        if len(levels) <= MOST_SWITCHES:
            groups.append((words[name], levels, [values[each] for each in names], False))
    if len(names) <= MOST_NAMED:
        groups = [("", names, names, True)] if len(names) > 1 else []
    return [
        {
            "title": title,
            "items": [
                {
                    "label": str(level).removeprefix(f"{title} "),
                    "color": colors[sizes[of.index(level)]] if is_colored else None,
                    "of": [numbers[name] for name, own in zip(names, of, strict=True) if own == level],
                }
                for level in levels
            ],
        }
        for title, levels, of, is_colored in groups
    ]


# --- One sweep.


def _section(label: str, study: Study, folder: Path, several: bool) -> dict[str, Any]:
    """Return what a page says of one sweep alone."""
    runs = study.runs
    # What is the same in all runs stands below the table.
    fixed = [name for name in FIXED if name == "batch_size" or runs[name].nunique(dropna=False) > 1]
    configs = {name: {str(key): to_text(value) for key, value in flat(record.config)}
               for name, record in study.records.items()}  # fmt: skip
    common = dict(set.intersection(*(set(config.items()) for config in configs.values()))) if configs else {}
    first = next(iter(configs.values()), {})
    return {
        "label": label,
        "prefix": f"{label}/" if several else "",
        "name": study.folder.name,
        "verdict": verdict(study),
        "hints": hint_sentences(study),
        "cautions": cautions(study),
        "warnings": warnings(study),
        "table": run_table(runs, fixed),
        "runs": _details(study, folder, configs, common),
        "settings": [(key, value) for key, value in first.items() if key in common],
        "provenance": provenance(study),
        "summary": _link(study.folder / "summary.csv", folder),
    }  # fmt: skip


def _link(target: Path, folder: Path) -> str:
    return quote(Path(os.path.relpath(target, folder)).as_posix())


def _details(
    study: Study, folder: Path, configs: dict[str, dict[str, str]], common: dict[str, str]
) -> list[dict[str, Any]]:
    """Return what a page shows of every run, in the order of the table: its losses, evaluations and own settings."""
    tables = [dict(iter(table.groupby("run_dir"))) for table in (study.history, study.evaluations)]
    with_numbers = len(study.runs) <= MOST_WITH_NUMBERS
    runs = []
    for name in map(str, study.runs["run_dir"]):
        history, evaluations = (table.get(name) if with_numbers else None for table in tables)
        losses = tables[0][name]["loss_mean"].tolist() if name in tables[0] else []
        text = _("no epoch")
        if losses:
            text = _(
                "Loss from {first:.4f} in epoch 1 to {last:.4f} in epoch {epochs}",
                first=losses[0], last=losses[-1], epochs=len(losses),
            )  # fmt: skip
        runs.append(
            {
                "name": name,
                "link": _link(study.folder / name, folder),
                "summary": text,
                "losses": [] if history is None else _rows(history, LOSSES),
                "evaluations": [] if evaluations is None else _rows(evaluations, EVALUATIONS),
                "settings": [(key, value) for key, value in configs.get(name, {}).items() if key not in common],
            }
        )
    return runs


LOSSES = (("epoch", "d"), ("loss_mean", ".4f"), ("loss_std", ".4f"), ("seconds", ".3g"))
EVALUATIONS = (
    *(("examples", ",.0f"), ("train_loss", ".4f"), ("train_error", ".2%")),
    *(("test_loss", ".4f"), ("test_error", ".2%")),
)


def _rows(table: pd.DataFrame, forms: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Write some columns of a table, of a long one some rows. By columns: row by row it takes ten times as long."""
    last = len(table) - 1
    rows = range(len(table))
    if len(table) > MOST_NUMBERS:
        rows = sorted({round(number * last / (MOST_NUMBERS - 1)) for number in range(MOST_NUMBERS)})  # type: ignore[assignment]
    columns = [table[name].tolist() for name, form in forms]
    return [[cell(values[row], form) for values, (name, form) in zip(columns, forms, strict=True)] for row in rows]
