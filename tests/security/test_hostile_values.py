"""A record may hold anything and have a right checksum: the report counts what can be counted and says why not."""

import base64
import csv
import hashlib
import html
import re
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from digits_sweep.results.record import EpochRow
from digits_sweep.results.sweep import load_sweep
from tests.commands import Program
from tests.records import change_record
from tests.studies import add_run, finished, losses_reaching, write_rows

CLIPBOARD = "\x1b]52;c;cm0gLXJmIH4=\x07"


def add_hostile(sweep: Path, name: str, config: dict[str, Any] | None = None, **content: Any) -> None:
    """Write a run whose record was a sound one until somebody changed it, and made its checksum fit again."""

    def change(record: dict[str, Any]) -> None:
        record.update(content)
        for key, value in (config or {}).items():
            group, _, ending = key.rpartition(".")
            (record["config"][group] if group else record["config"])[ending] = value

    add_run(sweep, name, losses_reaching(3))
    record = sweep / name / "record.json"
    record.with_name("record.json.previous").write_bytes(record.read_bytes())
    change_record(sweep / name, change)


@pytest.fixture
def sweep(program: Program):
    """A sweep with one run that nothing is wrong with."""
    folder = program.outputs / "sweeps" / "received"
    add_run(folder, "sound", losses_reaching(3))
    return folder


def reported(program: Program) -> tuple[str, str]:
    """What the report prints, and its page."""
    done = program(module="digits_sweep.report")
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout, (program.outputs / "report" / "index.html").read_text(encoding="utf-8")


UNCOUNTED = [
    ({"config": {"optimizer.lr": None}}, "lr is missing"),
    ({"config": {"optimizer.lr": 1e300}}, "lr is 1e300"),
    ({"config": {"optimizer.lr": "fast"}}, "fast"),
    ({"config": {"data.batch_size": 0}}, "batch_size is 0"),
    ({"config": {"data.batch_size": 2**62}}, "batch_size is"),
    ({"config": {"data.batch_size": 10**300}}, "record.json: "),
    ({"config": {"data.batch_size": 1e308}}, "record.json: "),
    ({"config": {"data.batch_size": 12.5}}, "record.json: "),
    ({"config": {"seed": "inf"}}, "record.json: "),
    ({"config": {"trainer.loss_threshold": "low"}}, "low"),
    ({"test_accuracy": 7.0}, "Expected `float` <= 1.0"),
    ({"concurrent_runs": []}, "Expected `int`, got `array`"),
    ({"train_samples": {"a": 1}}, "Expected `int | null`, got `object`"),
    ({"train_samples": 10**12}, "Expected `int` <= "),
    ({"test_answers": [100] * 60_000}, "test_answers are not counts"),
    ({"test_answers": [-5] * 10}, "Expected `int` >= 0"),
    ({"test_answers": [True] * 10}, "Expected `int`, got `bool`"),
    ({"config": {f"model.key_{number}": number for number in range(5_000)}}, "a configuration of 5,0"),
    ({"config": {"model.scale": "x" * 100_000}}, "model.scale has 100,000 characters"),
    ({"config": {"run_dir": "elsewhere"}}, "'run_dir' is no key"),
    ({"config": {"configuration": "the best"}}, "'configuration' is no key"),
    ({"config": {"status": ["completed"]}}, "'status' is no key"),
    ({"config": {f"model.{CLIPBOARD}": 1}}, "is no key"),
]
EPOCHS = {
    "no_time": EpochRow(1, 1.5, 0.1, 0.0, 1.0, True, 1, 1),
    "negative": EpochRow(1, 1.5, 0.1, -1.0, 1.0),
    "nan": EpochRow(1, 1.5, 0.1, float("nan"), 1.0),
    "infinite": EpochRow(1, 1.5, 0.1, float("inf"), 1.0),
    "gain": EpochRow(1, -1e308, 0.1, 1.0, 1.0),
}


@pytest.fixture(scope="module")
def uncounted(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """What is reported of a sweep that has a run for each of these, and a sound one."""
    program = Program(tmp_path_factory.mktemp("uncounted"))
    sweep = program.outputs / "sweeps" / "received"
    add_run(sweep, "sound", losses_reaching(3))
    for number, (hostile, _) in enumerate(UNCOUNTED):
        add_hostile(sweep, f"run_{number}", **hostile)
    for name, row in EPOCHS.items():
        add_hostile(sweep, name, files={"history.csv": asdict(write_rows(sweep.parent / "rows", EpochRow, [row]))})
        (sweep.parent / "rows").replace(sweep / name / "history.csv")
    finished(sweep)
    return reported(program)


@pytest.mark.sampled(8)
@pytest.mark.parametrize(("number", "reason"), list(enumerate(reason for _, reason in UNCOUNTED)))
def test_a_run_that_cannot_be_counted_is_named_with_the_reason(uncounted, number, reason):
    assert reason in failure(f"run_{number}", uncounted[1])


@pytest.mark.parametrize("name", EPOCHS)
def test_a_run_whose_epochs_cannot_be_is_named_with_the_reason(uncounted, name):
    assert "history.csv: " in failure(name, uncounted[1])


def failure(name: str, page: str) -> str:
    """The line that names a run that is not counted, alone or with others of the same reason."""
    lines = [line for line in re.findall("<li>(.*)</li>", page) if "; left out of the figures" in line]
    (line,) = (line for line in lines if re.search(rf"\b{name}\b", line.partition(": ")[0]))
    return html.unescape(line)


def test_a_run_that_is_not_counted_has_no_part_in_any_figure(uncounted):
    text, page = uncounted
    assert text.startswith("outputs/sweeps/received\n\nBatch size 20 passed 1.6 after 180,000 digits (3 s). One run")
    assert f"{len(UNCOUNTED) + len(EPOCHS)} of" not in page
    figures = "".join(re.findall("<svg.*?</svg>", page, re.DOTALL))
    assert "digits to 1.6" in figures
    assert "run_" not in figures


@pytest.mark.sampled(6)
@pytest.mark.parametrize("losses", [[2.0, float("nan")], [2.0, float("inf")], [0.0], [3e38]], ids=str)
def test_losses_of_any_size_are_drawn(sweep, program, losses):
    add_run(sweep, "diverged", losses, status="diverged", test_answers=())
    finished(sweep)
    _, page = reported(program)
    assert "diverged: the mean loss" in page
    assert "<svg" in page


NAMES = (
    *(r"$\badcmd$", "$", r"\frac{", "{}", "%s", "[/red]", "<script>alert(1)</script>", "<!--", "]]>", "&lt;"),
    *("{{ 7*7 }}", "a|b", "\U0001f600\u4e2d", "x" * 500),
)


def without_vega(page: str) -> str:
    """The page without the library on it, which nothing of a sweep is part of."""
    return re.sub("<script>\n(?!// What a page).*?</script>", "<script></script>", page, count=1, flags=re.DOTALL)


@pytest.mark.full
def test_a_name_is_text_and_nothing_else(program, sweep):
    """Neither mathtext, markup, HTML nor a template."""
    for number, name in enumerate(NAMES):
        add_run(sweep, f"other_{number}", losses_reaching(None), engine=name, config={"data.scale": name})
    finished(sweep)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text, page = reported(program)
    for name in NAMES:
        assert name.replace("|", r"\|") in text
        assert name in html.unescape(page)
    # The data, Vega and the page's own.
    assert re.findall("<script|<!--", without_vega(page)) == ["<script"] * 3
    assert "49" not in text


def test_control_characters_reach_neither_the_terminal_nor_the_page(program, sweep):
    add_run(sweep, "other", losses_reaching(None), engine=CLIPBOARD, config={"data.scale": f"\u202e{CLIPBOARD}"})
    add_run(sweep, "failed", [], status="failed", error=f"Traceback\nOSError: {CLIPBOARD}\r\x9b2J")
    finished(sweep, command=("-m", f"seed={CLIPBOARD}"), note=CLIPBOARD)
    text, page = reported(program)
    table = (sweep / "summary.csv").read_text(encoding="utf-8")
    for shown in (text, without_vega(page), table):
        assert "\\x1b]52;c;cm0gLXJmIH4=\\x07" in shown
        assert not set(shown) & {"\x1b", "\x07", "\x9b", "\r", "\u202e"}


def test_no_cell_of_the_table_is_a_formula(sweep):
    formula = '=HYPERLINK("http://example.org","open")'
    add_run(sweep, "formula", losses_reaching(None), engine=formula, device="@SUM(1)", torch_version="+1", dataset="-1")
    add_run(sweep, "failed", [], status="failed", error=f"Traceback\n{formula}")
    finished(sweep)
    assert formula in set(load_sweep(sweep)["engine"])
    with (sweep / "summary.csv").open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert f"'{formula}" in cells
    assert {cell for cell in cells if cell.startswith(("=", "+", "-", "@"))} == set()


def test_a_page_allows_its_own_script_and_nothing_from_elsewhere(program, sweep):
    finished(sweep)
    _, page = reported(program)
    library, script = re.findall("<script>(.*?)</script>", page, re.DOTALL)
    (policy,) = re.findall('http-equiv="Content-Security-Policy" content="(.*?)"', page)
    digests = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in (library, script)]
    assert policy.endswith(f"script-src 'sha256-{digests[0]}' 'sha256-{digests[1]}'")
    assert policy.startswith("default-src 'none';")
    assert "innerHTML" not in script
    assert "eval" not in script
