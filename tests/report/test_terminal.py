"""The tables on a terminal: as wide as that is, the name first, numbers at the right."""

import io
import re

import pytest
from rich.console import Console

from digits_sweep.report.__main__ import main
from digits_sweep.report.tables import for_terminal, runs_for_terminal
from digits_sweep.shell import Screen, print_table, without_room
from tests.many import sweep_of
from tests.studies import add_run, finished, losses_reaching

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def lesson(tmp_path):
    for size, lr, decay, epoch in (
        (100, 1e-4, 5e-4, 3),
        (20, 1e-4, 5e-4, 2),
        (5, 1e-4, 5e-4, None),
        (5, 1e-6, 5e-6, 9),
    ):
        name = f"batch_size={size},lr={lr:g},weight_decay={decay:g}"
        add_run(tmp_path, name, losses_reaching(epoch, 30), batch_size=size, lr=lr, weight_decay=decay)
    return finished(tmp_path)


def printed(table, width: int) -> list[str]:
    stream = io.StringIO()
    console = Console(file=stream, width=width, highlight=False)
    left_out = print_table(console, table.header, table.rows, table.optional)
    return [*stream.getvalue().splitlines(), *without_room(left_out)]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_every_table_fits_and_nothing_is_cut_off(lesson, width):
    table = runs_for_terminal(lesson.runs)
    lines = printed(table, width)
    assert max(map(len, lines[:-1] if width < 120 else lines)) <= width
    shown = [title for title in table.header if title in lines[0].split()]
    # What differs between the runs gives way to nothing.
    assert shown[:4] == ["run", "batch", "lr", "decay"] or width < 80
    assert {row[2] for row in table.rows} == {"1e-4", "1e-6"}
    for title in shown[1:]:
        for row in table.rows:
            assert width < 80 or any(row[table.header.index(title)] in line.split() for line in lines)
    if width == 120:
        assert shown == table.header


def test_at_eighty_columns_both_questions_are_answered(lesson):
    lines = printed(runs_for_terminal(lesson.runs), 80)
    assert {"run", "batch", "lr", "decay", "s/epoch", "epoch<1.6", "digits"} <= set(lines[0].split())
    assert any(">30" in line for line in lines)
    assert lines[-1] == "no room for: test, status (all columns are in summary.csv)"


def test_what_is_the_same_for_all_runs_gives_way_first(tmp_path):
    for size in (100, 20):
        add_run(tmp_path, f"batch_size={size}", losses_reaching(2), batch_size=size)
    lines = printed(runs_for_terminal(finished(tmp_path).runs), 70)
    assert lines[-1].startswith("no room for: decay, lr")


@pytest.mark.parametrize(("status", "is_miss"), [("completed", True), ("diverged", True), ("interrupted", False)])
def test_a_footnote_about_misses_stands_only_if_there_is_one(tmp_path, status, is_miss):
    add_run(tmp_path, ">1", losses_reaching(2))
    add_run(tmp_path, "b", losses_reaching(None), seed=1, status=status)
    notes = runs_for_terminal(finished(tmp_path).runs).notes
    assert any(note.startswith(">30") for note in notes) == is_miss


def test_numbers_stand_at_the_right(lesson):
    header, *rows = printed(runs_for_terminal(lesson.runs), 120)
    ends = [re.search(r"batch", header).end()]
    column = [row[: ends[0]].rstrip() for row in rows]
    assert [row.split()[-1] for row in column] == ["100", "20", "5", "5"]
    assert {len(row) for row in column} == {ends[0]}


def test_what_a_sign_means_is_said_below(tmp_path):
    add_run(tmp_path, "a", losses_reaching(None, 30), concurrent_runs=2)
    add_run(tmp_path, "b", [], seed=1, status="failed", error="OSError: full")
    notes = runs_for_terminal(finished(tmp_path).runs).notes
    assert notes[0].startswith(">30: not reached in 30 epochs")
    assert notes[1].startswith("*: together")
    assert notes[2] == "b: failed: OSError: full"


def test_several_seeds_are_medians_with_their_interval_below(tmp_path):
    for seed, epoch in enumerate((2, 3, None)):
        add_run(tmp_path, f"{seed}", losses_reaching(epoch), seed=seed)
    study = finished(tmp_path)
    table = for_terminal(study)
    cells = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    assert [row["digits"] for row in cells] == ["180,000", ">120,000"]
    assert [row["epoch<1.6"] for row in cells] == ["3", "2->10"]
    assert max(map(len, printed(table, 80)[:-1])) <= 80


@pytest.mark.parametrize("width", [40, 80])
def test_forty_configurations_fit_too(tmp_path, width):
    study = sweep_of(tmp_path, 24)
    assert max(map(len, printed(runs_for_terminal(study.runs), width)[:-1])) <= width


@pytest.mark.parametrize(("variables", "styled"), [({}, True), ({"TERM": "dumb"}, False)])
def test_the_report_is_a_table_on_a_terminal_and_markdown_in_a_pipe(lesson, tmp_path, monkeypatch, variables, styled):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {"COLUMNS": "80", "TERM": "xterm-256color", **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("digits_sweep.report.page.write_page", lambda *_: None)
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        monkeypatch.setattr("sys.stdout", stream)
        main([str(lesson.folder), "--page", str(tmp_path / "page.html")])
    assert bool(ESCAPES.search(terminal.getvalue())) == styled
    assert "| run" in pipe.getvalue()
    assert not ESCAPES.search(pipe.getvalue())
    assert "|" not in terminal.getvalue()


def test_no_color_is_written_if_nobody_wants_any(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    monkeypatch.setattr("sys.stdout", stream)
    Screen().table(["a"], [["1"]])
    assert set(ESCAPES.findall(stream.getvalue())) <= {"\x1b[1m", "\x1b[0m"}


@pytest.mark.parametrize("encoding", ["cp437", "cp850", "cp1252"])
def test_a_code_page_of_windows_has_every_sign_of_a_table_or_a_question_mark(monkeypatch, encoding):
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding=encoding, write_through=True))
    Screen().table(["run", "s/epoch"], [["\u4e2d=1", "5 \u00b5s"]])
    assert raw.getvalue().decode(encoding).split() == ["run", "s/epoch", "?=1", "5", "\u00b5s"]
